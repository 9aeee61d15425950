"""Compiled programs kept for the next run: nothing is compiled twice, nothing leaks."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from natgeo.errors import ArgumentError
from natgeo.features.compilation import keep_compiled

ROOT = Path(__file__).parents[2]
PROJECT = """
import jax.numpy as jnp
import numpy as np

def model():
    shape = lambda n: jnp.asarray(np.random.default_rng(n).standard_normal((8, 8)))
    params = {str(n): jnp.float32(shape(n)) for n in range(12)}

    def apply(params, x):
        for leaf in params.values():
            x = jnp.tanh(x @ leaf) + jnp.exp(-x * x)
        return x

    return apply, params

def data():
    rng = np.random.default_rng(1)
    return np.float32(rng.standard_normal((8, 8))), rng.integers(0, 3, 8)
"""
# The events by which JAX counts what it compiles and what it finds.
COUNTED = """
import jax, json, sys
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
from natgeo.cli import main
try:
    main()
finally:
    counts = [sum(n.endswith(w) for n in found) for w in ("cache_hits", "cache_misses")]
    print(*counts, file=sys.stderr)
"""


def run(folder, store, *arguments):
    """Cache hits, cache misses, and processor time of one run."""
    start = os.times()
    done = subprocess.run(
        [
            *(sys.executable, "-c", COUNTED),
            *"featurize --model project:model --data project:data --dim 8".split(),
            *("--projector", "rademacher", "--out", store, *arguments),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    end = os.times()
    spent = end.children_user - start.children_user
    hits, misses = done.stderr.splitlines()[-1].split()
    return int(hits), int(misses), spent


def test_the_second_run_compiles_nothing(tmp_path):
    (tmp_path / "project.py").write_text(PROJECT)
    assert run(tmp_path, "plain")[:2] == (0, 0)  # only where it is asked for
    _, misses, first = run(tmp_path, "one", "--cache", "kept")
    assert misses > 0
    kept = sorted(p.name for p in (tmp_path / "kept").iterdir() if "-cache" in p.name)
    assert kept
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    hits, misses, second = run(tmp_path, "two", "--cache", "kept")
    assert (hits > 0, misses) == (True, 0)
    assert kept == sorted(
        p.name for p in (tmp_path / "kept").iterdir() if "-cache" in p.name
    )
    assert second < first
    # What came from the cache computes the same numbers.
    for file in (tmp_path / "plain").glob("*.npy"):
        for other in ("one", "two"):
            assert (tmp_path / other / file.name).read_bytes() == file.read_bytes()


def test_a_folder_that_is_not_private_is_refused(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for folder, words in (
        ("open", "written by others"),
        ("store/kept", "inside the store"),
        ("new/kept", "inside the store"),
        ("new", "inside the store"),
        ("file", "exists"),
    ):
        with pytest.raises(ArgumentError, match=words):
            keep_compiled(tmp_path / folder, tmp_path / "new")
    assert jax.config.jax_compilation_cache_dir == before
    assert not (tmp_path / "new").exists()
