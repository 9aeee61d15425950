"""A store that several processes write, each a part of it in a folder of its own.

Shard s of the store is shard s // P of part s % P: `STORE/part-00001-of-00004/` holds
every fourth shard. A reader joins complete parts to one store with the rows, the order
and the digest of a run by one process; a part that is missing, unfinished, or was made
from other data is an error that names it.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from natgeo import checks
from natgeo.errors import ArgumentError, StoreError
from natgeo.progress import Progress
from natgeo.store import lock, recovery
from natgeo.store import manifest as files

_FOLDER = re.compile(r"part-([0-9]{5})-of-([0-9]{5})")
_MOST = 99_999
_POLL_S = 0.2


@dataclass(frozen=True)
class Share:
    """What one of several processes computes: the shards s with s % of == index.

    Attributes:
        index: number of the process, from 0.
        of: how many processes there are.
    """

    index: int
    of: int

    def __post_init__(self) -> None:
        if checks.count("share", self.of) > _MOST:
            raise ArgumentError(f"share={self.of} processes: at most {_MOST}.")
        checks.index("share", self.index, self.of)

    def owns(self, row: int, shard_rows: int) -> bool:
        """Whether example `row` of the whole is in a shard of this share."""
        return row // shard_rows % self.of == self.index

    def folder(self, store: Path) -> Path:
        """Where this share of `store` is written."""
        return store / f"part-{self.index:05d}-of-{self.of:05d}"

    def rows_of(self, total: int, shard_rows: int) -> int:
        """How many of `total` examples are in this share."""
        whole, rest = divmod(total, shard_rows)
        mine = (whole - self.index + self.of - 1) // self.of * shard_rows
        return mine + rest * (whole % self.of == self.index)


def refuse_other_contents(store: Path, share: Share) -> None:
    """Refuses to write a part where something else than the other parts is.

    Raises:
        StoreError: naming what is there.
    """
    try:
        names = sorted(os.listdir(store))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"Cannot read {store}: {error.strerror}.") from None
    for name in names:
        match = _FOLDER.fullmatch(name)
        if match is None or int(match[2]) != share.of:
            raise StoreError(
                f"{store} already holds {name}, which is not a part of a store that "
                f"{share.of} processes write. Name another folder, or run with as many "
                f"processes as began it."
            )


def read_manifests(path: Path) -> tuple[files.Manifest, ...]:
    """The manifest of a store, or those of all its parts in order; all complete.

    Raises:
        StoreError: if there is none, or one is damaged, unfinished or of another run.
    """
    folders = _folders(path)
    if (path / files.MANIFEST).exists() or not folders:
        manifest = files.read_manifest(path)
        if not manifest.complete:
            raise StoreError(
                f"The store {path} is not complete: {manifest.rows} examples "
                f"are safe. Continue the run that wrote it with resume=True "
                f"(--resume), or delete it and run again."
            )
        return (manifest,)
    manifests = tuple(_read_part(path, share) for share in _shares(path, folders))
    _refuse_strangers(manifests)
    _check_rows(path, manifests)
    return manifests


def in_order(manifests: tuple[files.Manifest, ...]) -> tuple[tuple[int, int], ...]:
    """Every shard of the whole store in order: its part and its number there."""
    longest = max(len(manifest.shards) for manifest in manifests)
    return tuple(
        (part, number)
        for number in range(longest)
        for part, manifest in enumerate(manifests)
        if number < len(manifest.shards)
    )


def wait(store: Path, share: Share, *, visible: bool, patience_s: float = 300) -> None:
    """Waits until every part of `store` is complete.

    Args:
        store: folder of the parts.
        share: of the process that waits, whose own part is complete.
        visible: show a bar on standard error.
        patience_s: for how long another part may be neither complete nor in writing.

    Raises:
        StoreError: naming a part that nobody writes any more.
    """
    others = [Share(index, share.of) for index in range(share.of)]
    with Progress("waiting for other parts", share.of, visible=visible) as bar:
        for other in others:
            idle_since = time.monotonic()
            while not _is_complete(other.folder(store)):
                if _is_held(other.folder(store)):
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > patience_s:
                    raise StoreError(
                        f"{other.folder(store)} is not complete, and no process has "
                        f"been writing it for {patience_s:.0f} s. Look at the messages "
                        f"of process {other.index}; the part of this process is safe."
                    )
                bar.advance(0)
                time.sleep(_POLL_S)
            bar.advance()


def _is_complete(folder: Path) -> bool:
    return (folder / files.MANIFEST).exists() and files.read_manifest(folder).complete


def _is_held(folder: Path) -> bool:
    """Whether a process writes the part; one that is gone is an error at once."""
    if not lock.is_held(folder):
        return False
    if lock.owner_is_gone(folder) and not _is_complete(folder):
        lock.refuse_if_held(folder)
    return True


def _folders(path: Path) -> list[re.Match]:
    try:
        matches = [_FOLDER.fullmatch(name) for name in sorted(os.listdir(path))]
    except OSError:
        return []  # reading the manifest will say what is wrong
    return [match for match in matches if match is not None]


def _shares(path: Path, folders: list[re.Match]) -> list[Share]:
    counts = {int(match[2]) for match in folders}
    if len(counts) > 1:
        found = " and ".join(map(str, sorted(counts)))
        raise StoreError(
            f"{path} holds parts of stores with {found} parts. Delete those that do "
            f"not belong there."
        )
    of = counts.pop()
    present = {int(match[1]) for match in folders}
    missing = [index for index in range(of) if index not in present]
    if missing:
        raise StoreError(
            f"The store {path} is not complete: {Share(missing[0], of).folder(path)} "
            f"is missing ({len(missing)} of {of} parts). Run process {missing[0]} of "
            f"{of} again with resume=True (--resume)."
        )
    return [Share(index, of) for index in range(of)]


def _read_part(path: Path, share: Share) -> files.Manifest:
    folder = share.folder(path)
    if folder.is_symlink():
        raise StoreError(f"Cannot read {folder}: it is a link, not a folder.")
    manifest = files.read_manifest(folder)
    if not manifest.complete:
        raise StoreError(
            f"The store {path} is not complete: of {folder} only {manifest.rows} "
            f"examples are safe. Continue process {share.index} of {share.of} with "
            f"resume=True (--resume)."
        )
    named = {"index": share.index, "of": share.of}
    if manifest.part is None or any(manifest.part[key] != named[key] for key in named):
        raise StoreError(
            f"{folder} holds another part than its name says. Give the folders the "
            f"names they were written with, or write the store again."
        )
    return manifest


def _refuse_strangers(manifests: tuple[files.Manifest, ...]) -> None:
    """Parts belong together if nothing but their shards differs."""
    first, want = manifests[0], _identity(manifests[0])
    for other in manifests[1:]:
        differ = [
            f"{field}: {theirs}, there {ours}"
            for field, theirs, ours in recovery.differences(
                other.path, _identity(other), want
            )
        ]
        if differ:
            raise StoreError(
                f"{other.path} does not belong to the same run as {first.path}. "
                f"{'; '.join(differ)}. Write that part again with the same arguments "
                f"and the same data in the same order."
            )


def _identity(manifest: files.Manifest) -> dict:
    assert manifest.part is not None
    return {
        "width": manifest.width,
        "dtype": manifest.dtype,
        "columns": sorted(manifest.columns),
        "shard_rows": manifest.shard_rows,
        "examples": manifest.part["examples"],
        "inputs": manifest.part["inputs"],
        **manifest.metadata,
    }


def _check_rows(path: Path, manifests: tuple[files.Manifest, ...]) -> None:
    """Every shard has the rows that its place in the whole store gives it."""
    assert manifests[0].part is not None
    total, rows = manifests[0].part["examples"], manifests[0].shard_rows
    if total < 1:
        raise StoreError(f"The store {path} holds no examples. Write it again.")
    for part, number in in_order(manifests):
        manifest = manifests[part]
        first = manifest.first_row(number)
        if manifest.shards[number]["rows"] != min(rows, total - first):
            raise StoreError(
                f"{manifest.path}: shard {number} has "
                f"{manifest.shards[number]['rows']} rows instead of "
                f"{min(rows, total - first)}. Write that part again."
            )
    found = sum(manifest.rows for manifest in manifests)
    if found != total:
        raise StoreError(
            f"The parts of {path} hold {found} examples instead of {total}. Write the "
            f"store again."
        )
