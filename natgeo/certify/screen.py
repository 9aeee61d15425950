"""The float32 screen: decides most pairs of a tile at once, and proves which.

A pair is certified if gap > sqrt(limit) D (see `sweep`). Everything is divided by the
norm of the target and multiplied by a power of two s, so that all targets share one
unit and one pair of thresholds a tile:

    x_i = float32(S_i s / |u|),      g = |x_i - x_j| in float32,      t = s sqrt(limit)/|u|

With e_i >= |x_i - c l| for both ends l of the score's interval, c = s / |u| as computed
(measured in float64, so that no overflow or underflow has to be argued about), the
scaled gap lies within e_i + e_j of the exact |x_i - x_j|, and g within a factor
1 +- 2^-24 of that and 2^-126 (also where subnormals are flushed). So

    sure       if g >  above,   above >= (t D + e_i + e_j + 2^-100) (1 + 2^-21)
    not at all if g <= below,   below <= (t D - e_i - e_j - 2^-100) (1 - 2^-21)

The room of 2^-21 covers 2^-24 for g and every float64 rounding of the exact test, which
are below 2^-38 together. `thresholds` builds both from a float32 of t D, itself within
a factor 1 +- 2^-23 and 2^-126, with 2^-20 and an additive 2^-98. Whatever is in between
goes to float64, as does every target whose e is not small. A screen never changes a
count; it only saves time, and what it says of a sample of columns is re-checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import upward
from natgeo.errors import UnfitEnvironmentError

# What counts how many of the R rows of a tile are above two thresholds, by column:
#   left [M, R], right [M, C], levels [G, 2, R, C], all float32 -> int32 [G, 2, M, C],
#   counts[g, k, m, c] = #{r : |left[m, r] - right[m, c]| > levels[g, k, r, c]}
Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

_RELATIVE = np.float32(2.0**-20)
_ABSOLUTE = 2.0**-98
_LARGEST = 2.0**100  # of a scaled score; its differences cannot overflow
_SPREAD = 64.0  # targets whose error is this much above the median are not screened


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


def thresholds(
    largest: np.ndarray, smallest: np.ndarray, error: float
) -> tuple[np.ndarray, np.ndarray]:
    """`above` and `below` of a tile, float32, from bounds of t D over its targets.

    Args:
        largest: t D at its largest over the targets of the screen, [R, C], float64;
            infinite for pairs that do not count.
        smallest: t D at its smallest.
        error: bound of e_i + e_j over the tile and those targets.
    """
    # Twice the error also covers its own conversion to float32.
    room = np.float32(2 * error + _ABSOLUTE)
    above = np.float32(largest)
    above += room
    above *= 1 + _RELATIVE
    below = np.float32(smallest)
    below *= 1 - _RELATIVE
    below -= room
    return above, below


def in_numpy(left: np.ndarray, right: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The reference kernel."""
    g, _, rows, columns = levels.shape
    counts = np.empty((g, 2, len(left), columns), np.int32)
    gaps = np.empty((rows, columns), np.float32)
    mask = np.empty((rows, columns), bool)
    for target, (a, b) in enumerate(zip(left, right, strict=True)):
        np.subtract(a[:, None], b, out=gaps)
        np.abs(gaps, out=gaps)
        for place, both in enumerate(levels):
            for side, level in enumerate(both):
                np.greater(gaps, level, out=mask)
                # Bytes are summed as bytes, which is the fastest, 255 rows at a time.
                counts[place, side, target] = sum(
                    np.int32(mask[r : r + 255].view(np.uint8).sum(0, dtype=np.uint8))
                    for r in range(0, rows, 255)
                )
    return counts


def require_honest(kernel: Kernel) -> None:
    """Compares a kernel with the reference on a tile of hostile numbers.

    Raises:
        UnfitEnvironmentError: if any count differs.
    """
    rng = np.random.default_rng(20251211)
    left = np.float32(rng.normal(size=(5, 37)))
    right = np.float32(rng.normal(size=(5, 61)))
    left[0] *= np.float32(1e-30)
    right[0] *= np.float32(1e-30)
    left[1] *= np.float32(1e29)
    levels = np.abs(np.float32(rng.normal(size=(2, 2, 37, 61))))
    levels[0, :, 3] = np.inf
    levels[1, 0] *= np.float32(1e-30)
    levels[1, 1, :, 5] = -1
    levels[0, 0, 7] = np.abs(left[2, 7] - right[2])  # a tie
    if not np.array_equal(kernel(left, right, levels), in_numpy(left, right, levels)):
        raise UnfitEnvironmentError(
            "The screening kernel miscounts on this device, so no pair can be counted "
            "with it. Leave out `kernel` to screen with NumPy; run `natgeo doctor`."
        )
