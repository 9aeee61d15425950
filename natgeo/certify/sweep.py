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

A float32 screen (`screen.py`) settles almost every pair and target; the few that it
leaves open are compared in float64. It never changes a count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from natgeo.certify import screen
from natgeo.certify.bounds import U, gamma, norm, upward
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import combine
from natgeo.errors import UnfitEnvironmentError
from natgeo.progress import Progress

TILE = 256  # rows
COLUMNS = 1024
_LEVELS = 4  # thresholds of a tile that are held at once
_RECOUNTED = 2**18  # pairs and targets compared in float64 at once
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
    proof: Proof,
    scored: Scored,
    kappas: list[float],
    *,
    part: tuple[int, int] = (0, 1),
    kernel: screen.Kernel = screen.in_numpy,
    progress: bool = False,
) -> np.ndarray:
    """Number of certified pairs of each target at each kappa, [M, G]; one sweep.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of the targets.
        kappas: thresholds, one for each radius.
        part: (p, P) counts only the p-th of P parts; the parts add up to the whole.
        kernel: what screens; the count does not depend on it.
        progress: show a bar if it takes over a second.

    Raises:
        UnfitEnvironmentError: if the kernel is caught miscounting.
    """
    limits = _limits(proof, scored, kappas)
    sizes = scored.targets.true_norms
    scaled = screen.scaled(
        scored.low, scored.high, sizes, float(np.max(proof.weighted.true_norms))
    )

    def count(tile: _Tile) -> np.ndarray:
        found = _screened(tile, scored, scaled, limits, kernel)
        for _, gaps, distance in _close_pairs(proof, scored, tile.close):
            ratio = np.square(gaps) / distance
            found += (ratio[:, None, :] > limits[:, :, None]).sum(axis=2)
        return found

    total = np.zeros(limits.shape, np.int64)
    for found in _sweep(proof, count, progress, part):
        total += found
    return total


def _screened(
    tile: _Tile,
    scored: Scored,
    scaled: screen.Scaled,
    limits: np.ndarray,
    kernel: screen.Kernel,
) -> np.ndarray:
    """Certified pairs of a tile, [M, G]: by the screen, in float64 where it is open."""
    found = np.zeros(limits.shape, np.int64)
    error = scaled.error(tile.first, tile.second)
    fit = np.flatnonzero(screen.screenable(error))
    for target in np.setdiff1d(np.arange(len(limits)), fit):
        ratio = _ratio(tile, scored.low[target], scored.high[target])
        for place, limit in enumerate(limits[target]):
            found[target, place] = np.count_nonzero(ratio > limit)
    places = np.flatnonzero(np.isfinite(limits[fit]).any(axis=0))
    if not len(places):
        return found
    room = error[fit].max()
    left, right = scaled.values[fit, tile.first], scaled.values[fit, tile.second]
    distance = np.sqrt(tile.distance)
    reach = np.sqrt(limits[fit]) * scaled.unit[fit, None]
    for start in range(0, len(places), _LEVELS):
        some = places[start : start + _LEVELS]
        levels = np.empty((len(some), 2, *distance.shape), np.float32)
        for level, place in zip(levels, some, strict=True):
            ends = reach[np.isfinite(reach[:, place]), place]
            level[:] = screen.thresholds(
                distance * ends.max(), distance * ends.min(), room
            )
        counts = kernel(left, right, levels)
        for (sure, possible), place in zip(counts, some, strict=True):
            found[fit, place] = _settled(
                tile, scored, fit, limits[fit, place], sure, possible
            )
    return found


def _settled(
    tile: _Tile,
    scored: Scored,
    fit: np.ndarray,
    limits: np.ndarray,
    sure: np.ndarray,
    possible: np.ndarray,
) -> np.ndarray:
    """Certified pairs of each target [m], from counts [m, C] of sure and possible ones.

    Columns where the two differ are counted again in float64, and one column of each
    target in any case, which must lie between the two.
    """
    counts = np.where(np.isfinite(limits)[:, None], sure, 0).astype(np.int64)
    again = (sure != possible) & np.isfinite(limits)[:, None]
    again[:, (tile.first.start // TILE + tile.second.start) % sure.shape[1]] = True
    rows, columns = np.nonzero(again)
    step = max(1, _RECOUNTED // tile.distance.shape[0])
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        targets, at = fit[rows[some]], columns[some]
        exact = _recount(tile, scored, targets, at, limits[rows[some]])
        finite = np.isfinite(limits[rows[some]])
        wrong = (exact < sure[rows[some], at]) | (exact > possible[rows[some], at])
        if (wrong & finite).any():
            raise UnfitEnvironmentError(
                "The screening kernel contradicts float64 on this machine, so nothing "
                "was counted. Leave out `kernel` to screen with NumPy; run `natgeo "
                "doctor`."
            )
        counts[rows[some], at] = exact
    return counts.sum(axis=1)


def _recount(
    tile: _Tile,
    scored: Scored,
    targets: np.ndarray,
    columns: np.ndarray,
    limits: np.ndarray,
) -> np.ndarray:
    """Certified pairs in one column of a tile for one target, many times over, [P]."""
    low, high = scored.low[targets, tile.first], scored.high[targets, tile.first]
    second = columns + tile.second.start
    lower, upper = scored.low[targets, second], scored.high[targets, second]
    gaps = _gaps(low, high, lower[:, None], upper[:, None])
    ratio = np.square(gaps, out=gaps) / tile.distance[:, columns].T
    return np.count_nonzero(ratio > limits[:, None], axis=1)


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


def _tiles(proof: Proof) -> list[Callable[[], _Tile]]:
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
        if a.stop > b.start:
            once = np.arange(a.start, a.stop)[:, None] < np.arange(b.start, b.stop)
            close &= once
            squared[~once] = np.inf
        squared[close] = np.inf
        return _Tile(a, b, squared, np.argwhere(close) + np.array([a.start, b.start]))

    return [
        partial(make, a, b)
        for b in _cuts(count, COLUMNS)
        for a in _cuts(b.stop, TILE)
    ]


def _cuts(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _sweep(
    proof: Proof,
    visit: Callable[[_Tile], np.ndarray],
    progress: bool,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Any]:
    """Applies `visit` to the tiles on all cores; yields in order, few at a time."""
    if not proof.holds:
        return
    workers = os.cpu_count() or 1
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = _tiles(proof)[part[0] :: part[1]]
    bar = Progress("certifying pairs", len(tiles), visible=progress)

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
    a, b = tile.first, tile.second
    gaps = _gaps(low[a, None], high[a, None], low[b], high[b])
    np.square(gaps, out=gaps)
    gaps /= tile.distance
    return gaps


def _gaps(
    low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Proven gaps between the intervals [low, high] and [lower, upper], 0 where none."""
    gaps = low - upper
    np.maximum(gaps, lower - high, out=gaps)
    np.maximum(gaps, 0, out=gaps)
    return gaps


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
