"""Writing features to disk, shard by shard, so that a run can be stopped and continued.

Shards are written first and the manifest after them, each atomically: whatever the
manifest lists is safe, and everything after it is written again by `resume=True`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, StoreError
from natgeo.store import lock, recovery
from natgeo.store import manifest as files
from natgeo.store.disk import DiskStore, read_shard
from natgeo.store.memory import digest_tail
from natgeo.store.parts import Share, refuse_other_contents
from natgeo.store.shards import Block, block_of, split, write_shard


class DiskWriter:
    """Writes a store, shard by shard; the store exists for readers after `close`.

    Args:
        path: folder to make; it must not exist or be empty, unless `resume`.
        metadata: what produces the features, as plain JSON values.
        shard_rows: examples per shard.
        resume: go on with the unfinished store at `path`, if there is one: its shards
            are verified and kept, `stored` says how many examples they hold, and the
            next one appended is the one after them. A complete store is kept whole.
        share: which of the processes that write the store together this one is; None
            for the only one. `path` is the folder of the whole, and this writer's part
            is `share.folder(path)`.

    Raises:
        StoreError: if the folder is in use, already holds something, cannot be
            written, or was begun with other metadata or `shard_rows`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        metadata: Mapping[str, Any] | None = None,
        *,
        shard_rows: int = 8192,
        resume: bool = False,
        share: Share | None = None,
    ):
        self.path = Path(path)
        self._part: dict[str, Any] | None = None
        if share is not None:
            refuse_other_contents(self.path, share)
            self.path = share.folder(self.path)
            self._part = {"index": share.index, "of": share.of}
        self._shard_rows = checks.count("shard_rows", shard_rows)
        try:
            text = json.dumps(dict(metadata or {}), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"metadata must be plain JSON values: {error}."
            ) from None
        self._metadata = json.loads(text)  # as a manifest gives it back
        self._pending: list[Block] = []
        self._sha = hashlib.sha256()
        self._locked = self._closed = False
        self._listed = True  # whether the manifest on disk is `_manifest`
        self._manifest = self._claim(resume)
        self._check = recovery.InputCheck(self._manifest) if self._manifest else None

    def __enter__(self) -> DiskWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    @property
    def stored(self) -> int:
        """Number of examples that are safe in shards."""
        return 0 if self._manifest is None else self._manifest.rows

    @property
    def complete(self) -> bool:
        """Whether the store is finished, so that nothing can be appended."""
        return self._manifest is not None and self._manifest.complete

    def head(self, rows: int) -> np.ndarray:
        """Features of the first stored examples, [at most rows, K]."""
        assert self._manifest is not None
        return read_shard(self._manifest, "features", 0)[:rows]

    def recognize(self, rows: int, inputs: bytes) -> None:
        """Compares the next `rows` stored examples with what they would be made from.

        Raises:
            StoreError: if the data have changed.
        """
        assert self._check is not None
        self._check.add(rows, inputs)

    @property
    def begun(self) -> bool:
        """Whether the store has a manifest, which says what it will hold."""
        return self._manifest is not None

    def begin(self, width: int, dtype: np.dtype, columns: Iterable[str]) -> None:
        """Writes the first manifest; for a part, which may get no examples."""
        if not self.begun:
            self._replace_manifest(self._empty(width, dtype.name, columns))

    def append(
        self,
        features: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        *,
        inputs: bytes = b"",
    ) -> None:
        """Adds examples and writes shards as they fill.

        Args:
            features: [B, K].
            columns: per-example numbers, [B] each.
            inputs: digest of what the block was made from, for `recognize`; a block
                that has one must not reach over the end of a shard.

        Raises:
            ArgumentError: for a dtype that cannot be stored, or a block over a shard's
                end.
            DataError: for features or columns that are not finite numbers.
            StoreError: if the block does not fit those before it, the store is closed,
                or the disk is full; what the manifest lists stays safe.
        """
        self._refuse_if_closed()
        block = block_of(features, columns, inputs)
        manifest = self._manifest_for(block)
        waiting, rows = self._waiting() % self._shard_rows, len(block.features)
        if inputs and waiting + rows > self._shard_rows:
            raise ArgumentError(
                f"A block of {rows} examples reaches over the end of a shard "
                f"of {self._shard_rows}. Make shard_rows a multiple of the blocks."
            )
        self._pending.append(block)
        if self._manifest is None:
            self._manifest, self._listed = manifest, False
        if not self._listed:
            # Before any shard: what a killed run leaves then always names its run.
            self._replace_manifest(manifest)
        while self._waiting() >= self._shard_rows:
            self._flush(self._shard_rows)

    def close(self, examples: int = 0, inputs: str = "") -> DiskStore:
        """Writes what is pending, marks the store complete and opens it.

        Args:
            examples: of a part: how many examples all parts hold together.
            inputs: of a part: SHA-256 of what all of them were made from.

        Raises:
            StoreError: if nothing was written, the disk is full, or the part was
                complete and belongs to other data.
        """
        if self._part is not None:
            self._part = {**self._part, "examples": examples, "inputs": inputs}
        if self.complete:
            if self._closed:
                self._refuse_if_closed()
            self._refuse_other_part()
            self._closed = True
            self.abandon()
            return DiskStore(self.path)  # it was complete when it was taken up
        something = self._manifest and (self._pending or self._manifest.shards)
        if self._manifest is None or not (something or self._part):
            self.abandon()
            raise StoreError(
                f"{self.path}: there were no examples to write. Give it some data."
            )
        while self._waiting() > self._shard_rows:  # a disk was full, and is not now
            self._flush(self._shard_rows)
        self._flush(self._shard_rows, last=True)
        self._closed = True
        self.abandon()
        return DiskStore(self.path)

    def abandon(self) -> None:
        """Gives the writer lock back; what was written so far stays, incomplete."""
        if self._locked:
            self._locked = False
            lock.release(self.path)

    def _waiting(self) -> int:
        return sum(len(block.features) for block in self._pending)

    def _refuse_if_closed(self) -> None:
        if self.complete:
            raise StoreError(f"{self.path} is closed: a finished store never changes.")

    def _refuse_other_part(self) -> None:
        assert self._manifest is not None
        if self._manifest.part != self._part:
            raise StoreError(
                f"The data changed: {self.path} is a complete part of a store of other "
                f"examples. Give the same data in the same order, or name another "
                f"folder."
            )

    def _claim(self, resume: bool) -> files.Manifest | None:
        found = recovery.existing(self.path, resume=resume)
        if found is None or not found.complete:
            lock.take(self.path)
            self._locked = True
        try:
            if self._locked:  # again, now that nobody else can write
                found = recovery.existing(self.path, resume=resume, mine=True)
            if found is not None:
                self._adopt(found)
            if self._locked:
                recovery.remove_leftovers(self.path, found)
        except BaseException:
            self.abandon()
            raise
        return found

    def _adopt(self, found: files.Manifest) -> None:
        stored: dict[str, Any] = {"shard_rows": found.shard_rows, **found.metadata}
        ours: dict[str, Any] = {"shard_rows": self._shard_rows, **self._metadata}
        keys = ("index", "of")
        for values, part in ((stored, found.part), (ours, self._part)):
            if part is not None:
                values["part"] = {key: part[key] for key in keys}
        recovery.refuse_other_runs(self.path, stored, ours)
        for number, shard in enumerate(found.shards):
            if shard["rows"] != self._shard_rows and not found.complete:
                raise StoreError(
                    f"{self.path}: shard {number} has {shard['rows']} rows instead of "
                    f"{self._shard_rows}. Write the store again."
                )
            self._sha.update(read_shard(found, "features", number).tobytes())
            for name in found.columns:
                read_shard(found, name, number)

    def _manifest_for(self, block: Block) -> files.Manifest:
        """The manifest of a store to which this block belongs; refuses other blocks."""
        features, columns = block.features, block.columns
        seen = (features.shape[1], features.dtype.name, tuple(sorted(columns)))
        if self._manifest is None:
            return self._empty(*seen)
        expected = (self._manifest.width, self._manifest.dtype, self._manifest.columns)
        if seen != expected:
            raise StoreError(
                f"{self.path}: this block has (width, dtype, columns) {seen}, "
                f"the blocks before it {expected}."
            )
        return self._manifest

    def _empty(self, width: int, dtype: str, columns: Iterable[str]) -> files.Manifest:
        return files.Manifest(
            width,
            dtype,
            tuple(sorted(columns)),
            self._metadata,
            shard_rows=self._shard_rows,
            part=self._part,
            path=self.path,
        )

    def _flush(self, rows: int, *, last: bool = False) -> None:
        """Writes the first `rows` pending examples as a shard, then the manifest."""
        assert self._manifest is not None
        manifest, sha = self._manifest, self._sha.copy()
        taken, left = split(self._pending, rows)
        if taken:
            shard = write_shard(self.path, taken, len(manifest.shards), sha)
            manifest = dataclasses.replace(manifest, shards=(*manifest.shards, shard))
        if last:
            whole = sha.copy()
            whole.update(
                digest_tail((manifest.rows, manifest.width), np.dtype(manifest.dtype))
            )
            manifest = dataclasses.replace(
                manifest, complete=True, digest=whole.hexdigest(), part=self._part
            )
        self._replace_manifest(manifest)
        # Only now: a full disk leaves the writer as it was, able to try again.
        self._sha, self._pending = sha, left

    def _replace_manifest(self, manifest: files.Manifest) -> None:
        files.write_atomically(self.path / files.MANIFEST, manifest.to_json())
        self._manifest, self._listed = manifest, True
