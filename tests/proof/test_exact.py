"""The exact arithmetic against fractions, entry by entry."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from natgeo.proof.exact import integers, limbs, root_above

WIDTHS = {"narrow": 2, "float32": 20, "wide": 300, "widest": 480}


def matrices(rng, width):
    n, k, m = rng.integers(1, 6, 3)
    left = rng.standard_normal((n, k)) * np.exp2(rng.integers(-width, width, (n, k)))
    right = rng.standard_normal((k, m)) * np.exp2(rng.integers(-width, width, (k, m)))
    return left * (rng.random((n, k)) < 0.8), right


def exact(array):
    return [[Fraction(float(x)) for x in row] for row in array]


def values(found):
    unit = Fraction(2) ** found.exponent
    return [[int(x) * unit for x in row] for row in found.values]


def times(left, right):
    columns = list(zip(*right, strict=True))
    return [
        [
            sum((a * b for a, b in zip(row, c, strict=True)), Fraction(0))
            for c in columns
        ]
        for row in left
    ]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_products_of_products_are_exact(rng, width):
    for _ in range(30):
        left, right = matrices(rng, width)
        x, y = limbs(left), limbs(right)
        assert values(x.integers()) == exact(left) == values(integers(left))
        product = times(exact(left), exact(right))
        assert values((x @ y).integers()) == product
        assert values(integers(left) @ integers(right)) == product
        again = times([list(c) for c in zip(*exact(left), strict=True)], product)
        assert values((x.transposed @ (x @ y)).integers()) == again


def test_long_sums_carry(rng):
    ones = np.full((1, 70_000), 1 - 2.0**-53)
    found = values((limbs(ones) @ limbs(ones.T)).integers())
    assert found == [[70_000 * Fraction(1 - 2.0**-53) ** 2]]
    signs = ones * rng.choice([-1.0, 1.0], 70_000)
    found = values((limbs(signs) @ limbs(ones.T)).integers())
    assert found == [[int(np.sign(signs).sum()) * Fraction(1 - 2.0**-53) ** 2]]


def test_subnormal_and_zero():
    array = np.array([[5e-324, 0.0], [-1.5, 2.0**1000]])
    assert values(limbs(array).integers()) == exact(array)
    assert values(limbs(np.zeros((2, 2))).integers()) == exact(np.zeros((2, 2)))


def test_sums_differences_and_dots(rng):
    for _ in range(50):
        a, b = rng.standard_normal((2, 4)) * np.exp2(rng.integers(-60, 60, (2, 4)))
        x, y = integers(a), integers(b)
        pairs = [(Fraction(p), Fraction(q)) for p, q in zip(a, b, strict=True)]
        assert x.dot(y) == sum(p * q for p, q in pairs)
        assert x.entry(2) == pairs[2][0]
        assert (x + y).squared() == sum((p + q) ** 2 for p, q in pairs)
        assert (x * 3 - y).squared() == sum((3 * p - q) ** 2 for p, q in pairs)
        assert (x * y).dot(integers(np.ones(4))) == x.dot(y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_has_no_value(value):
    with pytest.raises(ValueError, match="NaN"):
        limbs(np.array([[value]]))


@pytest.mark.parametrize(
    "square",
    [
        Fraction(2),
        Fraction(1, 3),
        Fraction(4),
        Fraction(10**60, 7),
        Fraction(1, 10**400),
    ],
)
def test_roots_are_above_and_close(square):
    root = root_above(square)
    assert root**2 >= square
    assert (root * (1 - Fraction(1, 2**60))) ** 2 < square
    assert root_above(Fraction(0)) == 0
