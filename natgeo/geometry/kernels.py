"""The screen of the pair sweep, fused by XLA: about five times as fast as in NumPy.

`certify` knows no JAX; a caller who has it passes this kernel to `certify_rankings`.
The counts do not depend on it: see `natgeo.certify.screen`, which also says what a
kernel returns and re-checks some of it in every tile.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

_UNROLL = 8
_ROWS = 256
_COLUMNS = 1024
_TARGETS = 8


def xla(left: np.ndarray, right: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Counts per column of |left - right| above each level, int32 [G, 2, M, C].

    Args:
        left: scaled scores of the rows of a tile, float32 [M, R].
        right: of its columns, float32 [M, C].
        levels: thresholds, float32 [G, 2, R, C].
    """
    (m, rows), columns = left.shape, right.shape[1]
    # One compiled shape for (almost) all tiles; nothing exceeds an infinite level.
    targets = -m % _TARGETS
    more = (0, -rows % _ROWS), (0, -columns % _COLUMNS)
    left = np.pad(left, ((0, targets), more[0]))
    right = np.pad(right, ((0, targets), more[1]))
    if any(extra for _, extra in more):
        levels = np.pad(levels, ((0, 0), (0, 0), *more), constant_values=np.inf)
    packed = [np.asarray(_count(left.T, right, *level)) for level in levels]
    both = np.stack([np.stack([p >> 16, p & 0xFFFF]) for p in packed])
    return both[:, :, :m, :columns]


@jax.jit
def _count(
    left: jax.Array, right: jax.Array, above: jax.Array, below: jax.Array
) -> jax.Array:
    """2^16 times the count above `above`, plus that above `below`, int32 [M, C].

    A level that is above `above` is above `below` too, by construction; a NaN is not
    above either.
    """
    step = partial(_rows, left, right, above, below)
    start = jnp.zeros(right.shape, jnp.int32)
    return jax.lax.fori_loop(0, left.shape[0] // _UNROLL, step, start)


def _rows(
    left: jax.Array,
    right: jax.Array,
    above: jax.Array,
    below: jax.Array,
    index: jax.Array,
    counts: jax.Array,
) -> jax.Array:
    for offset in range(_UNROLL):
        row = _UNROLL * index + offset
        gaps = jnp.abs(left[row][:, None] - right)
        counts = counts + jnp.where(gaps > above[row][None], jnp.int32(1 << 16), 0)
        counts = counts + jnp.where(gaps > below[row][None], jnp.int32(1), 0)
    return counts
