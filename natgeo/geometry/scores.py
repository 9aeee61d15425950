"""Natural W-TRAK scores: point estimates, fast, on any device.

Scores order examples for display. No verdict is ever made from them: verdicts are
float64 with proven error terms (`natgeo.certify`).
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.types import Array

_TILE_ROWS = 4096


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
    geometry: NaturalGeometry, targets: Any, *, weights: np.ndarray | None = None
) -> np.ndarray:
    """Natural W-TRAK scores of every training example for every target, [M, N].

    Computed in the dtype of the features: float64 features give float64 scores whether
    or not x64 is enabled, anything narrower gives float32. The whitening before it is
    float64 either way, so the error is about 1e-7 sqrt(SI_t SI_i) in float32, however
    ill-conditioned Q is.

    Args:
        geometry: the natural geometry of the training set.
        targets: a store or an [M, K] array of target features.
        weights: residual weights instead of the stored ones, [N].

    Raises:
        DataError: if the targets are unusable or have another K.
    """
    natural_targets = geometry.whiten(np.asarray(as_target_store(geometry, targets)))
    dtype = np.float64 if geometry.train.dtype == np.float64 else np.float32
    count = len(geometry.natural)
    residuals = geometry.weights if weights is None else weights
    out = np.empty((len(natural_targets), count), dtype)
    with jax.enable_x64(dtype == np.float64):
        left = jnp.asarray(natural_targets, dtype)
        for start in range(0, count, _TILE_ROWS):
            rows = geometry.natural[start : start + _TILE_ROWS]
            part = residuals[start : start + _TILE_ROWS]
            # One shape for every tile: the kernel compiles once.
            short = min(_TILE_ROWS, count) - len(rows)
            tile = score_tile(
                left,
                jnp.asarray(np.pad(rows, ((0, short), (0, 0))), dtype),
                jnp.asarray(np.pad(part, (0, short)), dtype),
            )
            out[:, start : start + len(rows)] = np.asarray(tile)[:, : len(rows)]
    return out
