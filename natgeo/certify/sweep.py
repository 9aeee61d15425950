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
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from natgeo.certify import ridge as ridge_bound
from natgeo.certify import screen
from natgeo.certify.bounds import U, gamma, norm, upward
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import combine
from natgeo.progress import Progress

TILE = 256  # rows
COLUMNS = 1024
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
    kappas: Sequence[float],
    radii: Sequence[float | None] | None = None,
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
        radii: the order-2 radius of each threshold, None where it is not of that
            threat; under a ridge they prove more pairs.
        part: (p, P) counts only the p-th of P parts; the parts add up to the whole.
        kernel: what screens; the count does not depend on it.
        progress: show a bar if it takes over a second.

    Raises:
        UnfitEnvironmentError: if the kernel is caught miscounting.
    """
    ridge = _ridge_rows(proof, radii)
    limits = _limits(proof, scored.targets, kappas, radii, ridge)
    longest = float(np.max(proof.weighted.true_norms))
    scaled = screen.scaled(scored.low, scored.high, scored.targets.true_norms, longest)

    def count(tile: _Tile) -> np.ndarray:
        found = _screened(tile, scored, scaled, limits, kernel)
        return found + _one_by_one(proof, scored.targets, limits, tile.close, ridge)

    total = np.zeros(limits.limit.shape, np.int64)
    for found in _sweep(proof, count, progress, part, ridge):
        total += found
    return total


def count_pairs(
    proof: Proof,
    targets: NaturalRows,
    kappas: Sequence[float],
    radii: Sequence[float | None],
    pairs: np.ndarray,
) -> np.ndarray:
    """How many of some pairs [P, 2] are certified, [M, G], each decided on its own.

    Each pair is subtracted before it is whitened, as for a single verdict; a pair that
    is listed twice counts twice.
    """
    if not proof.holds:
        return np.zeros((len(targets.rows), len(kappas)), np.int64)
    ridge = _ridge_rows(proof, radii)
    with np.errstate(over="ignore", invalid="ignore"):
        limits = _limits(proof, targets, kappas, radii, ridge)
        return _one_by_one(proof, targets, limits, pairs, ridge)


def certified_by_norms(
    proof: Proof, scored: Scored, kappas: Sequence[float]
) -> np.ndarray:
    """Pairs that their scores and natural norms alone certify, [M, G], by sorting.

    The distance of a pair is at most the sum of its norms n, so that a pair is
    certified if the intervals S_i +- sqrt(limit) n_i do not touch: a proven lower bound
    of `count_certified` in O(N log N), without a distance.
    """
    found = np.zeros((len(scored.low), len(kappas)), np.int64)
    if not proof.holds:
        return found
    norms = proof.weighted.true_norms
    roots = upward(np.sqrt(_limits(proof, scored.targets, kappas).limit))
    for target, place in np.ndindex(*found.shape):
        if np.isfinite(roots[target, place]):
            with np.errstate(over="ignore", invalid="ignore"):
                reach = upward(roots[target, place] * norms)
                starts = np.nextafter(scored.low[target] - reach, -np.inf)
                ends = np.nextafter(scored.high[target] + reach, np.inf)
            # NaN sorts last, and is neither a start nor an end of anything.
            starts = starts[~np.isnan(starts)]
            below = np.searchsorted(np.sort(ends), starts, side="left")
            found[target, place] = below.sum()
    return found


def seconds_per_sweep(
    proof: Proof,
    scored: Scored,
    kappas: Sequence[float],
    radii: Sequence[float | None],
    kernel: screen.Kernel = screen.in_numpy,
) -> float:
    """What `count_certified` will take on all cores, from the time of one tile."""
    if not proof.holds:
        return 0.0
    ridge = _ridge_rows(proof, radii)
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = len(_tiles(proof, ridge))
    # The first run also compiles.
    middle = (tiles // 2, max(tiles, 1))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        count_certified(proof, scored, kappas, radii, part=middle, kernel=kernel)
        times.append(time.perf_counter() - start)
    return min(times) * tiles / (os.cpu_count() or 1)


def _screened(
    tile: _Tile,
    scored: Scored,
    scaled: screen.Scaled,
    limits: _Limits,
    kernel: screen.Kernel,
) -> np.ndarray:
    """Certified pairs of a tile, [M, G]: by the screen, in float64 where it is open."""
    found: np.ndarray = np.zeros(limits.limit.shape, np.int64)
    errors = scaled.error(tile.first, tile.second)
    screenable = screen.screenable(errors)
    # c^2 limit, the same for all targets but for rounding or underflow.
    units = limits.limit * np.square(scaled.unit[:, None])
    for place in range(found.shape[-1]):
        possible = np.isfinite(limits.limit[:, place])
        unit = units[:, place]
        some = possible & screenable
        middle = float(np.median(unit[some])) if some.any() else np.nan
        fit = np.flatnonzero(some & (np.abs(unit - middle) <= 2.0**-30 * middle))
        if len(fit):
            level = _level(tile, scaled, limits, place, fit, middle, errors)
            left = scaled.values[fit, tile.first]
            counts = kernel(left, scaled.values[fit, tile.second], level)
            found[fit, place] = _settled(tile, scored, limits, place, fit, *counts)
        for target in np.setdiff1d(np.flatnonzero(possible), fit):
            at = (target, place)
            ratio = _ratio(tile, scored.low[target], scored.high[target], limits, at)
            found[at] = np.count_nonzero(ratio > limits.limit[at])
    return found


def _level(
    tile: _Tile,
    scaled: screen.Scaled,
    limits: _Limits,
    place: int,
    fit: np.ndarray,
    unit: float,
    errors: np.ndarray,
) -> screen.Level:
    first, second = (tile.distance * unit).astype(np.float32), None
    # From 1 on the first bound is the smaller one anyway.
    slopes = np.minimum(limits.slope[fit, place], 2.0).astype(np.float32)
    if tile.moved is not None:
        share = float(np.median(limits.share[fit, place]))
        second = (tile.moved * (unit * share)).astype(np.float32)
    return screen.Level(first, second, slopes, screen.rooms(errors[fit]))


def _settled(
    tile: _Tile,
    scored: Scored,
    limits: _Limits,
    place: int,
    fit: np.ndarray,
    sure: np.ndarray,
    possible: np.ndarray,
) -> np.ndarray:
    """Certified pairs of each target [m], from counts [m, C] of sure and possible ones.

    Columns where the two differ are counted again in float64, and one column of each
    target in any case, which must lie between the two.
    """
    counts = sure.astype(np.int64)
    again = sure != possible
    columns = sure.shape[1] // 2 + tile.first.start // TILE + 131 * fit
    again[np.arange(len(fit)), columns % sure.shape[1]] = True
    rows, columns = np.nonzero(again)
    step = max(1, _RECOUNTED // tile.distance.shape[0])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        exact = _recount(tile, scored, limits, place, fit[row], column)
        if ((exact < sure[row, column]) | (exact > possible[row, column])).any():
            raise screen.contradiction()
        counts[row, column] = exact
    return counts.sum(axis=1)


def _recount(
    tile: _Tile,
    scored: Scored,
    limits: _Limits,
    place: int,
    targets: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Certified pairs in one column of a tile for one target, many times over, [P]."""
    low, high = scored.low[targets, tile.first], scored.high[targets, tile.first]
    second = columns + tile.second.start
    lower, upper = scored.low[targets, second], scored.high[targets, second]
    gaps = _gaps(low, high, lower[:, None], upper[:, None])
    moved = None if tile.moved is None else tile.moved[:, columns].T
    at = (targets[:, None], place)
    lengths = limits.lengths(tile.distance[:, columns].T, moved, at)
    ratio = np.square(gaps, out=gaps) / lengths
    return np.count_nonzero(ratio > limits.limit[at], axis=1)


def count_above_and_below(
    proof: Proof,
    scored: Scored,
    kappa: float,
    radius: float | None = None,
    *,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """How many examples are certified above, and below, each one, for one target.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of exactly one target.
        kappa: the threshold.
        radius: its order-2 radius, None if it is not of that threat.
        progress: show a bar if it takes over a second.

    Returns:
        Two arrays of counts, [N] each.
    """
    ridge = _ridge_rows(proof, [radius])
    limits = _limits(proof, scored.targets, [kappa], [radius], ridge)
    limit = float(limits.limit[0, 0])
    low, high = scored.low[0], scored.high[0]

    def winners_and_losers(tile: _Tile) -> np.ndarray:
        rows, columns = np.nonzero(_ratio(tile, low, high, limits, (0, 0)) > limit)
        found = [np.stack([rows + tile.first.start, columns + tile.second.start])]
        first_wins = [low[found[0][0]] > high[found[0][1]]]
        for pairs, gaps, distance, moved in _close_pairs(
            proof, scored.targets, tile.close, ridge
        ):
            length = limits.lengths(distance, moved, (0, 0))
            proven = np.square(gaps[0]) / length > limit
            found.append(pairs[proven].T)
            first_wins.append(gaps[0][proven] > 0)
        order = np.concatenate(found, axis=1)
        return np.where(np.concatenate(first_wins), order, order[::-1])

    size = proof.weighted.rows.shape[0]
    above, below = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for winners, losers in _sweep(proof, winners_and_losers, progress, ridge=ridge):
        below += np.bincount(winners, minlength=size)
        above += np.bincount(losers, minlength=size)
    return above, below


@dataclass(frozen=True, eq=False)
class _Limits:
    """A pair is certified if gap^2 / min(D2, slope D2 + share DA2) > limit.

    D2 is its squared distance and DA2 the moment of the data along it, which matter
    only under a ridge (`ridge.pair_limits`). All arrays are [M, G].
    """

    limit: np.ndarray
    slope: np.ndarray
    share: np.ndarray

    def lengths(
        self, distance: np.ndarray, moved: np.ndarray | None, at: Any
    ) -> np.ndarray:
        """The denominator for the targets and thresholds `at` of the arrays."""
        if moved is None:
            return distance
        # An infinite slope (no proof) may give NaN, which fmin ignores.
        return np.fmin(distance, self.slope[at] * distance + self.share[at] * moved)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Pairs of rows `first` x rows `second`.

    `distance` holds upper bounds of squared natural distances. Pairs that do not count
    here (the diagonal, its mirror image, close pairs) are infinitely far apart, so that
    nothing is certified about them. `moved` holds upper bounds of the moment of the
    data along the difference, or is None. `close` lists the close pairs, [P, 2].
    """

    first: slice
    second: slice
    distance: np.ndarray
    moved: np.ndarray | None
    close: np.ndarray


def _tiles(proof: Proof, ridge: NaturalRows | None = None) -> list[Callable[[], _Tile]]:
    """Every unordered pair of training examples exactly once, as tiles to be made."""
    rows = proof.weighted
    count, width = rows.rows.shape
    gram_room = upward(2 * gamma(width + 8) * rows.norms**2)
    squares, room = _squares_and_room(rows)
    padded = squares + room
    if ridge is not None:
        fixed_squares, fixed_room = _squares_and_room(ridge)
        fixed = fixed_squares - fixed_room

    def make(a: slice, b: slice) -> _Tile:
        squared = _gram_distances(rows.rows, padded, a, b)
        np.maximum(squared, _SMALLEST, out=squared)
        close = squared < _CLOSE * (gram_room[a, None] + gram_room[b])
        moved = None
        if ridge is not None:
            moved = squared - np.maximum(_gram_distances(ridge.rows, fixed, a, b), 0)
            # The subtraction rounds; an overflow gives NaN, and the whole is the bound.
            moved = np.fmin(upward(np.maximum(moved, 0)), squared)
        if a.stop > b.start:
            once = np.arange(a.start, a.stop)[:, None] < np.arange(b.start, b.stop)
            close &= once
            squared[~once] = np.inf
        squared[close] = np.inf
        corner = np.array([a.start, b.start])
        return _Tile(a, b, squared, moved, np.argwhere(close) + corner)

    return [
        partial(make, a, b) for b in _cuts(count, COLUMNS) for a in _cuts(b.stop, TILE)
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


def _sweep(
    proof: Proof,
    visit: Callable[[_Tile], np.ndarray],
    progress: bool,
    part: tuple[int, int] = (0, 1),
    ridge: NaturalRows | None = None,
) -> Iterator[Any]:
    """Applies `visit` to the tiles on all cores; yields in order, few at a time."""
    if not proof.holds:
        return
    workers = os.cpu_count() or 1
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = _tiles(proof, ridge)[part[0] :: part[1]]
    bar = Progress("certifying pairs", len(tiles), visible=progress)

    def work(make: Callable[[], _Tile]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # NaN is never certified
            return visit(make())

    # One thread of the matrix product for each worker: two pools of threads on the same
    # cores wait for each other most of the time.
    one = threadpool_limits(1, "blas")
    with one, bar, ThreadPoolExecutor(workers) as pool:
        waiting: list[Any] = []
        for make in tiles:
            waiting.append(pool.submit(work, make))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
                bar.advance()
        for future in waiting:
            yield future.result()
            bar.advance()


def _ridge_rows(
    proof: Proof, radii: Sequence[float | None] | None
) -> NaturalRows | None:
    """The ridge part of the training rows, if it can prove anything."""
    useful = proof.geometry.ridge > 0 and proof.holds and radii is not None
    if not (useful and any(radius is not None for radius in radii or [])):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ridge_bound.ridge_rows(proof, proof.weighted)


def _limits(
    proof: Proof,
    targets: NaturalRows,
    kappas: Sequence[float],
    radii: Sequence[float | None] | None = None,
    ridge: NaturalRows | None = None,
) -> _Limits:
    """What is asked of each target at each kappa.

    The last factor covers the roundings of the square, of the length and of the
    quotient that is compared with the limit.
    """
    needed = np.array([proof.needed_cosine(kappa) for kappa in kappas])
    slope, share = np.full((2, len(targets.rows), len(kappas)), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = targets.true_norms
        squared = upward(sizes[:, None] * needed) ** 2
        # A gap is at most this; where its square could overflow nothing is certified.
        reach = 2 * sizes * np.max(proof.weighted.true_norms)
        squared[~(reach < 2.0**500)] = np.inf
        limit = np.maximum(squared, _SMALLEST) * (1 + 2.0**-39)
        if ridge is not None:
            for place, radius in enumerate(radii or []):
                if radius is not None:
                    asked = ridge_bound.pair_limits(proof, targets, ridge, radius)
                    unit = upward(np.square(sizes)) / limit[:, place]
                    # At least 2^-40, so that no length underflows.
                    slope[:, place] = np.maximum(upward(asked.alpha * unit), 2.0**-40)
                    share[:, place] = upward(asked.beta * unit)
    return _Limits(limit, slope, share)


def _ratio(
    tile: _Tile, low: np.ndarray, high: np.ndarray, limits: _Limits, at: Any
) -> np.ndarray:
    """Proven gap^2 over length of each pair of a tile, 0 where there is no gap."""
    a, b = tile.first, tile.second
    gaps = _gaps(low[a, None], high[a, None], low[b], high[b])
    np.square(gaps, out=gaps)
    gaps /= limits.lengths(tile.distance, tile.moved, at)
    return gaps


def _gaps(
    low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Proven gaps of the intervals [low, high] and [lower, upper], 0 where none."""
    gaps = low - upper
    np.maximum(gaps, lower - high, out=gaps)
    np.maximum(gaps, 0, out=gaps)
    return gaps


def _products(left: NaturalRows, right: NaturalRows) -> tuple[np.ndarray, np.ndarray]:
    """All inner products of natural rows, [M, B], and bounds of their errors."""
    per_norm = upward(gamma(left.rows.shape[1]) * left.norms + left.errors)
    room = per_norm[:, None] * right.norms + left.true_norms[:, None] * right.errors
    return left.rows @ right.rows.T, upward(room)


def _one_by_one(
    proof: Proof,
    targets: NaturalRows,
    limits: _Limits,
    pairs: np.ndarray,
    ridge: NaturalRows | None,
) -> np.ndarray:
    found: np.ndarray = np.zeros(limits.limit.shape, np.int64)
    for _, gaps, distance, moved in _close_pairs(proof, targets, pairs, ridge):
        for place in range(found.shape[1]):
            length = limits.lengths(distance, moved, (slice(None), [place]))
            ratio = np.square(gaps) / length
            found[:, place] += (ratio > limits.limit[:, [place]]).sum(axis=1)
    return found


def _close_pairs(
    proof: Proof,
    targets: NaturalRows,
    pairs: np.ndarray,
    ridge: NaturalRows | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Close pairs in chunks: the pairs [P, 2], proven gaps [M, P], D2 and DA2 [P].

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
        products, room = _products(targets, difference)
        size = np.maximum(np.nextafter(np.abs(products) - room, -np.inf), 0)
        distance, moved = upward(difference.true_norms**2), None
        if ridge is not None:
            fixed = ridge_bound.ridge_rows(proof, difference)
            distance, moved = ridge_bound.moments(difference, fixed)
        yield chunk, np.sign(products) * size, np.maximum(distance, _SMALLEST), moved
