"""Features in memory, with the face of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from natgeo import checks


class MemoryStore:
    """Features [N, K] and per-example columns held in memory.

    Args:
        features: finite floating-point features, [N, K]; kept in their own dtype.
        columns: named per-example numbers, [N] each. `outputs` is the value f of the
            task, `weights` its residual weight r; certificates use `weights` if
            present and r = 1 otherwise.
        metadata: what produced the features; kept, never interpreted.

    Raises:
        DataError: if anything is not finite, not floating point or not aligned.
    """

    def __init__(
        self,
        features: Any,
        columns: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ):
        self._features = _frozen(checks.matrix("features", features))
        self._columns = {
            name: _frozen(
                checks.column(f"column {name!r}", values, len(self._features))
            )
            for name, values in (columns or {}).items()
        }
        self.metadata: Mapping[str, Any] = dict(metadata or {})
        self.shape: tuple[int, int] = self._features.shape
        self.dtype = self._features.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._features, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        names = ", ".join(self._columns) or "no columns"
        return f"MemoryStore({self.shape[0]} x {self.shape[1]} {self.dtype}; {names})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the per-example columns."""
        return tuple(self._columns)

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the features in order, at most `rows` at a time."""
        for start in range(0, self.shape[0], rows):
            yield self._features[start : start + rows]

    def rows(self, indices: Any) -> np.ndarray:
        """The features of the given examples, [len(indices), K]."""
        return self._features[checks.indices("rows", indices, self.shape[0])]

    def column(self, name: str) -> np.ndarray | None:
        """A per-example column, [N], or None if the store has no such column."""
        return self._columns.get(name)

    def digest(self) -> str:
        """SHA-256 of shape, dtype and feature bytes."""
        return feature_digest(self.shape, self.dtype, self.blocks(4096))


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only array that the caller cannot change behind a certificate's back."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:  # a read-only view of writable memory counts
            array = array.copy()
            array.flags.writeable = False
            break
        owner = owner.base
    return array


def feature_digest(
    shape: tuple[int, int], dtype: np.dtype, blocks: Iterator[np.ndarray]
) -> str:
    """SHA-256 of the row-major little-endian feature bytes, then `N K dtype`.

    It depends on the data alone, not on how it is cut into blocks or shards.
    """
    sha = hashlib.sha256()
    for block in blocks:
        sha.update(little_endian(block).tobytes())
    sha.update(digest_tail(shape, dtype))
    return sha.hexdigest()


def little_endian(array: np.ndarray) -> np.ndarray:
    """The same numbers, contiguous and in the byte order that is hashed and stored."""
    order = array.dtype.newbyteorder("<") if array.dtype.kind == "f" else array.dtype
    return np.ascontiguousarray(array.astype(order, copy=False))


def digest_tail(shape: tuple[int, int], dtype: np.dtype) -> bytes:
    """What ends the hash, so that no two shapes or dtypes share a digest."""
    return f"{shape[0]} {shape[1]} {dtype.name}\n".encode()


def as_store(name: str, value: Any) -> Any:
    """A store as it is; anything else becomes a `MemoryStore` of that array."""
    if hasattr(value, "blocks") and hasattr(value, "column"):
        return value
    return MemoryStore(checks.matrix(name, value))
