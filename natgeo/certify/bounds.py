"""Upward-rounded arithmetic: the few helpers that every proven bound is made of.

Standard model of floating point with unit roundoff u = 2^-53 (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, sections 2.2 and 3.1). A sum of m products, in
any order, blocked or not, fused or not, is off by at most gamma(m) sum |x_i| |y_i|.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

U = 2.0**-53
# Covers every underflow in what follows, also where a kernel flushes subnormals
# (2^-1022 each): at most 2^60 of them are ever summed in one bounded quantity.
TINY = 2.0**-900
_BLOCK = 1024


def upward(value: Any) -> Any:
    """An upper bound of an expression from its rounded value.

    Valid for sums, products, quotients and square roots of non-negative numbers with
    fewer than 2^11 roundings: their relative error is below 2^11 u / (1 - 2^11 u),
    which is below 2^-41. NaN stays NaN and infinity stays infinity.
    """
    return value * (1 + 2.0**-40) + TINY


def gamma(count: int) -> float:
    """Upper bound of count u / (1 - count u); infinite when count u >= 1/2."""
    return float(upward(count * U / (1 - count * U))) if count * U < 0.5 else np.inf


def row_norms(rows: np.ndarray) -> np.ndarray:
    """Upper bounds of the Euclidean norms of the rows of a float64 array, [B].

    Each row is first scaled by a power of two (exact), so that no square overflows.
    """
    bounds = [
        _block_norms(rows[start : start + _BLOCK])
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate(bounds) if bounds else np.zeros(0)


def _block_norms(rows: np.ndarray) -> np.ndarray:
    largest = np.abs(rows).max(axis=1)
    _, exponents = np.frexp(largest)
    scaled = np.ldexp(rows, -exponents[:, None])
    sums = np.einsum("nk,nk->n", scaled, scaled)
    grown = np.sqrt(sums) * (1 + gamma(rows.shape[1] + 4))
    return upward(np.ldexp(grown, exponents))


def norm_from_below(vector: np.ndarray) -> float:
    """A lower bound of the Euclidean norm of a float64 vector; 0 if it is not finite.

    It is first scaled by a power of two (exact); squares that then underflow are below
    2^-1000 of the largest one.
    """
    largest = float(np.max(np.abs(vector)))
    if not (math.isfinite(largest) and largest > 0):
        return 0.0
    _, exponent = math.frexp(largest)
    scaled = np.ldexp(vector, -exponent)
    found = math.sqrt(float(scaled @ scaled)) * (1 - gamma(len(vector) + 4))
    return math.ldexp(found * (1 - 2.0**-40), exponent)


def norm(array: np.ndarray) -> float:
    """Upper bound of the Euclidean (Frobenius) norm of a float64 array."""
    return float(row_norms(np.reshape(array, (1, -1)))[0])


def not_below(value: float, exact_square: Fraction) -> float:
    """The smallest double at or above `value` whose exact square is >= exact_square."""
    while Fraction(value) ** 2 < exact_square:
        value = float(np.nextafter(value, np.inf))
    return value
