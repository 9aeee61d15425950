"""Self-test of this machine's float64 arithmetic, before any verdict is issued.

The bounds assume round-to-nearest double precision and honest matrix products. A
process that changed the rounding mode, or a BLAS that is wrong on this processor, would
void them; then nothing is certified.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from natgeo.certify.bounds import U, gamma
from natgeo.errors import UnfitEnvironmentError


def require_sound_arithmetic() -> None:
    """Raises unless every check of `self_test` passes (a few ms).

    Raises:
        UnfitEnvironmentError: naming the first check that failed.
    """
    for name, passed in self_test().items():
        if not passed:
            raise UnfitEnvironmentError(
                f"The float64 self-test '{name}' failed on this machine, so no verdict "
                f"can be issued. Run `natgeo doctor`; look for code that changes the "
                f"rounding mode, or for a BLAS that does not fit this processor."
            )


def self_test() -> dict[str, bool]:
    """Named checks of the arithmetic that the bounds rely on: name -> passed."""
    return {
        "round to nearest, ties to even": _rounds_to_nearest(),
        "no extended precision": _is_plain_double(),
        "subnormal numbers are kept": bool(np.float64(2.0**-1074) / 2 * 2 == 0.0)
        and bool(np.float64(2.0**-1030) * np.float64(2.0**10) == 2.0**-1020),
        "dot products within gamma": _dot_products_within_gamma(),
        "matrix products agree with matrix-vector products": _products_are_honest(),
    }


def _rounds_to_nearest() -> bool:
    one, half = np.float64(1), np.float64(U)
    return bool(
        one + half == 1
        and one + np.nextafter(half, 1) == 1 + 2 * U
        and -one - half == -1
        and one - half / 2 == 1
        and (one + 2 * half) + half == 1 + 4 * U
        and np.sqrt(np.float64(2)) == 1.4142135623730951
    )


def _is_plain_double() -> bool:
    x = np.array([1 + 2.0**-30])
    return bool((x * x)[0] == 1 + 2.0**-29)


def _dot_products_within_gamma() -> bool:
    rng = np.random.default_rng(20251209)
    length = 133
    rows = rng.standard_normal((2, length)) * np.exp2(rng.integers(-20, 20, length))
    exact = sum(
        (Fraction(a) * Fraction(b) for a, b in zip(*rows.tolist(), strict=True)),
        Fraction(0),
    )
    room = gamma(length) * float(np.abs(rows[0]) @ np.abs(rows[1])) * 1.001
    found = (float(rows[0] @ rows[1]), float((rows @ rows.T)[0, 1]))
    return all(abs(Fraction(value) - exact) <= Fraction(room) for value in found)


def _products_are_honest() -> bool:
    rng = np.random.default_rng(20251210)
    left, right = rng.standard_normal((150, 260)), rng.standard_normal((260, 70))
    signs = rng.choice([-1.0, 1.0], 70)
    # Freivalds' check: a wrong product almost never survives a random sign vector.
    difference = (left @ right) @ signs - left @ (right @ signs)
    room = gamma(1000) * (np.abs(left) @ (np.abs(right) @ np.ones(70)))
    return bool((np.abs(difference) <= room).all())
