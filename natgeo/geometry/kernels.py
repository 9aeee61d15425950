"""The screen of the pair sweep, fused by XLA: several times as fast as in NumPy.

`certify` knows no JAX; a caller who has it passes this kernel to `certify_rankings`.
No count depends on it: `natgeo.certify.screen` says what a kernel returns and why that
is sound, and the sweep checks it in every tile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_UNROLL = 8
# Tiles are padded to these, so that there is one compiled program a sweep.
_TARGETS, _ROWS, _COLUMNS = 8, 64, 256
_RELATIVE = 2.0**-19  # h of `screen`
_WORTH_COMPILING = 2**30  # comparisons, about a second in NumPy


def for_work(examples: int, targets: int, radii: int) -> Callable | None:
    """The XLA screen if there is enough to do, else None: NumPy needs no compiler.

    Args:
        examples: training examples N, all pairs of which are counted.
        targets: targets M.
        radii: thresholds for each pair and target.
    """
    comparisons = examples * (examples - 1) // 2 * targets * radii
    return xla if comparisons >= _WORTH_COMPILING else None


def xla(left: np.ndarray, right: np.ndarray, level: Any) -> np.ndarray:
    """Sure and possible pairs per target and column, int32 [2, M, C].

    Args:
        left: scaled scores of the rows of a tile, float32 [M, R].
        right: of its columns, float32 [M, C].
        level: a `natgeo.certify.screen.Level`.
    """
    (m, rows), columns = left.shape, right.shape[1]
    more = [(0, -m % _TARGETS)], [(0, -rows % _ROWS)], [(0, -columns % _COLUMNS)]
    targets, below, beside = more
    # Nothing is above an infinite bound.
    first = _padded(level.first, below + beside, np.inf)
    arrays = [
        _padded(left, targets + below).T,
        _padded(right, targets + beside),
        _padded(level.rooms, targets),
        first,
    ]
    if level.curve is not None:
        curve = level.curve
        arrays += [
            _padded(curve.shares, below + beside),
            _padded(curve.own, targets),
            curve.root,
            _padded(curve.flat, targets),
            curve.slope,
        ]
    packed = np.asarray(_count(*arrays))[:m, :columns]
    return np.stack([packed >> 16, packed & 0xFFFF])


def _padded(
    array: np.ndarray, more: list[tuple[int, int]], value: float = 0.0
) -> np.ndarray:
    if not any(extra for _, extra in more):
        return array
    return np.pad(array, more, constant_values=value)


@jax.jit
def _count(
    left: jax.Array,
    right: jax.Array,
    rooms: jax.Array,
    first: jax.Array,
    *curve: jax.Array,
) -> jax.Array:
    """2^16 times the sure pairs plus the possible ones, int32 [M, C]."""
    roots = jnp.sqrt(first)
    if not curve:
        step = partial(_plain_rows, left, right, *_edges(roots, rooms.max()))
    else:
        step = partial(_ridge_rows, left, right, rooms[:, None], roots, *curve)
    start = jnp.zeros(right.shape, jnp.int32)
    return jax.lax.fori_loop(0, left.shape[0] // _UNROLL, step, start)


def _edges(roots: jax.Array, room: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gaps above the first are sure, gaps not above the second are not at all."""
    above = (roots + room) * jnp.float32(1 + _RELATIVE)
    return above, roots * jnp.float32(1 - _RELATIVE) - room


def _plain_rows(
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
        counts = _counted(counts, gaps > above[row][None], gaps > below[row][None])
    return counts


def _ridge_rows(
    left: jax.Array,
    right: jax.Array,
    rooms: jax.Array,
    roots: jax.Array,
    shares: jax.Array,
    own: jax.Array,
    root: jax.Array,
    flat: jax.Array,
    slope: jax.Array,
    index: jax.Array,
    counts: jax.Array,
) -> jax.Array:
    for offset in range(_UNROLL):
        row = _UNROLL * index + offset
        share = shares[row][None]
        factor = root * jnp.sqrt(share + own[:, None]) + flat[:, None] + slope * share
        edges = _edges(roots[row][None] * jnp.minimum(factor, 1), rooms)
        gaps = jnp.abs(left[row][:, None] - right)
        counts = _counted(counts, gaps > edges[0], gaps > edges[1])
    return counts


def _counted(counts: jax.Array, sure: jax.Array, possible: jax.Array) -> jax.Array:
    """A sure pair is possible too."""
    both, one = jnp.int32((1 << 16) + 1), jnp.int32(1)
    return counts + jnp.where(sure, both, jnp.where(possible, one, 0))
