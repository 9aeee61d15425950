"""Every helper of bounds.py against its exact rational value."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natgeo.certify import bounds
from tests import oracles

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


def exact_gamma(count):
    unit = Fraction(1, 2**53)
    return count * unit / (1 - count * unit)


def check_gamma():
    for count in (1, 2, 3, 7, 512, 4096, 10**6, 2**40, 2**51):
        exact, found = exact_gamma(count), Fraction(bounds.gamma(count))
        assert exact <= found <= exact * (1 + Fraction(1, 2**38))


def check_upward():
    rng = np.random.default_rng(1)
    assert bounds.upward(0.0) > 0
    for count in (1, 2, 10, 300, 1000):
        for _ in range(20):
            x, y = rng.uniform(0, 1, size=(2, count)) * 10.0 ** rng.integers(-9, 9)
            exact = oracles.dot(oracles.fractions(x), oracles.fractions(y))
            running = 0.0
            for a, b in zip(x, y, strict=True):
                running += float(a) * float(b)
            for rounded in (running, float(x @ y)):
                found = Fraction(bounds.upward(rounded))
                assert found >= exact
                assert found <= exact * (1 + Fraction(1, 2**38)) + Fraction(2) ** -899
            root = bounds.upward(math.sqrt(running) / 3)
            assert Fraction(root) ** 2 >= exact / 9


def check_row_norms(rows):
    found = bounds.row_norms(rows)
    assert found.shape == (len(rows),)
    for row, bound in zip(rows, found, strict=True):
        square = sum((Fraction(float(x)) ** 2 for x in row), Fraction(0))
        assert math.isfinite(bound)
        assert Fraction(float(bound)) ** 2 >= square
        room = Fraction(1 + (len(row) + 9) * 2.0**-53) * (1 + Fraction(1, 2**38))
        loose = Fraction(float(bound)) - Fraction(2) ** -899
        assert loose <= 0 or loose**2 <= square * room**2


def wild_rows(count, width, seed):
    """Rows whose entries and rows span nearly all exponents of float64."""
    rng = np.random.default_rng(seed)
    middle = rng.integers(-1040, 980, size=(count, 1))
    spread = rng.integers(-60, 1, size=(count, width))
    return np.ldexp(rng.uniform(0.5, 1, size=(count, width)), middle + spread)


def check_not_below(value, square):
    found = bounds.not_below(value, square)
    assert found >= value
    assert Fraction(found) ** 2 >= square
    below = math.nextafter(found, -math.inf)
    assert found == value or Fraction(below) ** 2 < square


def test_gamma_is_never_below_its_exact_value():
    check_gamma()


def test_gamma_is_infinite_when_the_model_breaks_down():
    assert bounds.gamma(2**52) == np.inf
    assert bounds.gamma(2**60) == np.inf


def test_gamma_grows_with_the_count():
    values = [bounds.gamma(count) for count in range(1, 2000)]
    assert all(a < b for a, b in itertools.pairwise(values))


def test_upward_covers_sums_products_quotients_and_roots():
    check_upward()


def test_upward_keeps_nan_and_infinity():
    assert math.isnan(bounds.upward(math.nan))
    assert bounds.upward(math.inf) == math.inf


@settings(derandomize=True, deadline=None)
@given(st.floats(min_value=0, max_value=1e300))
def test_upward_moves_every_double_up(value):
    assert bounds.upward(value) > value


@pytest.mark.parametrize("width", [1, 2, 7, 64, 513])
def test_row_norms_are_never_below_the_exact_norm(width):
    rng = np.random.default_rng(width)
    check_row_norms(rng.normal(size=(40, width)))
    check_row_norms(wild_rows(40, width, seed=width))


def test_row_norms_span_several_blocks():
    rng = np.random.default_rng(2)
    check_row_norms(rng.normal(size=(2 * 1024 + 3, 2)))


@pytest.mark.parametrize(
    "row",
    [
        [0.0, 0.0],
        [-0.0, 5e-324],
        [2.0**-1074, 2.0**-1073],
        [1e300, 1e-300],
        [8e307, 8e307],
        [1.0, 2.0**-600],
        [-3.0, 4.0],
    ],
)
def test_row_norms_at_the_ends_of_the_range(row):
    check_row_norms(np.array([row]))


def test_row_norms_of_no_rows_are_no_numbers():
    assert bounds.row_norms(np.zeros((0, 3))).shape == (0,)


def test_row_norms_never_hide_nan_or_infinity():
    with np.errstate(all="ignore"):
        found = bounds.row_norms(np.array([[np.nan, 1.0], [np.inf, 1.0]]))
    assert math.isnan(found[0])
    assert not found[1] < np.inf


def test_norm_is_the_frobenius_norm_from_above():
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (3, 4), (60, 50), (7,)):
        array = rng.normal(size=shape)
        exact = sum((Fraction(float(x)) ** 2 for x in array.ravel()), Fraction(0))
        found = Fraction(bounds.norm(array)) ** 2
        assert exact <= found <= exact * (1 + Fraction(1, 2**37))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(min_value=1e-150, max_value=1e150), st.integers(-3, 3))
def test_not_below_stops_at_the_first_double_that_is_large_enough(value, steps):
    start = value
    for _ in range(abs(steps)):
        start = math.nextafter(start, math.copysign(math.inf, steps))
    check_not_below(start, Fraction(value) ** 2)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(FINITE, min_size=1, max_size=6))
def test_row_norms_of_arbitrary_doubles(values):
    row = np.array([values])
    with np.errstate(over="ignore"):
        found = float(bounds.row_norms(row)[0])
    square = sum((Fraction(x) ** 2 for x in values), Fraction(0))
    assert found == np.inf or Fraction(found) ** 2 >= square
