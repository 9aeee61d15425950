"""Reading features from disk: immutable shards and a manifest (soundness.md, §7)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import StoreError
from natgeo.store import manifest as files
from natgeo.store import parts
from natgeo.store.memory import digest_tail, little_endian


class DiskStore:
    """A complete feature store, opened for reading. Every read verifies a hash.

    A store that several processes wrote is joined from its parts (`natgeo.store.parts`)
    and reads as if one process had written it.

    Args:
        path: folder of the store.

    Raises:
        StoreError: if there is no store, it is damaged, or its writing did not finish.
    """

    def __init__(self, path: str | os.PathLike):
        self._manifests = parts.read_manifests(Path(path))
        self._shards = parts.in_order(self._manifests)
        first = self._manifests[0]
        if not self._shards and first.part is None:
            raise StoreError(f"The store {path} holds no examples. Write it again.")
        self.path = Path(path)
        self.shape = (sum(m.rows for m in self._manifests), first.width)
        self.dtype = np.dtype(first.dtype)
        self.metadata: Mapping[str, Any] = first.metadata
        self._last: tuple[Any, np.ndarray] = (None, np.empty(0))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a store on disk cannot become an array without a copy")
        out = np.empty(self.shape, dtype or self.dtype)
        start = 0
        for block in self.blocks(self.shape[0]):
            out[start : start + len(block)] = block
            start += len(block)
        return out

    def __repr__(self) -> str:
        n, k = self.shape
        return f"DiskStore({str(self.path)!r}: {n} x {k} {self.dtype})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the per-example columns."""
        return self._manifests[0].columns

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the features in order, at most `rows` at a time, shard by shard."""
        for place in range(len(self._shards)):
            shard = self._read("features", place)
            for start in range(0, len(shard), rows):
                yield shard[start : start + rows]

    def rows(self, indices: Any) -> np.ndarray:
        """The features of the given examples, [len(indices), K]."""
        wanted = checks.indices("rows", indices, self.shape[0])
        out = np.empty((len(wanted), self.shape[1]), self.dtype)
        sizes = [self._manifests[m].shards[n]["rows"] for m, n in self._shards]
        ends = np.cumsum(sizes)
        home = np.searchsorted(ends, wanted, side="right")
        for place in np.unique(home):
            here = home == place
            first = ends[place] - sizes[place]
            out[here] = self._read("features", int(place))[wanted[here] - first]
        return out

    def column(self, name: str) -> np.ndarray | None:
        """A per-example column, [N], or None if the store has no such column."""
        if name not in self.columns:
            return None
        count = len(self._shards)
        return np.concatenate(
            [self._read(name, place) for place in range(count)]
            or [np.empty(0, self.dtype)]
        )

    def digest(self) -> str:
        """SHA-256 of shape, dtype and feature bytes, recomputed from the shards.

        Raises:
            StoreError: if it is not the one the writer recorded.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        whole = hashlib.sha256()
        own = [hashlib.sha256() for _ in self._manifests]
        for place, (part, _) in enumerate(self._shards):
            data = little_endian(self._read("features", place))
            own[part].update(data.data)
            if len(own) > 1:
                whole.update(data.data)
        for manifest, sha in zip(self._manifests, own, strict=True):
            sha.update(digest_tail((manifest.rows, manifest.width), self.dtype))
            if sha.hexdigest() != manifest.digest:
                raise StoreError(
                    f"The shards of {manifest.path} are each intact but not in the "
                    f"order in which they were written. Write the store again."
                )
        if len(own) == 1:
            return self._manifests[0].digest
        whole.update(digest_tail(self.shape, self.dtype))
        return whole.hexdigest()

    def part(self, index: int) -> Iterator[np.ndarray]:
        """Yields the features of one part, shard by shard; for sums over the parts."""
        for place, (part, _) in enumerate(self._shards):
            if part == index:
                yield self._read("features", place)

    @property
    def parts(self) -> int:
        """How many processes wrote the store."""
        return len(self._manifests)

    def _read(self, name: str, place: int) -> np.ndarray:
        # One verified shard is kept: scattered rows would read it again and again.
        kept, array = self._last
        if kept == (name, place):
            return array
        self._last = (None, np.empty(0))  # so that never two are held
        part, number = self._shards[place]
        array = read_shard(self._manifests[part], name, number)
        self._last = ((name, place), array)
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
