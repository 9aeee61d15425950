"""The checks of arguments and arrays: what passes, what is refused, in which words."""

import math
from fractions import Fraction

import numpy as np
import pytest

from natgeo import checks
from natgeo.errors import (
    ArgumentError,
    DataError,
    NatgeoError,
    StoreError,
    UnfitEnvironmentError,
)


@pytest.mark.parametrize("value", [0, 4, np.int8(3), np.uint64(4), np.int64(0)])
def test_indices_pass_as_plain_integers(value):
    got = checks.index("target", value, 5)
    assert (got, type(got)) == (int(value), int)


@pytest.mark.parametrize("value", [5, -1, 2**31, 2**70, np.int64(-1), np.uint8(255)])
def test_indices_out_of_range_are_refused(value):
    with pytest.raises(ArgumentError, match=rf"target={value} .*numbered 0 to 4"):
        checks.index("target", value, 5)


@pytest.mark.parametrize(
    "value", [True, np.True_, 1.0, np.float32(1), "3", None, [1], np.array([1]), 1j]
)
def test_what_is_not_an_index_is_refused(value):
    with pytest.raises(ArgumentError, match=r"(?s)target=.* is not an index"):
        checks.index("target", value, 5)


@pytest.mark.parametrize("value", [1, np.int32(7), 2**40])
def test_counts_pass(value):
    got = checks.count("k", value)
    assert (got, type(got)) == (int(value), int)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, np.True_, "2", None, np.nan])
def test_what_is_not_a_count_is_refused(value):
    with pytest.raises(ArgumentError, match="must be a whole number of at least 1"):
        checks.count("k", value)


def test_a_count_may_start_elsewhere():
    assert checks.count("seed", 0, low=0) == 0
    with pytest.raises(ArgumentError, match="at least 3"):
        checks.count("k", 2, low=3)


@pytest.mark.parametrize(
    "value", [0, 0.5, 3, np.float32(0.25), np.float16(2), np.int64(3), Fraction(1, 8)]
)
def test_radii_and_ridges_pass_as_floats(value):
    got = checks.nonnegative("ridge", value)
    assert (got, type(got)) == (float(value), float)


@pytest.mark.parametrize("value", [-1, -1e-300, math.nan, math.inf, -math.inf])
def test_numbers_that_are_negative_or_not_finite_are_refused(value):
    with pytest.raises(ArgumentError, match=r"ridge=.*finite and not negative"):
        checks.nonnegative("ridge", value)


@pytest.mark.parametrize("value", [10**400, Fraction(10**400)], ids=["int", "fraction"])
def test_numbers_beyond_float64_are_refused(value):
    with pytest.raises(ArgumentError, match="ridge="):
        checks.nonnegative("ridge", value)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, [0.1], np.True_])
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(ArgumentError, match=r"ridge=.* must be a number, not a"):
        checks.nonnegative("ridge", value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_matrices_keep_their_dtype(dtype):
    import jax.numpy as jnp

    array = np.ones((2, 3)).astype(jnp.dtype(dtype))
    assert checks.matrix("features", array).dtype.name == dtype
    assert checks.matrix("features", jnp.ones((2, 3), jnp.float32)).shape == (2, 3)
    assert checks.matrix("features", [[1.0]]).shape == (1, 1)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ones(3), r"features has shape \(3,\)"),
        (np.ones((1, 2, 3)), "two axes"),
        (np.float32(1), "two axes"),
        (np.ones((0, 3)), r"empty: its shape is \(0, 3\)"),
        (np.ones((3, 0)), r"empty: its shape is \(3, 0\)"),
        (np.ones((2, 3), int), "int64"),
        (np.ones((2, 3), bool), "bool"),
        (np.ones((2, 3), complex), "complex128"),
        (np.ones((2, 3), object), "object"),
        (np.ones((2, 3), "U3"), "<U3"),
        (np.ones((2, 3), np.longdouble), "expected float64, float32"),
        (None, "object"),
        ("abc", "<U3"),
    ],
)
def test_what_is_not_a_matrix_is_refused(value, words):
    with pytest.raises(DataError, match=words):
        checks.matrix("features", value)


def test_ragged_lists_are_refused():
    with pytest.raises(DataError, match="features"):
        checks.matrix("features", [[1.0], [1.0, 2.0]])


def test_a_width_that_does_not_match_is_refused():
    with pytest.raises(DataError, match=r"3 features per example.*have 4"):
        checks.matrix("features", np.ones((2, 3)), 4)
    assert checks.matrix("features", np.ones((2, 3)), 3).shape == (2, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_first_bad_value_is_named(value, dtype):
    import jax.numpy as jnp

    array = np.ones((6, 4))
    array[4, 2] = array[4, 3] = array[5, 0] = value
    with pytest.raises(DataError, match=r"row 4, column 2 \(2 of 6 rows") as caught:
        checks.finite("features", array.astype(jnp.dtype(dtype)))
    assert str(value) in str(caught.value)


def test_rows_are_counted_from_the_start_of_the_block():
    with pytest.raises(DataError, match="at row 102 "):
        checks.finite("outputs", np.array([0, 1, np.nan]), start=100)


def test_large_and_tiny_values_are_finite():
    checks.finite("x", np.array([[1e308, -5e-324, 0.0]]))
    checks.finite("x", np.array([[1e20, 1e-30]], np.float32))


def test_columns():
    assert checks.column("weights", np.ones(3, np.float32), 3).dtype == np.float32
    with pytest.raises(DataError, match=r"shape \(3,\).*4 examples"):
        checks.column("weights", np.ones(3), 4)
    with pytest.raises(DataError, match="int64"):
        checks.column("weights", np.ones(3, int), 3)
    with pytest.raises(DataError, match="nan at row 1 "):
        checks.column("weights", np.array([0, np.nan]), 2)


def test_every_error_has_its_exit_code_and_a_familiar_base():
    expected = {
        ArgumentError: (2, ValueError),
        DataError: (3, ValueError),
        StoreError: (4, OSError),
        UnfitEnvironmentError: (5, RuntimeError),
    }
    assert set(NatgeoError.__subclasses__()) == set(expected)
    for kind, (code, base) in expected.items():
        assert kind.exit_code == code
        assert issubclass(kind, base)
        assert str(kind("what happened")) == "what happened"
