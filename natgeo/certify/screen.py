"""The float32 screen: decides most pairs of a tile at once, and proves which.

A pair is certified if gap^2 > limit E, with E its squared distance, under a ridge
times the square of a factor q <= 1 (see `limits`). Scores are multiplied by
c = s / |u| for the target u and a power of two s, so that all targets share one unit:

    x_i = float32(c S_i),    g = |x_i - x_j| in float32,    E' = float32 of c^2 limit E

With e_i >= |x_i - c l| for both ends l of the score's interval (measured in float64, so
that no overflow or underflow has to be argued about), c gap lies within e_i + e_j of
the exact |x_i - x_j|, and g within a factor 1 +- 2^-24 of that and 2^-126 (also where
subnormals are flushed). With room >= e_i + e_j + 2^-49 and h = 2^-19,

    sure:        g (1 - h) - room > 0   and its square is above E'
    not at all:  the square of g (1 + h) + room is not above E'

The product and the sum round by 2^-24 each. Kernels compare the roots, which are off by
2^-24 for sqrt(E') (the constant in float64, one conversion, a root) times two, and by
ten more for q: every term of it is positive and at least 2^-30 in all, its constants,
y, its products and sums round once each, and the root may be off by three units where
it is only approximate. As g is at least g - room, 32 x 2^-24 of g covers all of them,
and 2^-30 between the targets' constants and the float64 roundings of the exact test,
below 2^-38. Whatever is in between goes to float64, as does every target whose room is
not small. A screen never changes a count; it only saves time, and what it says of one
column for each tile and target is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import upward
from natgeo.errors import UnfitEnvironmentError

_RELATIVE = 2.0**-19
_ABSOLUTE = 2.0**-48
_LARGEST = 2.0**60  # of a scaled score; its square cannot overflow
_SPREAD = 64.0  # targets whose room is this much above the median are not screened


@dataclass(frozen=True, eq=False)
class Curve:
    """By which factor the bound under a ridge is below the closed form, float32.

    For target m it is root sqrt(y) + flat_m + slope y_v with y = y_v + own_m, and 1 at
    most; see `limits.Limits`.

    Attributes:
        shares: y_v, [R, C].
        own: [M].
        root: one number.
        flat: [M].
        slope: one number.
    """

    shares: np.ndarray
    own: np.ndarray
    root: np.float32
    flat: np.ndarray
    slope: np.float32


@dataclass(frozen=True, eq=False)
class Level:
    """What the scaled gaps of a tile are compared with, float32.

    The bound of their squares is `first`, times the square of the curve's factor.

    Attributes:
        first: [R, C]; infinite for pairs that do not count.
        rooms: [M].
        curve: under a ridge, or None.
    """

    first: np.ndarray
    rooms: np.ndarray
    curve: Curve | None = None


# How many of the R rows of a tile are sure, and how many possible, for each target and
# column: left [M, R], right [M, C], both float32, and the level -> int32 [2, M, C].
Kernel = Callable[[np.ndarray, np.ndarray, Level], np.ndarray]


@dataclass(frozen=True, eq=False)
class Scaled:
    """Scores of all targets in one unit, with proven errors.

    Attributes:
        values: x, [M, N], float32.
        errors: e, [M, N], float32; infinite where x is of no use.
        unit: c, by which each target's scores were multiplied, [M], float64.
        scale: s, the power of two that natural distances are multiplied by.
    """

    values: np.ndarray
    errors: np.ndarray
    unit: np.ndarray
    scale: float

    def error(self, rows: slice, columns: slice) -> np.ndarray:
        """Bound of e_i + e_j over a tile, [M], float64."""
        parts = (self.errors[:, part].max(axis=1) for part in (rows, columns))
        return upward(sum(np.float64(part) for part in parts))


def scaled(
    low: np.ndarray, high: np.ndarray, sizes: np.ndarray, longest: float
) -> Scaled:
    """Scales the score intervals [M, N] of targets of norm `sizes` [M].

    Args:
        low: lower ends.
        high: upper ends.
        sizes: norms of the targets; any positive number is sound.
        longest: largest natural norm of a training example; chooses the power of two.
    """
    with np.errstate(all="ignore"):
        usable = np.isfinite(longest) and longest > 0
        scale = float(np.ldexp(1.0, -int(np.frexp(longest)[1]))) if usable else 1.0
        unit = scale / sizes
        values = np.empty(low.shape, np.float32)
        errors = np.empty(low.shape, np.float32)
        for target, factor in enumerate(unit):
            ends = low[target] * factor, high[target] * factor
            values[target] = (ends[0] + ends[1]) / 2
            wide = np.float64(values[target])
            error = np.maximum(np.abs(wide - ends[0]), np.abs(wide - ends[1]))
            # The products are rounded too, by 2^-53 of them each.
            error = upward(error + 2.0**-50 * np.abs(wide))
            good = (np.abs(wide) < _LARGEST) & (error < _LARGEST)
            rounded = np.nextafter(np.float32(error), np.float32(np.inf))
            errors[target] = np.where(good, rounded, np.float32(np.inf))
    return Scaled(values, errors, unit, scale)


def screenable(errors: np.ndarray) -> np.ndarray:
    """Which targets are worth a screen, by their errors over a tile, [M]."""
    finite = np.isfinite(errors)
    if not finite.any():
        return finite
    return finite & (errors <= _SPREAD * np.median(errors[finite]))


def rooms(errors: np.ndarray) -> np.ndarray:
    """Float32 rooms from bounds of e_i + e_j, rounded up, [M]."""
    return np.nextafter(np.float32(errors + _ABSOLUTE), np.float32(np.inf))


def in_numpy(left: np.ndarray, right: np.ndarray, level: Level) -> np.ndarray:
    """The reference kernel."""
    rows, columns = level.first.shape
    counts = np.empty((2, len(left), columns), np.int32)
    gaps = np.empty((rows, columns), np.float32)
    mask = np.empty((rows, columns), bool)
    roots = np.sqrt(level.first)
    edges = _edges(roots, np.max(level.rooms))
    if (curve := level.curve) is not None:
        rest, bound = curve.slope * curve.shares, np.empty_like(roots)
    for target, (a, b) in enumerate(zip(left, right, strict=True)):
        if curve is not None:
            _factor(curve, rest, target, bound)
            np.multiply(bound, roots, out=bound)
            _edges(bound, level.rooms[target], edges)
        np.subtract(a[:, None], b, out=gaps)
        np.abs(gaps, out=gaps)
        for side, edge in enumerate(edges):
            np.greater(gaps, edge, out=mask)
            # Bytes are summed as bytes, which is fastest, so at most 255 at a time.
            counts[side, target] = sum(
                np.int32(mask[r : r + 255].view(np.uint8).sum(0, dtype=np.uint8))
                for r in range(0, rows, 255)
            )
    return counts


def _factor(curve: Curve, rest: np.ndarray, target: int, out: np.ndarray) -> np.ndarray:
    """The curve of one target, at most 1, [R, C]; `rest` is slope y_v."""
    np.add(curve.shares, curve.own[target], out=out)
    np.sqrt(out, out=out)
    out *= curve.root
    out += curve.flat[target]
    out += rest
    return np.minimum(out, np.float32(1), out=out)


def _edges(
    roots: np.ndarray,
    room: np.float32,
    out: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[np.ndarray, np.ndarray]:
    """Gaps above the first are sure, gaps not above the second are not at all."""
    above = np.add(roots, room, out=out[0])
    above *= np.float32(1 + _RELATIVE)
    below = np.multiply(roots, np.float32(1 - _RELATIVE), out=out[1])
    below -= room
    return above, below


def contradiction() -> UnfitEnvironmentError:
    """What to raise when a kernel disagrees with float64."""
    return UnfitEnvironmentError(
        "The screening kernel contradicts float64 on this machine, so nothing was "
        "counted. Leave out `kernel` to screen with NumPy, and run `natgeo doctor`."
    )
