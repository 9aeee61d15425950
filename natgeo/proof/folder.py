"""Reads the files of a certificate; nothing in them is trusted before it is checked.

Files are opened by names of our own, never by names from a file, and no link is
followed. The JSON must be byte for byte the one canonical text of its contents, which
refuses duplicate keys, numbers written in another way and NaN at once. Arrays are
compared with the one header that they may have before any memory is taken.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from natgeo.errors import StoreError
from natgeo.proof.language import Malformed, exactly, whole
from natgeo.store.manifest import read_array, read_regular_file

FLOATS = ("float64", "float32", "float16")
_LARGEST_JSON = 64 * 2**20
_HASH = re.compile(r"[0-9a-f]{64}")
# Names are letters and digits, so that no name can leave the folder.
_ARRAY = re.compile(r"[a-z]{1,12}(-[0-9]{1,6})?")


def canonical(body: Any) -> bytes:
    """The one text of a certificate's contents."""
    text = json.dumps(body, sort_keys=True, indent=1, allow_nan=False)
    return text.encode("ascii") + b"\n"


def read_json(file: Path) -> Any:
    """The contents of a canonical JSON file without floats.

    Raises:
        Malformed: if it is anything else.
    """
    try:
        data = read_regular_file(file, largest=_LARGEST_JSON)
    except StoreError as error:
        raise Malformed(str(error)) from None
    try:
        body = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
        if canonical(body) != data:
            raise Malformed(f"{file} is not the canonical text of its contents")
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"{file} is not readable: {error}") from None
    return body


def read_listed(folder: Path, name: str, entry: Any) -> np.ndarray:
    """An array of the folder, as `arrays` lists it; finite if it holds floats.

    Raises:
        Malformed: if the file is not exactly that array.
    """
    if not _ARRAY.fullmatch(name):
        raise Malformed(f"arrays holds {name!r}, which is not a name of an array")
    exactly(entry, ("dtype", "sha256", "shape"), f"arrays.{name}")
    sha256(entry["sha256"], f"arrays.{name}")
    shape = _shape(entry["shape"], f"arrays.{name}.shape")
    if entry["dtype"] not in (*FLOATS, "int32") or len(shape) not in (1, 2):
        raise Malformed(f"arrays.{name} has an unknown dtype or rank")
    file = folder / f"{name}.npy"
    items = math.prod(shape)
    size = items * np.dtype(entry["dtype"]).itemsize
    try:
        header = file.lstat().st_size - size
        if not 0 < header < 1000:
            raise Malformed(f"{file} does not have the length of its array")
        listed = {"bytes": header + size, "sha256": entry["sha256"]}
        array = read_array(file, listed, entry["dtype"], tuple(shape))
    except (StoreError, OSError) as error:
        raise Malformed(f"{error}") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Malformed(f"{file} holds NaN or infinity")
    return array.reshape(shape)


def sha256(value: Any, where: str) -> str:
    """A SHA-256 as 64 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise Malformed(f"{where} has no SHA-256 of 64 lower-case digits")
    return value


def _shape(value: Any, where: str) -> list[int]:
    if not isinstance(value, list):
        raise Malformed(f"{where} is not a list of whole numbers")
    return [whole(item, where) for item in value]


def _refuse(text: str) -> NoReturn:
    raise Malformed(f"it holds the number {text}: floats are hexadecimal texts")
