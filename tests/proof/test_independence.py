"""The checker stands alone: no JAX, no SciPy, nothing of the code that it checks."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import natgeo
from natgeo.store.writer import DiskWriter
from tests.proof import cases

ROOM = Path(natgeo.__file__).parent / "proof"
CHECKER = (
    "checker",
    "claims",
    "counting",
    "data",
    "document",
    "exact",
    "folder",
    "forms",
    "language",
    "reading",
    "recipe",
    "rounding",
    "thresholds",
)
MAY_USE = {"natgeo.display", "natgeo.errors", "natgeo.types"}
BLOCKED = (
    "jax", "jaxlib", "flax", "optax", "chex", "scipy", "matplotlib", "rich", "jinja2",
    "natgeo.certify", "natgeo.geometry", "natgeo.features", "natgeo.report",
    "natgeo.attribution",
)  # fmt: skip

SCRIPT = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        for blocked in {blocked!r}:
            if name == blocked or name.startswith(blocked + "."):
                raise ImportError(f"{{name}} is behind the wall")

sys.meta_path.insert(0, Wall())
sys.argv = ["natgeo", "check", *sys.argv[1:]]
from natgeo.cli import main
main()
"""


def on_disk(folder: Path, store) -> Path:
    with DiskWriter(folder) as writer:
        rows = next(iter(store.blocks(10**6)))
        writer.append(rows, {name: store.column(name) for name in store.columns})
        writer.close()
    return folder


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(blocked=BLOCKED), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_where_nothing_else_can_be_imported(tmp_path):
    order = cases.rankings()
    cert = tmp_path / "cert"
    cases.complete(cert, order)
    train = on_disk(tmp_path / "train", order.geometry.train)
    targets = on_disk(tmp_path / "targets", order.targets)
    done = run(cert, "--features", train, "--targets", targets)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("valid: 17 of 17 claims hold")

    cases.edit(cert, lambda b: b["claims"][0]["threat"].update(eps=(0.99).hex()))
    done = run(cert, "--features", train)
    assert done.returncode == 1
    assert done.stdout.startswith("rejected: 16 of 17 claims hold")


def test_the_wall_stands():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT.format(blocked=BLOCKED).replace(
                "from natgeo.cli import main\nmain()", "import jax"
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "jax is behind the wall" in done.stderr


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            if node.module == "natgeo.proof":
                found.update(f"natgeo.proof.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("name", CHECKER)
def test_each_module_of_the_checker_imports_only_its_own_kind(name):
    own = {f"natgeo.proof.{other}" for other in CHECKER} | {"natgeo.proof"}
    for module in imported(ROOM / f"{name}.py"):
        package = module.split(".")[0]
        if package == "natgeo":
            assert module in own | MAY_USE or module.startswith("natgeo.store."), module
        else:
            assert package == "numpy" or package in sys.stdlib_module_names, module


def test_every_module_of_the_room_is_on_one_side():
    names = {path.stem for path in ROOM.glob("*.py")}
    assert names == {*CHECKER, "__init__", "certificate", "draft", "issue"}
