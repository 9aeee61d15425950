"""Passes over stores that are larger than the memory they may use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from natgeo.certify import sensitivity
from natgeo.errors import ArgumentError, StoreError
from natgeo.geometry import natural as module
from natgeo.geometry import scores as scoring
from natgeo.geometry.blocks import regular_blocks
from natgeo.geometry.natural import natural_geometry, self_influence
from natgeo.geometry.scores import score_tiles, scores
from natgeo.labels.scan import scan_labels
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from tests.geometry import oracles

ROOT = Path(__file__).parents[2]


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is kept, and reading all natural features at once is an error."""

    def refuse(self):
        raise AssertionError("the natural features were made all at once")

    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    monkeypatch.setattr(module.NaturalGeometry, "natural", property(refuse))


def on_disk(path, features, weights=None, *, rows=7):
    columns = {} if weights is None else {"weights": weights}
    with DiskWriter(path, shard_rows=rows) as writer:
        writer.append(features, columns)
        return writer.close()


@pytest.mark.parametrize("cuts", [[], [1], [4], [3, 4, 5, 9], range(1, 23)])
def test_blocks_are_cut_again(rng, cuts):
    features = rng.normal(size=(23, 2))
    blocks = list(regular_blocks(np.split(features, list(cuts)), 4))
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), features)
    assert list(regular_blocks([], 4)) == []


def test_everything_streamed_is_what_the_formulas_say(rng, tmp_path, streamed):
    features = np.float32(rng.normal(size=(61, 5)) * [1, 2, 3, 4, 5])
    weights = np.float32(rng.normal(size=61))
    store = on_disk(tmp_path / "s", features, weights)
    targets = np.float32(rng.normal(size=(4, 5)))
    geometry = natural_geometry(store, ridge=0.1)
    want = oracles.scores(features, targets, 0.1) * weights
    np.testing.assert_allclose(scores(geometry, targets), want, rtol=0, atol=1e-4)
    q = np.linalg.inv(oracles.covariance(features, 0.1))
    leverage = np.einsum("nk,kl,nl->n", features, q, features)
    np.testing.assert_allclose(self_influence(geometry), leverage, rtol=1e-9)
    found = scan_labels(store, ridge=0.1).scores["self-influence"]
    np.testing.assert_allclose(found, leverage, rtol=1e-9)

    reach = np.einsum("mk,kl,ml->m", targets, q, targets)
    slopes = 2 * np.sqrt(np.outer(reach, leverage) * leverage.max()) * np.abs(weights)
    made = sensitivity.natural(geometry, targets)
    np.testing.assert_allclose(made.slopes, slopes, rtol=1e-9)
    np.testing.assert_allclose(made.scores, want, rtol=0, atol=1e-9)
    long, wide = (
        np.linalg.norm(targets @ q, axis=1),
        np.linalg.norm(features @ q, axis=1),
    )
    most = np.linalg.norm(np.float64(features), axis=1).max()
    slopes = 2 * np.outer(long, wide) * most * np.abs(weights)
    np.testing.assert_allclose(
        sensitivity.euclidean(geometry, targets).slopes, slopes, rtol=1e-9
    )
    # Root mean squared distances of random pairs, by all of them.
    root = np.linalg.cholesky(q)
    spread = [
        np.square(rows[:, None] - rows[None]).sum()
        for rows in (features, features @ root)
    ]
    assert sensitivity.matched_radius(geometry) == pytest.approx(
        np.sqrt(spread[0] / spread[1]), rel=1e-6
    )


def test_streamed_and_kept_give_the_same_bits(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    features = np.float32(rng.normal(size=(9000, 5)))
    targets = np.float32(rng.normal(size=(4, 5)))
    disk = on_disk(tmp_path / "s", features, rows=1000)
    streaming = natural_geometry(disk, ridge=0.1)
    kept = natural_geometry(features, ridge=0.1)
    np.testing.assert_array_equal(streaming.covariance, kept.covariance)
    want = kept.natural, scores(kept, targets), self_influence(kept)
    assert "natural" in vars(kept)
    np.testing.assert_array_equal(
        np.concatenate([*streaming.natural_blocks()]), want[0]
    )
    np.testing.assert_array_equal(scores(streaming, targets), want[1])
    np.testing.assert_array_equal(self_influence(streaming), want[2])
    assert "natural" not in vars(streaming)


def test_small_natural_features_are_kept(rng):
    geometry = natural_geometry(rng.normal(size=(9, 3)))
    self_influence(geometry)
    assert "natural" in vars(geometry)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_go_to_a_file(rng, tmp_path, monkeypatch, dtype):
    features = rng.normal(size=(29, 3)).astype(dtype)
    weights = rng.normal(size=29).astype(dtype)
    geometry = natural_geometry(MemoryStore(features, {"weights": weights}))
    targets = rng.normal(size=(7, 3)).astype(dtype)
    want = scores(geometry, targets)
    monkeypatch.setattr(scoring, "_TILE_ROWS", 8)
    monkeypatch.setattr(scoring, "_TARGET_BYTES", 3 * 8 * 3)  # three targets
    tiles = list(score_tiles(geometry, targets))
    assert [(t, e, tile.shape) for t, e, tile in tiles[3:6]] == [
        (0, 24, (3, 5)), (3, 0, (3, 8)), (3, 8, (3, 8)),
    ]  # fmt: skip
    made = scores(geometry, targets, out=tmp_path / "scores.npy")
    assert isinstance(made, np.memmap)
    for found in (made, np.load(tmp_path / "scores.npy"), scores(geometry, targets)):
        assert found.dtype == want.dtype
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    assert os.listdir(tmp_path) == ["scores.npy"]


def test_a_file_of_scores_is_whole_or_not_there(rng, tmp_path, monkeypatch):
    geometry = natural_geometry(np.float32(rng.normal(size=(29, 3))))
    targets = np.float32(rng.normal(size=(2, 3)))
    real = scoring.score_tile

    def fails(*arguments):
        monkeypatch.setattr(scoring, "score_tile", stops)
        return real(*arguments)

    def stops(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "_TILE_ROWS", 8)
    monkeypatch.setattr(scoring, "score_tile", fails)
    with pytest.raises(KeyboardInterrupt):
        scores(geometry, targets, out=tmp_path / "scores.npy")
    assert os.listdir(tmp_path) == []
    (tmp_path / "there.npy").write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=r"there\.npy' exists"):
        scores(geometry, targets, out=tmp_path / "there.npy")
    with pytest.raises(StoreError, match="Cannot write"):
        scores(geometry, targets, out=tmp_path / "no" / "scores.npy")
    monkeypatch.setattr(scoring.resources.shutil, "disk_usage", lambda _: Disk)
    with pytest.raises(StoreError, match=r"2 x 29 scores takes 232 bytes on disk"):
        scores(geometry, targets, out=tmp_path / "scores.npy")


class Disk:
    free = 231


def test_what_does_not_fit_into_memory_is_refused(rng, monkeypatch):
    geometry = natural_geometry(np.float32(rng.normal(size=(29, 3))))
    monkeypatch.setattr(scoring.resources, "available_memory", lambda: 100)
    with pytest.raises(ArgumentError, match=r"2 x 29 scores takes 232 bytes.*out="):
        scores(geometry, np.ones((2, 3), np.float32))
    with pytest.raises(ArgumentError, match=r"29 x 3 natural features in float64"):
        _ = geometry.natural


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
from natgeo import DiskStore, natural_geometry, scan_labels, scores, self_influence

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) / 1024

rng = np.random.default_rng(0)
small = np.float32(rng.standard_normal((9000, 256)))
geometry = natural_geometry(small)  # everything is loaded and compiled
scores(geometry, small[:20])
before = peak()
store = DiskStore(sys.argv[1])
geometry = natural_geometry(store)
made = scores(geometry, small[:20], out=sys.argv[1] + ".npy")
leverage = self_influence(geometry)
scan_labels(store)
print(store.shape[0] * store.shape[1] * 4 / 2**20, peak() - before, leverage.mean())
print(made[:, -1].tolist())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_a_store_larger_than_the_memory_it_may_use(tmp_path):
    """400 MiB on disk, 800 MiB of natural features; whitened, scored and scanned."""
    rng = np.random.default_rng(1)
    block = np.float32(rng.standard_normal((8192, 256)))
    with DiskWriter(tmp_path / "s", shard_rows=8192) as writer:
        for number in range(50):
            writer.append(block * np.float32(1 + number / 50))
        writer.close()
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    size, grown, leverage = map(float, first.split())
    assert size == 400
    print(f"grown by {grown:.0f} MiB")
    assert grown < 120
    assert 200 < leverage < 256  # the effective dimension
    # The last column by the formula, from moments that are known in closed form.
    targets = np.float32(np.random.default_rng(0).standard_normal((9000, 256)))[:20]
    scale = np.mean([np.float64(np.float32(1 + n / 50)) ** 2 for n in range(50)])
    q = scale * (np.float64(block).T @ block) / len(block)
    q += 1e-3 * np.trace(q) / 256 * np.eye(256)
    example = np.float64(block[-1] * np.float32(1 + 49 / 50))
    want = targets @ np.linalg.solve(q, example)
    np.testing.assert_allclose(
        np.array(json.loads(last)), want, rtol=0, atol=1e-4 * np.abs(want).max()
    )
