"""How many of all pairs the float64 recipe proves for a target: the checker's sweep.

All N (N - 1) / 2 pairs are taken in tiles, in N^2 K multiplications and about twenty
passes over the pairs for each target. Distances come from the Gram matrix of the
whitened rows, with its rounding added; near duplicates, whose distance that rounding
could hide, are subtracted before they are whitened (`Recipe.proven`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo.proof.recipe import Limit, Recipe
from natgeo.proof.rounding import Rows, U, gamma, up

_TILE = 512
# Squared distances below this share of the norms go to the pair by pair proof.
_CLOSE = 2.0**-24


@dataclass(frozen=True, eq=False)
class _Gram:
    """Rows that are compared pairwise, with what their distances can lose.

    Attributes:
        rows: whitened rows with their errors, [N, K].
        squares: upper bounds of their squared norms, [N].
    """

    rows: Rows
    squares: np.ndarray

    def distances(self, a: slice, b: slice) -> np.ndarray:
        """Squared distances of the computed rows, from above."""
        lost = _room(self.rows, a, b)
        return self._middle(a, b) + lost

    def below(self, a: slice, b: slice) -> np.ndarray:
        """Squared distances of the computed rows, from below."""
        lost = _room(self.rows, a, b)
        return self._middle(a, b) - lost

    def _middle(self, a: slice, b: slice) -> np.ndarray:
        product = self.rows.rows[a] @ self.rows.rows[b].T
        return self.squares[a, None] + self.squares[b] - 2 * product


def proven_pairs(
    recipe: Recipe, target: int, kappa_square: Fraction, eps: float | None
) -> int:
    """How many unordered pairs of training examples keep their proven order.

    Args:
        recipe: the proven whitening of the training features.
        target: index of the target.
        kappa_square: the square of what a cosine must exceed.
        eps: radius of an order-2 ball, whose second bound may prove a pair too.
    """
    if not recipe.eta < 1 or kappa_square >= 1:
        return 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sweep = _Sweep(recipe, target, recipe.limit(kappa_square, eps))
        total = 0
        for tile in _tiles(len(recipe.train.norms)):
            proven, close = sweep.tile(*tile)
            total += int(proven.sum())
            total += _one_by_one(recipe, target, close, kappa_square, eps)
    return total


class _Sweep:
    """One target against all pairs."""

    def __init__(self, recipe: Recipe, target: int, limit: Limit):
        self._limit, self._recipe = limit, recipe
        rows = recipe.weighted
        self._u = recipe.target(target)
        self._train = _gram(rows)
        self._score = rows.rows @ self._u.rows[0]
        lost = gamma(rows.rows.shape[1]) * self._u.norms * rows.norms
        room = up(lost + self._u.errors * rows.reach + self._u.norms * rows.errors)
        # A score that overflowed is infinitely far from one that did not.
        self._room = np.where(self._u.norms * rows.norms < 2.0**1000, room, np.inf)
        if limit.eps is not None:
            self._fixed = _gram(recipe.fixed(rows))
            self._share = recipe.shares(self._u)

    def tile(self, a: slice, b: slice) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs of a tile are proven, and the close ones among the others."""
        rows = self._train.rows
        squared = np.maximum(self._train.distances(a, b), 0)
        reach = up(np.sqrt(squared) + rows.errors[a, None] + rows.errors[b])
        gaps = np.abs(self._score[a, None] - self._score[b])
        gaps = gaps * (1 - 2 * U) - up(self._room[a, None] + self._room[b])
        length = up(self._u.reach * reach)
        proven = gaps > up(self._limit.closed * length)
        if self._limit.eps is not None:
            needed = self._limit.needed(up(self._share + self._shares(a, b, reach)))
            proven |= gaps > up(needed * length)
        once = np.arange(a.start, a.stop)[:, None] < np.arange(b.start, b.stop)
        near = squared < _CLOSE * (
            self._train.squares[a, None] + self._train.squares[b]
        )
        close = np.argwhere(once & near & ~proven)
        return proven & once, close + np.array([a.start, b.start])

    def _shares(self, a: slice, b: slice, reach: np.ndarray) -> np.ndarray:
        rows = self._fixed.rows
        lowest = np.sqrt(np.maximum(self._fixed.below(a, b), 0)) * (1 - 2.0**-40)
        lowest = np.maximum(lowest - up(rows.errors[a, None] + rows.errors[b]), 0)
        return self._recipe.share_of(lowest, reach)


def _one_by_one(
    recipe: Recipe,
    target: int,
    pairs: np.ndarray,
    kappa_square: Fraction,
    eps: float | None,
) -> int:
    """Near duplicates, in whichever order they are proven."""
    named = np.full((len(pairs), 1), target)
    orders = (np.concatenate([named, p], axis=1) for p in (pairs, pairs[:, ::-1]))
    found = [recipe.proven(order, kappa_square, eps) for order in orders]
    return int((found[0] | found[1]).sum())


def _gram(rows: Rows) -> _Gram:
    return _Gram(rows, np.einsum("nk,nk->n", rows.rows, rows.rows))


def _room(rows: Rows, a: slice, b: slice) -> np.ndarray:
    """What x'x + y'y - 2 x'y can be off by: at most gamma(K + 8) (|x| + |y|)^2."""
    sizes = rows.norms[a, None] + rows.norms[b]
    return up(gamma(rows.rows.shape[1] + 8) * sizes * sizes)


def _tiles(count: int) -> Iterator[tuple[slice, slice]]:
    cuts = [slice(i, min(i + _TILE, count)) for i in range(0, count, _TILE)]
    for place, b in enumerate(cuts):
        for a in cuts[: place + 1]:
            yield a, b
