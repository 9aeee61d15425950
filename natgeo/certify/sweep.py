"""All pairs of all targets, by tiles: one tile of pairs is held, never N x N x M.

For a target t and examples i, j the pair is certified when the whitened cosine

    |S_i - S_j| / (norm(R phi_t) norm(R d_ij)),     S_i = r_i (R phi_t).(R phi_i)

is proven above the threshold of `Proof.needed_cosine`. Per tile, the distances
norm(R d_ij) are bounded once and shared by all targets; per pair and target remain two
subtractions, a maximum, a square, a quotient and one comparison for each radius.

The error terms cost nothing per pair. Scores carry an interval [low_i, high_i], so a
gap is low_i - high_j; squared distances are bounded by `tiles.py`, close pairs are
decided by `pairs.py`.

A float32 screen (`screen.py`) settles almost every pair and target; the few that it
leaves open are compared in float64. It never changes a count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from natgeo.certify import screen
from natgeo.certify.bounds import upward
from natgeo.certify.limits import Limits, Moves, asked, example_moves, ridge_rows
from natgeo.certify.pairs import count_one_by_one, decided, products
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.tiles import ROWS, Tile, every_tile
from natgeo.progress import Progress

_MANY = 4  # levels from which NumPy is faster without a screen
_RECOUNTED = 2**18  # pairs and targets compared in float64 at once


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
    scores, room = products(rows, proof.weighted)
    return Scored(
        np.nextafter(scores - room, -np.inf), np.nextafter(scores + room, np.inf), rows
    )


def count_certified(
    proof: Proof,
    scored: Scored,
    kappas: Sequence[float],
    radii: Sequence[float | None] | None = None,
    moves: Moves | None = None,
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
        moves: how far the points of a pair move, if they do; without a screen.
        part: (p, P) counts only the p-th of P parts; the parts add up to the whole.
        kernel: what screens; the count does not depend on it.
        progress: show a bar if it takes over a second.

    Raises:
        UnfitEnvironmentError: if the kernel is caught miscounting.
    """
    ridge, far = ridge_rows(proof, radii), example_moves(proof, moves)
    limits = asked(proof, scored.targets, kappas, radii, moves)
    longest = float(np.max(proof.weighted.true_norms))
    scaled = screen.scaled(scored.low, scored.high, scored.targets.true_norms, longest)

    def count(tile: Tile) -> np.ndarray:
        found = _screened(tile, scored, scaled, limits, kernel)
        return found + count_one_by_one(
            proof, scored.targets, limits, tile.close, ridge, far
        )

    total = np.zeros(limits.limit.shape, np.int64)
    for found in _sweep(proof, count, progress, part, ridge, far):
        total += found
    return total


def certified_by_norms(
    proof: Proof,
    scored: Scored,
    kappas: Sequence[float],
    moves: Moves | None = None,
) -> np.ndarray:
    """Pairs that their scores and natural norms alone certify, [M, G], by sorting.

    The distance of a pair is at most the sum of its norms n, so that a pair is
    certified if the intervals S_i +- sqrt(limit) n_i do not touch: a proven lower bound
    of `count_certified` in O(N log N), without a distance. Points that move by m_i make
    the intervals longer: S sqrt(D^2 - m^2) + C m and m / C are both at most
    S (n_i + n_j) + (m_i + m_j) / C.
    """
    found = np.zeros((len(scored.low), len(kappas)), np.int64)
    if not proof.holds:
        return found
    limits = asked(proof, scored.targets, kappas, moves=moves)
    roots, far = upward(np.sqrt(limits.limit)), example_moves(proof, moves)
    for target, place in np.ndindex(*found.shape):
        if np.isfinite(roots[target, place]):
            with np.errstate(over="ignore", invalid="ignore"):
                needed = proof.weighted.true_norms
                if far is not None:
                    needed = limits.apart(needed, far, (target, place))
                reach = upward(roots[target, place] * needed)
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
    moves: Moves | None = None,
    kernel: screen.Kernel = screen.in_numpy,
) -> float:
    """What `count_certified` will take on all cores, from the time of one tile."""
    if not proof.holds:
        return 0.0
    ridge = ridge_rows(proof, radii)
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = len(every_tile(proof, ridge))
    # The first run also compiles.
    middle = (tiles // 2, max(tiles, 1))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        count_certified(proof, scored, kappas, radii, moves, part=middle, kernel=kernel)
        times.append(time.perf_counter() - start)
    return min(times) * tiles / (os.cpu_count() or 1)


def count_above_and_below(
    proof: Proof,
    scored: Scored,
    kappa: float,
    radius: float | None = None,
    moves: Moves | None = None,
    *,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """How many examples are certified above, and below, each one, for one target.

    Args:
        proof: the rounding proof of the geometry.
        scored: score intervals of exactly one target.
        kappa: the threshold.
        radius: its order-2 radius, None if it is not of that threat.
        moves: how far the points of a pair move, if they do.
        progress: show a bar if it takes over a second.

    Returns:
        Two arrays of counts, [N] each.
    """
    ridge, far = ridge_rows(proof, [radius]), example_moves(proof, moves)
    limits = asked(proof, scored.targets, [kappa], [radius], moves)
    limit = float(limits.limit[0, 0])
    low, high = scored.low[0], scored.high[0]

    def winners_and_losers(tile: Tile) -> np.ndarray:
        rows, columns = np.nonzero(_ratio(tile, low, high, limits, (0, 0)) > limit)
        found = [np.stack([rows + tile.first.start, columns + tile.second.start])]
        first_wins = [low[found[0][0]] > high[found[0][1]]]
        for pairs, gaps, chunk in decided(
            proof, scored.targets, tile.close, ridge, far
        ):
            length = limits.lengths(chunk, (0, 0))
            proven = np.square(gaps[0]) / length > limit
            found.append(pairs[proven].T)
            first_wins.append(gaps[0][proven] > 0)
        order = np.concatenate(found, axis=1)
        return np.where(np.concatenate(first_wins), order, order[::-1])

    size = proof.weighted.rows.shape[0]
    above, below = np.zeros(size, np.int64), np.zeros(size, np.int64)
    found = _sweep(proof, winners_and_losers, progress, ridge=ridge, moves=far)
    for winners, losers in found:
        below += np.bincount(winners, minlength=size)
        above += np.bincount(losers, minlength=size)
    return above, below


def _screened(
    tile: Tile,
    scored: Scored,
    scaled: screen.Scaled,
    limits: Limits,
    kernel: screen.Kernel,
) -> np.ndarray:
    """Certified pairs of a tile, [M, G]: by the screen, in float64 where it is open."""
    many = limits.limit.shape[1] > _MANY and tile.pairs.shares is None
    if tile.pairs.moves is not None or (many and kernel is screen.in_numpy):
        return _compared(tile, scored, limits)
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


def _compared(tile: Tile, scored: Scored, limits: Limits) -> np.ndarray:
    """Certified pairs of a tile, [M, G], in float64, by ratios that all levels share.

    In NumPy this is faster than a screen for each level, where lengths do not depend on
    the level; with points that move there is one level, and no screen.
    """
    found = np.zeros(limits.limit.shape, np.int64)
    for target, (low, high) in enumerate(zip(scored.low, scored.high, strict=True)):
        ratio = _ratio(tile, low, high, limits, (target, 0))
        for place, limit in enumerate(limits.limit[target]):
            found[target, place] = np.count_nonzero(ratio > limit)
    return found


def _level(
    tile: Tile,
    scaled: screen.Scaled,
    limits: Limits,
    place: int,
    fit: np.ndarray,
    unit: float,
    errors: np.ndarray,
) -> screen.Level:
    first = (tile.pairs.distance * unit).astype(np.float32)
    found = screen.rooms(errors[fit])
    shares = tile.pairs.shares
    if shares is None:
        return screen.Level(first, found)
    own, at = limits.own[fit, place], (fit[0], place)
    flat = limits.flat[at] + limits.slope[at] * own
    curve = screen.Curve(
        shares.astype(np.float32),
        own.astype(np.float32),
        np.float32(limits.root[at]),
        flat.astype(np.float32),
        np.float32(limits.slope[at]),
    )
    return screen.Level(first, found, curve)


def _settled(
    tile: Tile,
    scored: Scored,
    limits: Limits,
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
    columns = sure.shape[1] // 2 + tile.first.start // ROWS + 131 * fit
    again[np.arange(len(fit)), columns % sure.shape[1]] = True
    rows, columns = np.nonzero(again)
    step = max(1, _RECOUNTED // tile.pairs.distance.shape[0])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        exact = _recount(tile, scored, limits, place, fit[row], column)
        if ((exact < sure[row, column]) | (exact > possible[row, column])).any():
            raise screen.contradiction()
        counts[row, column] = exact
    return counts.sum(axis=1)


def _recount(
    tile: Tile,
    scored: Scored,
    limits: Limits,
    place: int,
    targets: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Certified pairs in one column of a tile for one target, many times over, [P]."""
    low, high = scored.low[targets, tile.first], scored.high[targets, tile.first]
    second = columns + tile.second.start
    lower, upper = scored.low[targets, second], scored.high[targets, second]
    gaps = _gaps(low, high, lower[:, None], upper[:, None])
    at = (targets[:, None], place)
    lengths = limits.lengths(tile.pairs.columns(columns), at)
    ratio = np.square(gaps, out=gaps) / lengths
    return np.count_nonzero(ratio > limits.limit[at], axis=1)


def _sweep(
    proof: Proof,
    visit: Callable[[Tile], np.ndarray],
    progress: bool,
    part: tuple[int, int] = (0, 1),
    ridge: NaturalRows | None = None,
    moves: np.ndarray | None = None,
) -> Iterator[Any]:
    """Applies `visit` to the tiles on all cores; yields in order, few at a time."""
    if not proof.holds:
        return
    workers = os.cpu_count() or 1
    with np.errstate(over="ignore", invalid="ignore"):
        tiles = every_tile(proof, ridge, moves)[part[0] :: part[1]]
    bar = Progress("certifying pairs", len(tiles), visible=progress)

    def work(make: Callable[[], Tile]) -> np.ndarray:
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


def _ratio(
    tile: Tile, low: np.ndarray, high: np.ndarray, limits: Limits, at: Any
) -> np.ndarray:
    """Proven gap^2 over length of each pair of a tile, 0 where there is no gap."""
    a, b = tile.first, tile.second
    gaps = _gaps(low[a, None], high[a, None], low[b], high[b])
    np.square(gaps, out=gaps)
    gaps /= limits.lengths(tile.pairs, at)
    return gaps


def _gaps(
    low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Proven gaps of the intervals [low, high] and [lower, upper], 0 where none."""
    gaps = low - upper
    np.maximum(gaps, lower - high, out=gaps)
    np.maximum(gaps, 0, out=gaps)
    return gaps
