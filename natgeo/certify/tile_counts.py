"""Certified pairs of one tile, for every target, from proven gaps and distances.

Scores carry an interval [low_i, high_i], so a gap is low_i - high_j and the error terms
cost nothing per pair. A pair is certified if the square of its gap, over what its
distance bounds, exceeds the limit of its target and threat.

A float32 screen (`screen.py`) settles almost every pair and target; the few that it
leaves open are compared in float64. It never changes a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.certify import screen
from natgeo.certify.limits import Limits
from natgeo.certify.pairs import products
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.tiles import ROWS, Tile

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


def screened(
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
        some = possible & screenable & np.isfinite(unit)
        middle = float(np.median(unit[some])) if some.any() else np.nan
        fit = np.flatnonzero(some & (np.abs(unit - middle) <= 2.0**-30 * middle))
        if len(fit):
            level = _level(tile, scaled, limits, place, fit, middle, errors)
            left = scaled.values[fit, tile.first]
            counts = kernel(left, scaled.values[fit, tile.second], level)
            found[fit, place] = _settled(tile, scored, limits, place, fit, *counts)
        for target in np.setdiff1d(np.flatnonzero(possible), fit):
            at = (target, place)
            ratio = ratios(tile, scored.low[target], scored.high[target], limits, at)
            found[at] = np.count_nonzero(ratio > limits.limit[at])
    return found


def _compared(tile: Tile, scored: Scored, limits: Limits) -> np.ndarray:
    """Certified pairs of a tile, [M, G], in float64, by ratios that all levels share.

    In NumPy this is faster than a screen for each level, where lengths do not depend on
    the level. With points that move they do, and there is no screen.
    """
    found = np.zeros(limits.limit.shape, np.int64)
    for target, (low, high) in enumerate(zip(scored.low, scored.high, strict=True)):
        for place, limit in enumerate(limits.limit[target]):
            if place == 0 or tile.pairs.moves is not None:
                ratio = ratios(tile, low, high, limits, (target, place))
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


def ratios(
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
