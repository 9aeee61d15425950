"""What float64 arithmetic can lose: proven bounds of norms, sums and quotients.

For round-to-nearest double precision, a sum of m products in any order is off by at
most gamma(m) sum |x||y|, gamma(m) = m u / (1 - m u), u = 2^-53 (Higham 2002, section
3.1). Written apart from `natgeo.certify`, which it checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo.errors import UnfitEnvironmentError
from natgeo.proof.exact import root_above

U = 2.0**-53


@dataclass(frozen=True, eq=False)
class Rows:
    """Computed rows with upper bounds of their norms, [B], and of their errors, [B]."""

    rows: np.ndarray
    norms: np.ndarray
    errors: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """Upper bounds of the norms of the exact rows."""
        return up(self.norms + self.errors)


def require_sound_arithmetic() -> None:
    """Round-to-nearest doubles with subnormals, and a matrix product that adds up.

    Raises:
        UnfitEnvironmentError: if one of these fails on this machine.
    """
    one, half = np.float64(1), np.float64(U)
    rounds = one + half == 1 and one + np.nextafter(half, 1) == 1 + 2 * U
    tiny = np.float64(2.0**-1030) * np.float64(2.0**10) == 2.0**-1020
    rng = np.random.default_rng(20251209)
    left, right = rng.integers(-(2**20), 2**20, (2, 130, 130))
    honest = (left.astype(float) @ right.astype(float) == left @ right).all()
    if not (rounds and -one - half == -1 and tiny and honest):
        raise UnfitEnvironmentError(
            "Float64 arithmetic is not sound on this machine, so nothing can be "
            "checked with it. Run `natgeo doctor`."
        )


def up(value):
    """Above the exact value of an expression in non-negative numbers."""
    return value * (1 + 2.0**-40) + 2.0**-900


def down(value):
    """Below the exact value of a product, quotient or root of non-negative numbers."""
    return value * (1 - 2.0**-40)


def gamma(count: int) -> float:
    """An upper bound of count u / (1 - count u)."""
    return float(up(count * U / (1 - count * U)))


def row_norms(rows: np.ndarray) -> np.ndarray:
    """Upper bounds of the norms of rows, scaled so that no square overflows."""
    exponents = np.frexp(np.abs(rows).max(axis=1))[1]
    scaled = np.ldexp(rows, -exponents[:, None])
    sizes = np.sqrt(np.einsum("bk,bk->b", scaled, scaled))
    return up(np.ldexp(sizes * (1 + gamma(rows.shape[1] + 4)), exponents))


def row_norms_below(rows: np.ndarray) -> np.ndarray:
    """Lower bounds of the norms of rows, scaled as `row_norms`; 0 where tiny, [B]."""
    exponents = np.frexp(np.abs(rows).max(axis=1))[1]
    scaled = np.ldexp(rows, -exponents[:, None])
    sizes = np.sqrt(np.einsum("bk,bk->b", scaled, scaled))
    found = np.ldexp(down(sizes * (1 - gamma(rows.shape[1] + 4))), exponents)
    # What is not a number compares false.
    return np.where((found > 2.0**-900) & (found < 2.0**900), found, 0.0)


def float_root(square: Fraction) -> float:
    """A double whose exact square is at least the given one."""
    # Not the root of a double: a square that underflows has a root that does not.
    exact = root_above(square)
    root = float(exact)
    return root if root >= exact else math.nextafter(root, math.inf)


def take(rows: Rows, index: np.ndarray) -> Rows:
    """Some of the rows, in the order of `index`."""
    return Rows(rows.rows[index], rows.norms[index], rows.errors[index])


def joined(parts: list[Rows]) -> Rows:
    """All rows of the parts, one part after another."""
    return Rows(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.norms for part in parts]),
        np.concatenate([part.errors for part in parts]),
    )
