"""All pairs of all targets, by tiles: one tile of pairs is held, never N x N x M.

For a target t and examples i, j the pair is certified when the whitened cosine

    |S_i - S_j| / (norm(R phi_t) norm(R d_ij)),     S_i = r_i (R phi_t).(R phi_i)

is proven above the threshold of `Proof.needed_cosine`. Per tile, the distances
norm(R d_ij) are bounded once and shared by all targets; per pair and target remain two
subtractions, a maximum, a square, a quotient and one comparison for each radius.

The error terms cost nothing per pair. Scores carry an interval [low_i, high_i], so a
gap is low_i - high_j. Squared distances come from the Gram matrix, whose error

    gamma(K + 8) (n_i + n_j)^2 + 2 (n_i + n_j)(e_i + e_j) + (e_i + e_j)^2
        <= p_i + p_j,   p_i = 2 (gamma(K + 8) + delta) n_i^2 + 2 (1 + 1/delta) e_i^2

(2ab <= delta a^2 + b^2 / delta, (a + b)^2 <= 2 a^2 + 2 b^2) is added to the row norms.
Pairs so close that this is not small against their distance are subtracted before they
are whitened, which keeps the digits of near duplicates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from natgeo.certify.bounds import U, gamma, norm, upward
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import combine
from natgeo.progress import Progress

TILE = 256
_CLOSE = 1e6  # close: the Gram error exceeds a millionth of the squared distance
_SMALLEST = 2.0**-480  # keeps thresholds and distances clear of underflow


@dataclass(frozen=True, eq=False)
class Scored:
    """Score intervals of some targets against all training examples.

    Attributes:
        low: lower bounds of S_t,i, [M, N].
        high: upper bounds, [M, N].
        targets: natural rows of the targets, [M, K].
    """

    low: np.ndarray
    high: np.ndarray
    targets: NaturalRows


def score_intervals(proof: Proof, targets: np.ndarray) -> Scored:
    """Encloses the weighted scores of float64 target features, [M, K]."""
    rows = proof.whiten(targets)
    scores, room = _products(rows, proof.weighted)
    return Scored(
        np.nextafter(scores - room, -np.inf), np.nextafter(scores + room, np.inf), rows
    )


def count_certified(
    proof: Proof, scored: Scored, kappas: list[float], *, progress: bool = False
) -> np.ndarray:
    """Number of certified pairs of each target at each kappa, [M, G]; one sweep.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of the targets.
        kappas: thresholds, one for each radius.
        progress: show a bar if it takes over a second.
    """
    limits = _limits(proof, scored, kappas)

    def count(tile: _Tile) -> np.ndarray:
        found = np.zeros(limits.shape, np.int64)
        for target, (low, high) in enumerate(zip(scored.low, scored.high, strict=True)):
            ratio = _ratio(tile, low, high)
            for place, limit in enumerate(limits[target]):
                found[target, place] = np.count_nonzero(ratio > limit)
        for _, gaps, distance in _close_pairs(proof, scored, tile.close):
            ratio = np.square(gaps) / distance
            found += (ratio[:, None, :] > limits[:, :, None]).sum(axis=2)
        return found

    total = np.zeros(limits.shape, np.int64)
    for found in _sweep(proof, count, progress):
        total += found
    return total


def count_above_and_below(
    proof: Proof, scored: Scored, kappa: float, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """How many examples are certified above, and below, each one, for one target.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of exactly one target.
        kappa: the threshold.
        progress: show a bar if it takes over a second.

    Returns:
        Two arrays of counts, [N] each.
    """
    limit = float(_limits(proof, scored, [kappa])[0, 0])
    low, high = scored.low[0], scored.high[0]

    def winners_and_losers(tile: _Tile) -> np.ndarray:
        rows, columns = np.nonzero(_ratio(tile, low, high) > limit)
        found = [np.stack([rows + tile.first.start, columns + tile.second.start])]
        first_wins = [low[found[0][0]] > high[found[0][1]]]
        for pairs, gaps, distance in _close_pairs(proof, scored, tile.close):
            proven = np.square(gaps[0]) / distance > limit
            found.append(pairs[proven].T)
            first_wins.append(gaps[0][proven] > 0)
        order = np.concatenate(found, axis=1)
        return np.where(np.concatenate(first_wins), order, order[::-1])

    size = proof.weighted.rows.shape[0]
    above, below = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for winners, losers in _sweep(proof, winners_and_losers, progress):
        below += np.bincount(winners, minlength=size)
        above += np.bincount(losers, minlength=size)
    return above, below


def proven_orders(
    proof: Proof, scored: Scored, pairs: np.ndarray, kappa: float
) -> np.ndarray:
    """Which of the given pairs are certified for each target, [M, P].

    1 where the first example of a pair is certified above the second, -1 where it is
    certified below, 0 where nothing is.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of the targets.
        pairs: indices of training examples, [P, 2].
        kappa: the threshold.
    """
    limits = _limits(proof, scored, [kappa])
    found = [np.zeros((len(limits), 0))]
    with np.errstate(over="ignore", invalid="ignore"):  # NaN is never certified
        for _, gaps, distance in _close_pairs(proof, scored, pairs):
            found.append(np.sign(gaps) * (np.square(gaps) / distance > limits))
    return np.concatenate(found, axis=1).astype(np.int8)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Pairs of rows `first` x rows `second`.

    `distance` holds upper bounds of squared natural distances. Pairs that do not count
    here (the diagonal, its mirror image, close pairs) are infinitely far apart, so that
    nothing is certified about them. `close` lists the close pairs, [P, 2].
    """

    first: slice
    second: slice
    distance: np.ndarray
    close: np.ndarray


def _tiles(proof: Proof) -> Iterator[Callable[[], _Tile]]:
    """Every unordered pair of training examples exactly once, as tiles to be made."""
    rows = proof.weighted
    count, width = rows.rows.shape
    # Any delta > 0 is sound; one of all rows, so that silent examples cannot spoil it.
    delta = max(U, norm(rows.errors) / norm(rows.norms))
    gram_room = upward(2 * gamma(width + 8) * rows.norms**2)
    room = upward(
        gram_room + 2 * delta * rows.norms**2 + 2 * (1 + 1 / delta) * rows.errors**2
    )
    padded = np.einsum("nk,nk->n", rows.rows, rows.rows) + room

    def make(a: slice, b: slice) -> _Tile:
        squared = rows.rows[a] @ rows.rows[b].T
        squared *= -2
        squared += padded[a, None]
        squared += padded[b]
        np.maximum(squared, _SMALLEST, out=squared)
        close = squared < _CLOSE * (gram_room[a, None] + gram_room[b])
        if a == b:
            once = np.tri(len(squared), k=-1, dtype=bool).T
            close &= once
            squared[~once] = np.inf
        squared[close] = np.inf
        return _Tile(a, b, squared, np.argwhere(close) + np.array([a.start, b.start]))

    slices = [slice(i, min(i + TILE, count)) for i in range(0, count, TILE)]
    return (partial(make, a, b) for i, a in enumerate(slices) for b in slices[i:])


def _sweep(
    proof: Proof, visit: Callable[[_Tile], np.ndarray], progress: bool
) -> Iterator[Any]:
    """Applies `visit` to every tile on all cores; yields in order, few at a time."""
    if not proof.holds:
        return
    side = -(-proof.weighted.rows.shape[0] // TILE)
    workers = os.cpu_count() or 1
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = _tiles(proof)
    bar = Progress("certifying pairs", side * (side + 1) // 2, visible=progress)

    def work(make: Callable[[], _Tile]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # NaN is never certified
            return visit(make())

    with bar, ThreadPoolExecutor(workers) as pool:
        waiting: list[Any] = []
        for make in tiles:
            waiting.append(pool.submit(work, make))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
                bar.advance()
        for future in waiting:
            yield future.result()
            bar.advance()


def _limits(proof: Proof, scored: Scored, kappas: list[float]) -> np.ndarray:
    """What (gap / distance)^2 must exceed for each target and kappa, [M, G].

    The last factor covers the roundings of the square and the quotient it is compared
    with.
    """
    needed = np.array([proof.needed_cosine(kappa) for kappa in kappas])
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = scored.targets.true_norms
        squared = upward(sizes[:, None] * needed) ** 2
        # A gap is at most this; where its square could overflow nothing is certified.
        reach = 2 * sizes * np.max(proof.weighted.true_norms)
        squared[~(reach < 2.0**500)] = np.inf
        return np.maximum(squared, _SMALLEST) * (1 + 2.0**-39)


def _ratio(tile: _Tile, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(proven gap / distance bound)^2 of each pair of a tile, 0 where no gap."""
    gap = low[tile.first, None] - high[tile.second]
    np.maximum(gap, low[tile.second] - high[tile.first, None], out=gap)
    np.maximum(gap, 0, out=gap)
    np.square(gap, out=gap)
    gap /= tile.distance
    return gap


def _products(left: NaturalRows, right: NaturalRows) -> tuple[np.ndarray, np.ndarray]:
    """All inner products of natural rows, [M, B], and bounds of their errors."""
    per_norm = upward(gamma(left.rows.shape[1]) * left.norms + left.errors)
    room = per_norm[:, None] * right.norms + left.true_norms[:, None] * right.errors
    return left.rows @ right.rows.T, upward(room)


def _close_pairs(
    proof: Proof, scored: Scored, pairs: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Close pairs in chunks: the pairs [P, 2], proven gaps [M, P], distances^2 [P].

    A gap is positive where the first of the pair is proven above the second, negative
    where it is proven below and zero for a tie.
    """
    geometry = proof.geometry
    for start in range(0, len(pairs), TILE):
        chunk = pairs[start : start + TILE]
        both = np.asarray(geometry.train.rows(chunk.ravel()), np.float64).reshape(
            *chunk.shape, -1
        )
        difference = proof.whiten(*combine(both, geometry.weights[chunk] * [1, -1]))
        products, room = _products(scored.targets, difference)
        size = np.maximum(np.nextafter(np.abs(products) - room, -np.inf), 0)
        distance = np.maximum(upward(difference.true_norms**2), _SMALLEST)
        yield chunk, np.sign(products) * size, distance
