"""What featurizing takes does not grow with the data, and is asked for before."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo import resources
from natgeo.errors import ArgumentError, StoreError
from natgeo.features import estimate, tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import CountSketch, Identity, Rademacher

ROOT = Path(__file__).parents[2]
X = np.float32(np.random.default_rng(3).normal(size=(24, 5)))


def output(params, x):
    return jnp.sum(params["w"] * x)


PEAK = """
import sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from natgeo.features.featurize import featurize
from natgeo.features.projectors import CountSketch

def output(params, x):
    return jnp.sum(jnp.tanh(x * params["w"]))

def data():
    for start in range(0, int(sys.argv[1]), 1000):
        yield np.random.default_rng(start).standard_normal((1000, 16), np.float32)

params = {"w": jnp.ones(16)}
store = featurize(output, params, data(), CountSketch(256), store=sys.argv[2],
                  batch_size=256)
# Not ru_maxrss: a child begins with that of the process which started it.
lines = Path("/proc/self/status").read_text().splitlines()
print(store.shape[0], dict(line.split(":", 1) for line in lines)["VmHWM"].split()[0])
"""


def peak(rows, path):
    """Largest resident set of a process that featurizes so many rows to disk, KiB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(rows), path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    found, size = map(int, done.stdout.split())
    assert found == rows
    return size


linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from Linux"
)


@linux
def test_peak_memory_does_not_grow_with_the_data(tmp_path):
    few, many = (peak(rows, tmp_path / str(rows)) for rows in (9_000, 45_000))
    assert abs(many - few) < 0.1 * few


@linux
@pytest.mark.slow
def test_peak_memory_of_ten_and_of_two_hundred_thousand_examples(tmp_path):
    few, many = (peak(rows, tmp_path / str(rows)) for rows in (10_000, 200_000))
    print(few, many)
    assert abs(many - few) < 0.1 * few


@pytest.mark.parametrize("projector", [CountSketch(16_384), Rademacher(16_384)])
def test_sixteen_thousand_dimensions_work(tmp_path, projector):
    params = {"w": X[0]}
    store = featurize(output, params, X, projector, store=tmp_path / "s")
    assert store.shape == (24, 16_384)
    rows = featurize(output, params, X, Identity())
    # Five parameters in so many coordinates: inner products are kept to 4 / sqrt(K).
    kept, want = (np.asarray(made, np.float64) for made in (store, rows))
    norms = np.linalg.norm(want, axis=1)
    error = np.abs(kept @ kept.T - want @ want.T)
    assert (error <= 5 / np.sqrt(16_384) * np.outer(norms, norms)).all()
    # A shard is not more than 64 MiB: 1023 rows, in whole batches.
    assert (
        estimate.footprint(tasks.as_task(output), params, projector).shard_rows == 1023
    )


def disk_with(free, monkeypatch):
    class Usage:
        pass

    Usage.free = free
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: Usage)


def test_a_disk_that_is_too_small_is_refused_before_anything(tmp_path, monkeypatch):
    options = {"store": tmp_path / "new" / "s", "batch_size": 4, "shard_rows": 8}
    needed = 24 * (5 + 1) * 4  # features and outputs in float32
    disk_with(needed - 1, monkeypatch)
    with pytest.raises(StoreError) as caught:
        featurize(output, {"w": X[0]}, X, Identity(), **options)
    for part in ("24 examples x 5 features takes 576 bytes", "575 bytes free", "--dim"):
        assert part in str(caught.value)
    assert "1 bytes are missing" in str(caught.value)
    assert not (tmp_path / "new").exists()
    disk_with(needed, monkeypatch)
    assert featurize(output, {"w": X[0]}, X, Identity(), **options).shape == (24, 5)


def test_only_what_is_missing_has_to_fit(tmp_path, monkeypatch):
    options = {"store": tmp_path / "s", "batch_size": 4, "shard_rows": 8}

    def stopped():
        yield X[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        featurize(output, {"w": X[0]}, stopped(), Identity(), **options)
    options["resume"] = True
    disk_with(8 * 6 * 4 - 1, monkeypatch)
    with pytest.raises(StoreError, match="takes 192 bytes"):
        featurize(output, {"w": X[0]}, X, Identity(), **options)
    disk_with(8 * 6 * 4, monkeypatch)
    assert featurize(output, {"w": X[0]}, X, Identity(), **options).shape == (24, 5)


def test_the_estimate_is_what_is_written(tmp_path):
    def logits(params, x):
        return jnp.matmul(x, params["w"], precision="highest")

    task = tasks.classification(logits)
    params = {"w": np.float32(np.random.default_rng(1).normal(size=(5, 3)))}
    y = np.arange(24) % 3
    store = featurize(task, params, (X, y), CountSketch(9), store=tmp_path / "s")
    written = sum(
        file.stat().st_size - 128 for file in (tmp_path / "s").glob("*-*.npy")
    )
    size = estimate.footprint(task, params, CountSketch(9))
    assert size.row_bytes * 24 == written
    assert store.shape == (24, size.width)
    with jax.enable_x64(True):
        wide = {"w": np.float64(params["w"])}
        assert estimate.footprint(task, wide, CountSketch(9)).row_bytes == 2 * 11 * 4
    assert (
        estimate.footprint(tasks.restricted(task, "w"), params, Identity()).width == 15
    )


def test_features_that_memory_does_not_hold_are_refused(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 575)
    with pytest.raises(ArgumentError, match=r"576 bytes of memory, but 575.*store="):
        featurize(output, {"w": X[0]}, X, Identity())
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    assert featurize(output, {"w": X[0]}, X, Identity()).shape == (24, 5)


def test_available_memory_is_the_least_that_is_known(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("5000\n")
    used.write_text("3000\n")
    monkeypatch.setattr(resources, "_CGROUPS", ((limit, used), ("/no", "/no")))
    assert resources.available_memory() == 2000
    limit.write_text("max\n")
    assert resources.available_memory() == resources._available_by_kernel()
    monkeypatch.setattr(resources, "_available_by_kernel", lambda: None)
    assert resources.available_memory() is None


def test_sizes_in_words():
    words = [resources.size(n) for n in (0, 1023, 1024, 1.5 * 2**30, 5e16)]
    assert words == ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB", "45,474.7 TiB"]
