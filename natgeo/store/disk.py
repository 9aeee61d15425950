"""Reading features from disk: immutable shards and a manifest (soundness.md, §7)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import StoreError
from natgeo.store import manifest as files
from natgeo.store.memory import feature_digest


class DiskStore:
    """A complete feature store, opened for reading. Every read verifies a hash.

    Args:
        path: folder of the store.

    Raises:
        StoreError: if there is no store, it is damaged, or its writing did not finish.
    """

    def __init__(self, path: str | os.PathLike):
        self._manifest = files.read_manifest(Path(path))
        if not self._manifest.complete:
            raise StoreError(
                f"The store {path} is not complete: {self._manifest.rows} examples "
                f"are safe. Continue the run that wrote it with resume=True "
                f"(--resume), or delete it and run again."
            )
        if not self._manifest.shards:
            raise StoreError(f"The store {path} holds no examples. Write it again.")
        self.path = Path(path)
        self.shape = (self._manifest.rows, self._manifest.width)
        self.dtype = np.dtype(self._manifest.dtype)
        self.metadata: Mapping[str, Any] = self._manifest.metadata
        self._last: tuple[Any, np.ndarray] = (None, np.empty(0))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a store on disk cannot become an array without a copy")
        return np.concatenate(list(self.blocks(self.shape[0]))).astype(
            dtype or self.dtype, copy=False
        )

    def __repr__(self) -> str:
        n, k = self.shape
        return f"DiskStore({str(self.path)!r}: {n} x {k} {self.dtype})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the per-example columns."""
        return self._manifest.columns

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the features in order, at most `rows` at a time, shard by shard."""
        for number in range(len(self._manifest.shards)):
            shard = self._read("features", number)
            for start in range(0, len(shard), rows):
                yield shard[start : start + rows]

    def rows(self, indices: Any) -> np.ndarray:
        """The features of the given examples, [len(indices), K]."""
        wanted = checks.indices("rows", indices, self.shape[0])
        out = np.empty((len(wanted), self.shape[1]), self.dtype)
        ends = np.cumsum([shard["rows"] for shard in self._manifest.shards])
        home = np.searchsorted(ends, wanted, side="right")
        for number in np.unique(home):
            here = home == number
            first = ends[number] - self._manifest.shards[number]["rows"]
            out[here] = self._read("features", int(number))[wanted[here] - first]
        return out

    def column(self, name: str) -> np.ndarray | None:
        """A per-example column, [N], or None if the store has no such column."""
        if name not in self._manifest.columns:
            return None
        count = len(self._manifest.shards)
        return np.concatenate([self._read(name, number) for number in range(count)])

    def digest(self) -> str:
        """SHA-256 of shape, dtype and feature bytes, recomputed from the shards.

        Raises:
            StoreError: if it is not the one the writer recorded.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        found = feature_digest(self.shape, self.dtype, self.blocks(4096))
        if found != self._manifest.digest:
            raise StoreError(
                f"The shards of {self.path} are each intact but not in the order in "
                f"which they were written. Write the store again."
            )
        return found

    def _read(self, name: str, number: int) -> np.ndarray:
        # One verified shard is kept: scattered rows would read it again and again.
        kept, array = self._last
        if kept == (name, number):
            return array
        array = read_shard(self._manifest, name, number)
        self._last = ((name, number), array)
        return array


def read_shard(manifest: files.Manifest, name: str, number: int) -> np.ndarray:
    """One verified array of one shard: features [rows, K] or a column [rows].

    Raises:
        StoreError: if its file is missing, or its length or hash is not the listed one.
        DataError: if it holds NaN or infinity.
    """
    shard = manifest.shards[number]
    wide = name == "features"
    shape = (shard["rows"], manifest.width) if wide else (shard["rows"],)
    file = manifest.path / files.shard_name(name, number)
    array = files.read_array(file, shard["files"][name], manifest.dtype, shape)
    array = array.reshape(shape)
    checks.finite(f"{file}", array)
    return array
