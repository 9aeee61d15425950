"""The manifest of a disk store: what is written, read and believed.

Store contract (soundness.md, section 7): shards are immutable, each with its length and
SHA-256 here; the manifest is replaced last and atomically, so a store that opens is a
store whose every shard was complete. Nothing in a manifest is trusted before it is
checked: names are patterns, sizes must agree with each other, and no link is followed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.errors import StoreError

FORMAT = "natgeo-store"
VERSION = 1
MANIFEST = "manifest.json"
DTYPES = ("float64", "float32", "float16")
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,40}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LARGEST_MANIFEST = 64 * 2**20


@dataclass(frozen=True)
class Manifest:
    """Contents of `manifest.json`; `shards` holds one mapping per shard.

    Every shard but the last of a complete store has `shard_rows` rows (0: not known).
    A shard may say what it was made from: `inputs`, a SHA-256. The manifest of one part
    of a store says which, `index` and `of`, and once it is complete what the whole is:
    `examples`, their number, and `inputs`, the SHA-256 of all of them (see `parts`).
    """

    width: int
    dtype: str
    columns: tuple[str, ...]
    metadata: Mapping[str, Any]
    shards: tuple[Mapping[str, Any], ...] = ()
    digest: str = ""
    complete: bool = False
    shard_rows: int = 0
    part: Mapping[str, Any] | None = None
    path: Path = field(default=Path("."), compare=False)

    @property
    def rows(self) -> int:
        """Number of examples in all shards."""
        return sum(shard["rows"] for shard in self.shards)

    def first_row(self, number: int) -> int:
        """Index, in the whole store, of the first example of a shard."""
        if self.part is None:
            return sum(shard["rows"] for shard in self.shards[:number])
        return (number * self.part["of"] + self.part["index"]) * self.shard_rows

    def to_json(self) -> bytes:
        """Canonical JSON; NaN and infinity are refused."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "width": self.width,
            "dtype": self.dtype,
            "columns": list(self.columns),
            "complete": self.complete,
            "digest": self.digest,
            "metadata": dict(self.metadata),
            "shard_rows": self.shard_rows,
            "shards": [dict(shard) for shard in self.shards],
        }
        if self.part is not None:
            body["part"] = dict(self.part)
        return json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()


def shard_name(column: str, number: int) -> str:
    """File name of one array of one shard."""
    return f"{column}-{number:05d}.npy"


def column_name(name: str) -> str:
    """A column name that is safe as a file name.

    Raises:
        StoreError: if it is not lower-case letters, digits and underscores.
    """
    if not isinstance(name, str) or not _COLUMN.fullmatch(name) or name == "features":
        raise StoreError(
            f"{name!r} is not a column name: use lower-case letters, digits and _."
        )
    return name


def read_manifest(path: Path) -> Manifest:
    """Reads and checks the manifest of the store at `path`.

    Raises:
        StoreError: if there is none, or it is damaged, too new or inconsistent.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise StoreError(f"No store at {path}: it is not a folder.")
    if not file.exists():
        raise StoreError(f"No store at {path}: {MANIFEST} is missing.")
    try:
        body = json.loads(read_regular_file(file, largest=_LARGEST_MANIFEST))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not readable JSON: {error}.") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise StoreError(f"{file} is not the manifest of a natgeo store.")
    if body.get("version") != VERSION:
        raise StoreError(
            f"{file} has format version {body.get('version')!r}; this natgeo reads "
            f"version {VERSION}. Install the natgeo that wrote it, or write it again."
        )
    try:
        return _checked(body, path)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{file} is damaged: {error}. Write the store again."
        ) from None


def _checked(body: Mapping[str, Any], path: Path) -> Manifest:
    width, dtype, columns = body["width"], body["dtype"], body["columns"]
    if type(width) is not int or width < 1 or dtype not in DTYPES:
        raise ValueError(f"width {width!r} or dtype {dtype!r} cannot be")
    if not isinstance(columns, list) or not isinstance(body["metadata"], dict):
        raise ValueError("columns must be a list and metadata an object")
    names = {"features", *(column_name(name) for name in columns)}
    shard_rows = body.get("shard_rows", 0)
    if type(shard_rows) is not int or shard_rows < 0:
        raise ValueError(f"shard_rows {shard_rows!r} cannot be")
    for number, shard in enumerate(body["shards"]):
        if type(shard["rows"]) is not int or shard["rows"] < 1:
            raise ValueError(f"shard {number} has {shard['rows']!r} rows")
        if set(shard["files"]) != names:
            raise ValueError(f"shard {number} does not hold exactly {sorted(names)}")
        for entry in shard["files"].values():
            if type(entry["bytes"]) is not int or not _HASH.fullmatch(entry["sha256"]):
                raise ValueError(f"shard {number} has no valid length and hash")
        if "inputs" in shard and not _HASH.fullmatch(shard["inputs"]):
            raise ValueError(f"shard {number} has no valid hash of its inputs")
    if "part" in body:
        _check_part(body["part"], shard_rows, body["complete"] is True)
    return Manifest(
        width=width,
        dtype=dtype,
        columns=tuple(columns),
        metadata=body["metadata"],
        shards=tuple(body["shards"]),
        digest=body["digest"],
        complete=body["complete"] is True,
        shard_rows=shard_rows,
        part=body.get("part"),
        path=path,
    )


def _check_part(part: Mapping[str, Any], shard_rows: int, complete: bool) -> None:
    index, of = part["index"], part["of"]
    if type(index) is not int or type(of) is not int or not 0 <= index < of:
        raise ValueError(f"part {index!r} of {of!r} cannot be")
    if shard_rows < 1:
        raise ValueError(f"a part needs shard_rows, not {shard_rows}")
    if not complete:
        return
    if type(part["examples"]) is not int or not _HASH.fullmatch(part["inputs"]):
        raise ValueError("a complete part has a number of examples and their hash")


def read_regular_file(path: Path, *, largest: int | None = None) -> bytes:
    """The bytes of a plain file inside the store; symbolic links are not followed.

    Raises:
        StoreError: if it is missing, a link, unreadable, or larger than `largest`.
    """
    try:
        # Not blocking, so that a pipe in place of a file cannot hang the reader.
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, os.O_RDONLY | flags)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StoreError(f"Cannot read {path}: it is not a regular file.")
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from None
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise StoreError(
                f"{path} has {size} bytes, at most {largest} are expected."
            )
        return file.read()


def read_array(path: Path, entry: Mapping[str, Any], dtype: str, shape: tuple):
    """One array of a shard, verified against its length, hash, dtype and shape.

    The header of an untrusted `.npy` may claim anything, so nothing is allocated from
    it: the bytes are compared with what the manifest allows and then viewed.

    Raises:
        StoreError: naming the file and what does not agree.
    """
    data = read_regular_file(path, largest=entry["bytes"])
    if len(data) != entry["bytes"]:
        raise StoreError(
            f"{path} has {len(data)} bytes, its manifest says {entry['bytes']}: it is "
            f"truncated. Write the store again."
        )
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise StoreError(
            f"{path} does not match its SHA-256: it was changed or damaged. "
            f"Write the store again."
        )
    expected = npy_header(dtype, shape)
    size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if not data.startswith(expected) or len(data) != len(expected) + size:
        raise StoreError(f"{path} does not hold a {dtype} array of shape {shape}.")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=len(expected))


def npy_header(dtype: str, shape: tuple) -> bytes:
    """The one `.npy` header that natgeo writes for this dtype and shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {
            "descr": np.dtype(dtype).newbyteorder("<").str,
            "fortran_order": False,
            "shape": tuple(shape),
        },
    )
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    """Makes `path` hold `data` completely or not at all, even if power is lost.

    Write to a temporary name, fsync, rename, fsync the folder.

    Raises:
        StoreError: if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.open(temporary, flags, 0o666)
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from None
    except BaseException:  # an interrupt
        temporary.unlink(missing_ok=True)
        raise


def write_all(handle: int, data: bytes) -> None:
    """Writes every byte; a disk that is nearly full may take only some of them."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
