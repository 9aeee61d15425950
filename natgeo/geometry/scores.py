"""Natural W-TRAK scores: point estimates, fast, on any device.

Scores order examples for display. No verdict is ever made from them: verdicts are
float64 with proven error terms (`natgeo.certify`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from natgeo import resources
from natgeo.errors import ArgumentError, StoreError
from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.store.manifest import npy_header, write_all
from natgeo.store.memory import little_endian
from natgeo.types import Array

_TILE_ROWS = BLOCK_ROWS
_TARGET_BYTES = 64 * 2**20  # natural targets held at once


@jax.jit
def score_tile(targets: Array, train: Array, weights: Array) -> Array:
    """Scores of a tile of training examples for all targets.

        tau[t, i] = r_i w_t . w_i              (certificates.md, section 1)

    Args:
        targets: natural features of the targets, [M, K].
        train: natural features of a tile of the training set, [T, K].
        weights: residual weights of the tile, [T].

    Returns:
        Scores, [M, T]; positive means that the example supports the target's output.
    """
    chex.assert_rank([targets, train, weights], [2, 2, 1])
    chex.assert_equal_shape_suffix([targets, train], 1)
    chex.assert_equal_shape_prefix([train, weights], 1)
    product = jnp.matmul(targets, train.T, precision=jax.lax.Precision.HIGHEST)
    return product * weights[None, :]


def scores(
    geometry: NaturalGeometry,
    targets: Any,
    *,
    weights: np.ndarray | None = None,
    out: str | os.PathLike | None = None,
) -> np.ndarray:
    """Natural W-TRAK scores of every training example for every target, [M, N].

    Computed in the dtype of the features: float64 features give float64 scores whether
    or not x64 is enabled, anything narrower gives float32. The whitening before it is
    float64 either way, so the error is about 1e-7 sqrt(SI_t SI_i) in float32, however
    ill-conditioned Q is.

    Training features are read in blocks, and targets too, so that neither has to fit
    into memory; nor have the scores if they go to a file.

    Args:
        geometry: the natural geometry of the training set.
        targets: a store or an [M, K] array of target features.
        weights: residual weights instead of the stored ones, [N].
        out: a new `.npy` file for the scores; the result is a memory map of it.

    Raises:
        ArgumentError: if the memory does not hold the scores and there is no `out`, or
            `out` exists.
        DataError: if the targets are unusable or have another K.
        StoreError: if `out` cannot be written, or the disk has too little space.
    """
    store = as_target_store(geometry, targets)
    shape = (store.shape[0], geometry.train.shape[0])
    dtype = _dtype(geometry)
    bytes_ = shape[0] * shape[1] * dtype.itemsize
    what = f"{shape[0]:,} x {shape[1]:,} scores"
    if out is not None:
        return _scores_to_file(geometry, store, weights, Path(out), shape, what)
    resources.require_memory(
        bytes_, what, "Write them to a file with out=, or score fewer targets."
    )
    made = np.empty(shape, dtype)
    for target, example, tile in score_tiles(geometry, store, weights):
        rows, columns = tile.shape
        made[target : target + rows, example : example + columns] = tile
    return made


def score_tiles(
    geometry: NaturalGeometry, targets: Any, weights: np.ndarray | None = None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields scores tile by tile: (first target, first example, scores [m, n]).

    Tiles come in order of the targets, then of the training examples, and cover each
    pair once. One block of either is held at a time.

    Raises:
        DataError: if the targets are unusable or have another K.
    """
    store = as_target_store(geometry, targets)
    dtype = _dtype(geometry)
    residuals = geometry.weights if weights is None else weights
    high = min(store.shape[0], max(1, _TARGET_BYTES // (8 * geometry.width)))
    first = 0
    for block in regular_blocks(store.blocks(_TILE_ROWS), high):
        left = geometry.whiten(block)
        for start, tile in _tiles_of(geometry, left, residuals, dtype):
            yield first, start, tile
        first += len(block)


def _tiles_of(
    geometry: NaturalGeometry,
    natural_targets: np.ndarray,
    residuals: np.ndarray,
    dtype: np.dtype,
) -> Iterator[tuple[int, np.ndarray]]:
    """Scores of all training examples for a block of targets, tile by tile."""
    wide = min(_TILE_ROWS, geometry.train.shape[0])
    start = 0
    for block in regular_blocks(geometry.natural_blocks(), wide):
        weights = residuals[start : start + len(block)]
        short = wide - len(block)  # one shape for every tile: the kernel compiles once
        with jax.enable_x64(dtype == np.float64):
            tile = score_tile(
                jnp.asarray(natural_targets, dtype),
                jnp.asarray(np.pad(block, ((0, short), (0, 0))), dtype),
                jnp.asarray(np.pad(weights, (0, short)), dtype),
            )
        yield start, np.asarray(tile)[:, : len(block)]
        start += len(block)


def _dtype(geometry: NaturalGeometry) -> np.dtype:
    wide = geometry.train.dtype == np.float64
    return np.dtype(np.float64 if wide else np.float32)


def _scores_to_file(
    geometry: NaturalGeometry,
    targets: Any,
    weights: np.ndarray | None,
    path: Path,
    shape: tuple[int, int],
    what: str,
) -> np.ndarray:
    if path.exists():
        raise ArgumentError(f"out={str(path)!r} exists. Name a new file.")
    dtype = _dtype(geometry)
    row = shape[1] * dtype.itemsize
    resources.require_disk(
        path, shape[0] * row, what, "Name another disk, or score fewer targets."
    )
    header = npy_header(dtype.name, shape)
    # Not through a map: written pages would count as memory of this process. Under a
    # temporary name: a file that is half written reads as zeros.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", buffering=0) as file:
            file.write(header)
            for target, example, tile in score_tiles(geometry, targets, weights):
                for number, line in enumerate(little_endian(tile)):
                    place = (target + number) * row + example * dtype.itemsize
                    file.seek(len(header) + place)
                    write_all(file.fileno(), line.data.cast("B"))
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except StoreError:
        raise  # of the features; it is an OSError too
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r", allow_pickle=False)
