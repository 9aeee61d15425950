"""All pairs of all targets, by tiles: one tile of pairs is held, never N x N x M.

For a target t and examples i, j the pair is certified when the whitened cosine

    |S_i - S_j| / (norm(R phi_t) norm(R d_ij)),     S_i = r_i (R phi_t).(R phi_i)

is proven above the threshold of `Proof.needed_cosine`. Per tile, the distances
norm(R d_ij) are bounded once (`tiles.py`) and shared by all targets; per pair and
target remain two subtractions, a maximum, a square, a quotient and one comparison for
each radius (`tile_counts.py`). Close pairs are decided by `pairs.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from natgeo.certify import screen
from natgeo.certify.bounds import upward
from natgeo.certify.limits import Moves, asked, example_moves, ridge_rows
from natgeo.certify.pairs import count_one_by_one, decided
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.tile_counts import Scored, ratios, screened
from natgeo.certify.tiles import Tile, every_tile
from natgeo.progress import Progress


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
        found = screened(tile, scored, scaled, limits, kernel)
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
        rows, columns = np.nonzero(ratios(tile, low, high, limits, (0, 0)) > limit)
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
