"""Validation of what people pass in: on the host, before anything is computed.

JAX clamps out-of-range indices, wraps 2**31 and reads True as 1 without a word, so no
index and no radius reaches a kernel unchecked.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from natgeo.errors import ArgumentError, DataError

# Formats that convert to float64 exactly (bfloat16 and friends register with NumPy
# as custom kinds, so they are recognised by name).
_EXACT_FLOATS = ("float64", "float32", "float16", "bfloat16")


def index(name: str, value: Any, size: int) -> int:
    """A whole number in [0, size); refuses True, 1.0, "3", -1 and size itself."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise ArgumentError(
            f"{name}={value!r} is not an index: expected a whole number "
            f"from 0 to {size - 1}."
        )
    if not 0 <= int(value) < size:
        raise ArgumentError(
            f"{name}={value} is out of range: there are {size}, "
            f"numbered 0 to {size - 1}."
        )
    return int(value)


def count(name: str, value: Any, low: int = 1) -> int:
    """A whole number of at least `low`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or int(value) < low
    ):
        raise ArgumentError(
            f"{name}={value!r} must be a whole number of at least {low}."
        )
    return int(value)


def indices(name: str, values: Any, size: int) -> np.ndarray:
    """Whole numbers in [0, size), [B], as an index array; refuses what `index` does."""
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArgumentError(
            f"{name} of dtype {array.dtype} and shape {array.shape} are no indices: "
            f"expected a list of whole numbers from 0 to {size - 1}."
        )
    bad = np.flatnonzero((array < 0) | (array >= size))
    if len(bad):
        raise ArgumentError(
            f"{name}[{bad[0]}]={array[bad[0]]} is out of range: there are {size}, "
            f"numbered 0 to {size - 1}."
        )
    return array.astype(np.intp)


def nonnegative(name: str, value: Any) -> float:
    """A finite real number that is not negative, as a float."""
    real = isinstance(value, (numbers.Real, np.floating)) and not isinstance(
        value, bool
    )
    if not real:
        raise ArgumentError(f"{name}={value!r} must be a number, not {_kind(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number >= 0):
        raise ArgumentError(f"{name}={value!r} must be finite and not negative.")
    return number


def matrix(name: str, value: Any, width: int | None = None) -> np.ndarray:
    """A finite, floating-point [rows, K] array with at least one row, as NumPy.

    The dtype is kept: float64 is never rounded, and bfloat16 or float16 are exact
    data. Integers, objects, complex numbers and strings are refused.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{name} is not an array: {error}") from None
    floats(name, array)
    if array.ndim != 2:
        raise DataError(
            f"{name} has shape {array.shape}: expected two axes, [examples, features]."
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise DataError(f"{name} is empty: its shape is {array.shape}.")
    if width is not None and array.shape[1] != width:
        raise DataError(
            f"{name} has {array.shape[1]} features per example, the training features "
            f"have {width}. Use the same task, parameters and projector for both."
        )
    finite(name, array)
    return array


def floats(name: str, array: np.ndarray) -> None:
    """Refuses arrays that do not hold real floating-point numbers."""
    if array.dtype.name not in _EXACT_FLOATS:
        raise DataError(
            f"{name} has dtype {array.dtype}: expected float64, float32, float16 or "
            f"bfloat16. Convert it yourself, so that any rounding is your choice."
        )


def finite(name: str, array: np.ndarray, *, start: int = 0) -> None:
    """Refuses NaN and infinity; names the first offending row, counted from `start`."""
    with np.errstate(all="ignore"):
        good = np.isfinite(array)
    if good.all():
        return
    first = tuple(int(i) for i in np.argwhere(~good)[0])
    value = array[first]
    where = f"row {first[0] + start}" + (
        f", column {first[1]}" if len(first) > 1 else ""
    )
    rows = int((~good.reshape(len(array), -1).all(axis=1)).sum())
    raise DataError(
        f"{name} holds {value} at {where} ({rows} of {len(array)} rows affected). "
        f"Remove or repair these examples; natgeo never replaces them silently."
    )


def column(name: str, value: Any, rows: int) -> np.ndarray:
    """A finite floating-point column with one number per example, [rows]."""
    array = np.asarray(value)
    floats(name, array)
    if array.shape != (rows,):
        raise DataError(
            f"{name} has shape {array.shape}: expected one number for each of the "
            f"{rows} examples."
        )
    finite(name, array)
    return array


def _kind(value: Any) -> str:
    return "a string" if isinstance(value, str) else f"a {type(value).__name__}"
