"""What the README shows runs as it stands, on the digits."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

from click.testing import CliRunner

from natgeo import cli, demo

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_python_block_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = demo.load_digits(0)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        apply, params = demo.train_model(data, 0)
        names: dict[str, Any] = {
            "model": SimpleNamespace(apply=apply),
            "params": params,
            "init": lambda key: demo.Perceptron().init(key, data.x[:1]),
            "x_train": data.x[:700],
            "y_train": data.y[:700],
            "x_test": data.x_test[:20],
            "y_test": data.y_test[:20],
        }
        blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 6
    assert names["truth"].outputs.shape == (20, 20)
    assert (tmp_path / "report.html").exists()
    order, i, j = names["order"], names["i"], names["j"]
    radius = order.radius(target=17, above=i, below=j)
    found = order.refute(target=17, above=i, below=j)
    assert found.flips
    assert radius < found.cost < radius * 1.001


def test_every_verb_it_names_exists():
    block = README.partition("## Command line")[2].partition("```")[2]
    verbs = re.findall(r"^natgeo (\w+)", block.partition("```")[0], re.MULTILINE)
    assert set(verbs) == set(cli.cli.commands)
    for verb in verbs:
        shown = CliRunner().invoke(cli.cli, [verb, "--help"])
        assert shown.exit_code == 0
        # Two spaces end the command and start the words about it.
        flags = re.findall(rf"^natgeo {verb} .*?(?=  |$)", block, re.MULTILINE)
        for flag in re.findall(r"--[a-z-]+", " ".join(flags)):
            assert flag in shown.output


def test_every_module_it_draws_exists():
    rooms = README.partition("```\nnatgeo/\n")[2].partition("```")[0]
    folder = Path(cli.__file__).parent
    for name in re.findall(r"^  (\w+)/", rooms, re.MULTILINE):
        assert (folder / name).is_dir()
    for make in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        makefile = (Path(__file__).parent.parent / "Makefile").read_text()
        assert re.search(rf"^{make}:", makefile, re.MULTILINE)
