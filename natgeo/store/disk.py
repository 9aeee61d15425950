"""Features on disk: a folder of immutable shards and a manifest (soundness.md, §7)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, StoreError
from natgeo.store import manifest as files
from natgeo.store.memory import digest_tail, feature_digest, little_endian

LOCK = "writer.lock"


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
                f"were written before the run stopped. Delete it and run again."
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
        shard = self._manifest.shards[number]
        wide = name == "features"
        shape = (shard["rows"], self.shape[1]) if wide else (shard["rows"],)
        file = self.path / files.shard_name(name, number)
        array = files.read_array(file, shard["files"][name], self.dtype.name, shape)
        array = array.reshape(shape)
        checks.finite(f"{file}", array)
        self._last = ((name, number), array)
        return array


class DiskWriter:
    """Writes a store, shard by shard; the store exists for readers after `close`.

    Args:
        path: folder to make; it must not exist or be empty.
        metadata: what produces the features, as plain JSON values.
        shard_rows: examples per shard.

    Raises:
        StoreError: if the folder is in use, already holds something, or cannot be
            written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        metadata: Mapping[str, Any] | None = None,
        *,
        shard_rows: int = 8192,
    ):
        self.path = Path(path)
        self._shard_rows = checks.count("shard_rows", shard_rows)
        self._metadata = dict(metadata or {})
        try:
            json.dumps(self._metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"metadata must be plain JSON values: {error}."
            ) from None
        self._pending: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._manifest: files.Manifest | None = None
        self._sha = hashlib.sha256()
        self._claim()

    def __enter__(self) -> DiskWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def append(
        self, features: np.ndarray, columns: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Adds examples [B, K] and their columns [B]; writes shards as they fill."""
        self._refuse_if_closed()
        features = checks.matrix("features", features)
        columns = {
            files.column_name(name): checks.column(
                f"column {name!r}", value, len(features)
            )
            for name, value in (columns or {}).items()
        }
        if self._manifest is None:
            if features.dtype.name not in files.DTYPES:
                raise ArgumentError(
                    f"A store on disk holds {', '.join(files.DTYPES)}, not "
                    f"{features.dtype}. Convert the features to float32, exactly."
                )
            self._manifest = files.Manifest(
                width=features.shape[1],
                dtype=features.dtype.name,
                columns=tuple(sorted(columns)),
                metadata=self._metadata,
                path=self.path,
            )
        expected = (self._manifest.width, self._manifest.dtype, self._manifest.columns)
        seen = (features.shape[1], features.dtype.name, tuple(sorted(columns)))
        if seen != expected:
            raise StoreError(
                f"{self.path}: this block has (width, dtype, columns) {seen}, "
                f"the blocks before it {expected}."
            )
        for name, value in columns.items():
            if value.dtype != features.dtype:
                raise ArgumentError(
                    f"Column {name!r} is {value.dtype} and the features are "
                    f"{features.dtype}: a store has one dtype. Convert one of them."
                )
        self._pending.append((features, columns))
        while sum(len(block) for block, _ in self._pending) >= self._shard_rows:
            self._flush(self._shard_rows)

    def close(self) -> DiskStore:
        """Writes what is pending, marks the store complete and opens it."""
        self._refuse_if_closed()
        if self._manifest is None:
            self.abandon()
            raise StoreError(f"{self.path}: there were no examples to write.")
        if self._pending:
            self._flush(self._shard_rows)
        shape = (self._manifest.rows, self._manifest.width)
        self._sha.update(digest_tail(shape, np.dtype(self._manifest.dtype)))
        self._replace_manifest(
            dataclasses.replace(
                self._manifest, complete=True, digest=self._sha.hexdigest()
            )
        )
        self.abandon()
        return DiskStore(self.path)

    def abandon(self) -> None:
        """Gives the writer lock back; what was written so far stays, incomplete."""
        (self.path / LOCK).unlink(missing_ok=True)

    def _refuse_if_closed(self) -> None:
        if self._manifest is not None and self._manifest.complete:
            raise StoreError(f"{self.path} is closed: a finished store never changes.")

    def _claim(self) -> None:
        lock = self.path / LOCK
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if lock.exists():
                raise StoreError(
                    f"{self.path} is being written by process {lock.read_text()!r}. "
                    f"If that process is gone, delete {lock} and the unfinished store."
                )
            if any(self.path.iterdir()):
                raise StoreError(
                    f"{self.path} already holds files. Name another folder, or delete "
                    f"this one to start again."
                )
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if not self.path.is_dir():
                raise StoreError(f"{self.path} is a file, not a folder.") from None
            raise StoreError(f"{self.path} is being written by another run.") from None
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"Cannot write {self.path}: {error.strerror}.") from None
        with os.fdopen(handle, "w") as file:
            file.write(str(os.getpid()))

    def _flush(self, rows: int) -> None:
        assert self._manifest is not None
        features = np.concatenate([block for block, _ in self._pending])
        columns = {
            name: np.concatenate([values[name] for _, values in self._pending])
            for name in self._manifest.columns
        }
        arrays = {"features": features, **columns}
        number, entries = len(self._manifest.shards), {}
        for name, array in arrays.items():
            part = array[:rows]
            body = little_endian(part).tobytes()
            data = files.npy_header(part.dtype.name, part.shape) + body
            files.write_atomically(self.path / files.shard_name(name, number), data)
            entries[name] = {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        shard = {"rows": len(features[:rows]), "files": entries}
        self._replace_manifest(
            dataclasses.replace(self._manifest, shards=(*self._manifest.shards, shard))
        )
        # Only now: a full disk leaves the writer as it was, able to try again.
        self._sha.update(little_endian(features[:rows]).tobytes())
        left = {name: array[rows:] for name, array in columns.items()}
        self._pending = [(features[rows:], left)] if len(features) > rows else []

    def _replace_manifest(self, manifest: files.Manifest) -> None:
        files.write_atomically(self.path / files.MANIFEST, manifest.to_json())
        self._manifest = manifest
