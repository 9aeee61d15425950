"""What the command line names: `package.module:function`, and arrays in files."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.errors import ArgumentError, DataError


def call_named(option: str, name: str) -> Any:
    """Imports `package.module:function` and calls it without arguments.

    The current folder is importable, as it is for `python -m`.

    Raises:
        ArgumentError: if the name is malformed or nothing callable is there.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ArgumentError(
            f"{option}={name!r} must look like package.module:function."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"{option}={name!r}: no module named {error.name!r} here. Run natgeo from "
            f"the folder that holds it, or install its package."
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        there = "is not callable" if function is not None else "does not exist"
        raise ArgumentError(
            f"{option}={name!r}: {attribute!r} {there} in {module_name}."
        )
    return function()


def model(option: str, name: str) -> tuple[Any, Any]:
    """The pair `(apply, params)` that the named function returns."""
    value = call_named(option, name)
    if not isinstance(value, tuple) or len(value) != 2 or not callable(value[0]):
        raise ArgumentError(
            f"{option}={name!r} must return (apply, params): a function and its "
            f"parameters; it returned {type(value).__name__}."
        )
    return value


def share(option: str, text: str) -> tuple[int, int]:
    """The pair `(p, P)` of a text `p/P`.

    Raises:
        ArgumentError: if it is not that.
    """
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if match is None:
        raise ArgumentError(
            f"{option}={text!r} must be P/N: part P, from 0, of N, such as 0/4."
        )
    return int(match[1]), int(match[2])


def flags(path: Path, rows: int) -> np.ndarray:
    """Booleans of a `.npy` file, one for each example.

    Raises:
        DataError: if the file is not a plain array of N booleans (or zeros and ones).
    """
    try:
        # Mapped, so that a header which claims too much allocates nothing; and not an
        # archive, which numpy.load would open as well.
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable .npy array: {error}.") from None
    if array.shape != (rows,):
        raise DataError(
            f"{path} has shape {array.shape}: expected one value for each of {rows} "
            f"examples."
        )
    if array.dtype.kind not in "biu" or not np.isin(array, [0, 1]).all():
        raise DataError(f"{path} must hold booleans, or zeros and ones.")
    return np.asarray(array, bool)
