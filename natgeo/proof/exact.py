"""Exact arithmetic on arrays of floats: every finite double is an integer times 2^e.

No number here is ever rounded and no BLAS is called. Large products work on limbs of 24
bits in int64, small vectors on Python integers; both are exact by construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_BITS = 24
_MASK = (1 << _BITS) - 1
_HALF = 1 << (_BITS - 1)
# At most this many products of two limbs, 2^48 each, are summed before they carry, so
# that every sum stays below 2^62.
_SUMMED = 1 << 14


@dataclass(frozen=True, eq=False)
class Limbs:
    """A matrix of integers times 2^exponent: sum_l limbs[l] 2^(24 l + exponent).

    Attributes:
        limbs: [L, rows, columns], int64, each at most 2^24 in magnitude.
        exponent: of the common power of two.
    """

    limbs: np.ndarray
    exponent: int

    @property
    def transposed(self) -> Limbs:
        """The transposed matrix."""
        return Limbs(self.limbs.transpose(0, 2, 1), self.exponent)

    def __matmul__(self, other: Limbs) -> Limbs:
        """The exact product of two matrices."""
        rows, inner = self.limbs.shape[1:]
        short = min(len(self.limbs), len(other.limbs))
        step = _SUMMED // short
        if step == 0:
            raise OverflowError(f"{short} limbs are too many for an exact product")
        # One limb for the carries of the sum: it has fewer than 2^24 terms a chunk.
        size = len(self.limbs) + len(other.limbs) + 2
        total = np.zeros((size, rows, other.limbs.shape[2]), np.int64)
        for start in range(0, inner, step):
            chunk = slice(start, start + step)
            for a, left in enumerate(self.limbs[:, :, chunk]):
                for b, right in enumerate(other.limbs[:, chunk]):
                    if left.any() and right.any():
                        total[a + b] += left @ np.asfortranarray(right)
            _carry(total)
        return Limbs(_without_zeros(total), self.exponent + other.exponent)

    @property
    def gram(self) -> Limbs:
        """X'X of this matrix X."""
        return self.transposed @ self

    def integers(self) -> Integers:
        """The same matrix in Python integers."""
        values = np.zeros(self.limbs.shape[1:], object)
        for limb in self.limbs[::-1]:
            values = values * (1 << _BITS) + limb.astype(object)
        return Integers(values, self.exponent)


@dataclass(frozen=True, eq=False)
class Integers:
    """An array of Python integers times 2^exponent.

    Attributes:
        values: integers in an object array of any shape.
        exponent: of the common power of two.
    """

    values: np.ndarray
    exponent: int

    def __add__(self, other: Integers) -> Integers:
        exponent = min(self.exponent, other.exponent)
        return Integers(self._at(exponent) + other._at(exponent), exponent)

    def __sub__(self, other: Integers) -> Integers:
        return self + other * -1

    def __mul__(self, factor: int | Integers) -> Integers:
        """Times a whole number, or times an array of the same or no shape."""
        if isinstance(factor, int):
            return Integers(self.values * factor, self.exponent)
        return Integers(self.values * factor.values, self.exponent + factor.exponent)

    def __matmul__(self, other: Integers) -> Integers:
        return Integers(self.values @ other.values, self.exponent + other.exponent)

    def __getitem__(self, place: int | slice | Sequence[int]) -> Integers:
        return Integers(np.asarray(self.values[place], object), self.exponent)

    @property
    def transposed(self) -> Integers:
        """The transposed matrix."""
        return Integers(self.values.T, self.exponent)

    def entry(self, *place: int) -> Fraction:
        """One entry as a rational number."""
        return _scaled(int(self.values[place]), self.exponent)

    def dot(self, other: Integers) -> Fraction:
        """The sum of all products of corresponding entries."""
        total = int(np.sum(self.values * other.values))
        return _scaled(total, self.exponent + other.exponent)

    def squared(self) -> Fraction:
        """The sum of all squares."""
        return self.dot(self)

    def _at(self, exponent: int) -> np.ndarray:
        return self.values * (1 << (self.exponent - exponent))


def limbs(array: np.ndarray) -> Limbs:
    """The exact value of a finite floating-point matrix."""
    whole, shift, exponent = _integers_of(np.asarray(array, np.float64))
    longest = int((shift + _bit_lengths(whole)).max(initial=1))
    count = -(-longest // _BITS)
    size, sign = np.abs(whole), np.sign(whole)
    cut = np.stack([sign * _cut(size, shift, _BITS * n) for n in range(count)])
    return Limbs(cut, exponent)


def integers(array: np.ndarray) -> Integers:
    """The exact value of a finite floating-point array of any shape."""
    whole, shift, exponent = _integers_of(np.asarray(array, np.float64))
    return Integers(whole.astype(object) * 2 ** shift.astype(object), exponent)


def root_above(square: Fraction) -> Fraction:
    """A rational that is at least the square root, and closer than 2^-60 of it."""
    if square == 0:
        return Fraction(0)
    size = square.numerator.bit_length() - square.denominator.bit_length()
    places = max(0, 128 - size)  # so that the whole root has over 60 bits
    scaled = -((-square.numerator << places * 2) // square.denominator)
    return Fraction(math.isqrt(scaled) + 1, 1 << places)


def _integers_of(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The array as whole 2^(shift + exponent), with odd whole numbers and shift >= 0.

    Raises:
        ValueError: for NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise ValueError("NaN and infinity have no exact value")
    mantissa, power = np.frexp(array)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    # The lowest set bit is a power of two: its exponent counts the trailing zeros.
    zeros = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    there = whole != 0
    whole = np.where(there, whole >> np.where(there, zeros, 0), 0)
    power = power.astype(np.int64) - 53 + zeros
    exponent = int(power[there].min()) if there.any() else 0
    return whole, np.where(there, power - exponent, 0), exponent


def _bit_lengths(whole: np.ndarray) -> np.ndarray:
    """Bit lengths of integers of at most 53 bits, which a double holds exactly."""
    return np.frexp(np.abs(whole).astype(np.float64))[1]


def _cut(size: np.ndarray, shift: np.ndarray, place: int) -> np.ndarray:
    """24 bits of size 2^shift, from bit `place` on."""
    right = place - shift
    lower = (size >> np.clip(right, 0, 63)) & _MASK
    left = np.clip(-right, 0, _BITS)
    upper = (size & (_MASK >> left)) << left
    return np.where(right >= 0, lower, upper)


def _carry(total: np.ndarray) -> None:
    """Brings every limb but the last to [-2^23, 2^23); the value stays the same."""
    for place in range(len(total) - 1):
        carried = (total[place] + _HALF) >> _BITS
        total[place] -= carried << _BITS
        total[place + 1] += carried


def _without_zeros(total: np.ndarray) -> np.ndarray:
    """Without the highest limbs, as far as they are zero everywhere."""
    used = np.flatnonzero(total.reshape(len(total), -1).any(axis=1))
    return total[: used[-1] + 1 if len(used) else 1]


def _scaled(value: int, exponent: int) -> Fraction:
    return (
        Fraction(value << exponent)
        if exponent >= 0
        else Fraction(value, 1 << -exponent)
    )
