"""Tiles of pairs with proven distances: each unordered pair of examples once.

Squared distances come from the Gram matrix, whose error

    gamma(K + 8) (n_i + n_j)^2 + 2 (n_i + n_j)(e_i + e_j) + (e_i + e_j)^2
        <= p_i + p_j,   p_i = 2 (gamma(K + 8) + delta) n_i^2 + 2 (1 + 1/delta) e_i^2

(2ab <= delta a^2 + b^2 / delta, (a + b)^2 <= 2 a^2 + 2 b^2) is added to the row norms,
or subtracted for a lower bound. Pairs so close that this is not small against their
distance are left to `pairs.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from natgeo.certify import ridge as ridge_bound
from natgeo.certify.bounds import U, gamma, norm, upward
from natgeo.certify.limits import SMALLEST, Pairs
from natgeo.certify.rounding import NaturalRows, Proof

ROWS = 256
COLUMNS = 1024
_CLOSE = 1e6  # close: the Gram error exceeds a millionth of the squared distance


@dataclass(frozen=True, eq=False)
class Tile:
    """Pairs of rows `first` x rows `second`.

    `pairs` holds what their lengths depend on. Pairs that do not count here (the
    diagonal, its mirror image, close pairs) are infinitely far apart, so that nothing
    is certified about them. `close` lists the close pairs, [P, 2].
    """

    first: slice
    second: slice
    pairs: Pairs
    close: np.ndarray


def every_tile(
    proof: Proof,
    ridge: NaturalRows | None = None,
    moves: np.ndarray | None = None,
) -> list[Callable[[], Tile]]:
    """Every unordered pair of training examples exactly once, as tiles to be made.

    Args:
        proof: the rounding proof of the geometry.
        ridge: the ridge part of the weighted rows (`limits.ridge_rows`), or None.
        moves: how far each example moves (`limits.example_moves`), or None.
    """
    rows = proof.weighted
    count, width = rows.rows.shape
    gram_room = upward(2 * gamma(width + 8) * rows.norms**2)
    squares, room = _squares_and_room(rows)
    padded = squares + room
    if ridge is not None:
        fixed_squares, fixed_room = _squares_and_room(ridge)
        fixed = fixed_squares - fixed_room

    def make(a: slice, b: slice) -> Tile:
        squared = _gram_distances(rows.rows, padded, a, b)
        np.maximum(squared, SMALLEST, out=squared)
        close = squared < _CLOSE * (gram_room[a, None] + gram_room[b])
        shares = None
        if ridge is not None:
            moved = squared - np.maximum(_gram_distances(ridge.rows, fixed, a, b), 0)
            # The subtraction rounds; an overflow gives NaN, and the whole is the bound.
            moved = np.fmin(upward(np.maximum(moved, 0)), squared)
            shares = ridge_bound.pair_shares(proof.eta, squared, moved)
        if a.stop > b.start:
            once = np.arange(a.start, a.stop)[:, None] < np.arange(b.start, b.stop)
            close &= once
            squared[~once] = np.inf
        squared[close] = np.inf
        corner = np.array([a.start, b.start])
        far = None if moves is None else upward(moves[a, None] + moves[b])
        pairs = Pairs(squared, shares, far)
        return Tile(a, b, pairs, np.argwhere(close) + corner)

    return [
        partial(make, a, b) for b in _cuts(count, COLUMNS) for a in _cuts(b.stop, ROWS)
    ]


def _squares_and_room(rows: NaturalRows) -> tuple[np.ndarray, np.ndarray]:
    """Squared norms as computed, and the p_i that bound the error of a distance."""
    # Any delta > 0 is sound; one of all rows, so that silent examples cannot spoil it.
    delta = max(U, norm(rows.errors) / norm(rows.norms))
    gram_room = upward(2 * gamma(rows.rows.shape[1] + 8) * rows.norms**2)
    room = upward(
        gram_room + 2 * delta * rows.norms**2 + 2 * (1 + 1 / delta) * rows.errors**2
    )
    return np.einsum("nk,nk->n", rows.rows, rows.rows), room


def _gram_distances(
    rows: np.ndarray, squares: np.ndarray, a: slice, b: slice
) -> np.ndarray:
    distances = rows[a] @ rows[b].T
    distances *= -2
    distances += squares[a, None]
    distances += squares[b]
    return distances


def _cuts(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
