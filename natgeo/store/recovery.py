"""What an interrupted writer left behind, and whether a run may continue it.

It decides which folder may be written, which fields of two runs differ, and whether
the data are still those of the stored examples. It never changes a shard.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from natgeo.errors import StoreError
from natgeo.store import lock
from natgeo.store import manifest as files

_DIGEST = re.compile(r'"[0-9a-f]{64}"')


def existing(path: Path, *, resume: bool, mine: bool = False) -> files.Manifest | None:
    """The manifest of the store that a writer of `path` goes on with, None to start.

    Args:
        path: folder of the store; it need not exist.
        resume: whether an unfinished or a complete store may be taken up.
        mine: the caller holds the writer lock.

    Raises:
        StoreError: if the folder is locked, or holds what this run must not touch.
    """
    names = _names(path)
    manifest, damage = None, None
    if files.MANIFEST in names:
        try:
            manifest = files.read_manifest(path)
        except StoreError as error:
            damage = error
    if manifest is not None and manifest.complete:
        if resume:
            return manifest
        raise StoreError(
            f"{path} already holds files: a complete store of {manifest.rows} "
            f"examples. Name another folder, or use this one with resume=True "
            f"(--resume)."
        )
    if not mine:
        lock.refuse_if_held(path)
    if manifest is not None and not resume:
        raise StoreError(
            f"{path} holds an unfinished store, {manifest.rows} examples of it safe. "
            f"Continue it with resume=True (--resume), or delete it to start again."
        )
    if damage is not None and resume:
        raise damage
    # Before the first manifest only that manifest's temporary file can be left.
    started = {name for name in names if resume and _is_leftover(name, None)}
    if manifest is None and names - started - {lock.LOCK}:
        raise StoreError(
            f"{path} already holds files and no natgeo store. Name another folder, or "
            f"delete this one to start again."
        )
    return manifest


def _names(path: Path) -> set[str]:
    try:
        return set(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from None


def refuse_other_runs(
    path: Path, stored: Mapping[str, Any], ours: Mapping[str, Any]
) -> None:
    """Compares what produced a store with what would continue it, field by field.

    Raises:
        StoreError: naming every field that differs, with both values.
    """
    differ = [
        f"{field}: the store has {found}, this run has {wanted}"
        for field, found, wanted in differences(path, stored, ours)
    ]
    if differ:
        raise StoreError(
            f"{path} was begun by a different run and cannot be continued. "
            f"{'; '.join(differ)}. Run with what the store has, or name another folder."
        )


def differences(
    path: Path, stored: Mapping[str, Any], ours: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Every field that differs, with what the store at `path` has and what `ours` is.

    Raises:
        StoreError: if the stored values are nested too deeply to be compared.
    """
    try:
        found, wanted = _flat(stored), _flat(ours)
    except RecursionError:
        raise StoreError(
            f"{path / files.MANIFEST} is damaged: its metadata are nested too deeply. "
            f"Write the store again."
        ) from None
    return [
        (field, _shown(found.get(field)), _shown(wanted.get(field)))
        for field in sorted({*found, *wanted})
        if found.get(field) != wanted.get(field)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` as `{"a.b": "1"}`: as JSON text, 1, 1.0 and true differ."""
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = json.dumps(value, sort_keys=True)
    return out


def _shown(text: str | None) -> str:
    if text is None:
        return "nothing"
    if _DIGEST.fullmatch(text):
        return f"{text[1:13]}..."
    return text if len(text) <= 200 else f"{text[:150]}..."


def remove_leftovers(path: Path, manifest: files.Manifest | None) -> None:
    """Deletes what a killed writer left: temporary files, shards no manifest lists.

    Only names that a writer of this very store can have made are touched.

    Raises:
        StoreError: if one of them cannot be deleted.
    """
    for name in sorted(_names(path)):
        if _is_leftover(name, manifest):
            try:
                (path / name).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"Cannot delete {path / name}, which a killed run left: "
                    f"{error.strerror}. Delete it and run again."
                ) from None


def _is_leftover(name: str, manifest: files.Manifest | None) -> bool:
    temporary = re.fullmatch(r"\.(.+)\.[0-9]+\.tmp", name)
    target = temporary[1] if temporary else name
    if target == files.MANIFEST:
        return temporary is not None
    shard = re.fullmatch(r"([a-z][a-z0-9_]*)-([0-9]{5,12})\.npy", target)
    if manifest is None or shard is None:
        return False
    known = shard[1] in ("features", *manifest.columns)
    canonical = target == files.shard_name(shard[1], int(shard[2]))
    unlisted = int(shard[2]) >= len(manifest.shards)
    return known and canonical and (temporary is not None or unlisted)


class InputCheck:
    """Compares the data of a resumed run with those of the stored shards.

    Args:
        manifest: of the store that is continued.
    """

    def __init__(self, manifest: files.Manifest):
        self._manifest = manifest
        self._shard = 0
        self._rows = 0
        self._blocks: list[bytes] = []

    def add(self, rows: int, inputs: bytes) -> None:
        """Takes the digest of the inputs of the next `rows` stored examples.

        Raises:
            StoreError: if a shard was made from other inputs; the message names the
                first and the last example of that shard.
        """
        self._blocks.append(inputs)
        self._rows += rows
        shard = self._manifest.shards[self._shard]
        if self._rows < shard["rows"]:
            return
        digest = inputs_digest(self._blocks)
        if self._rows > shard["rows"] or digest != shard.get("inputs"):
            first = self._manifest.first_row(self._shard)
            last = first + shard["rows"] - 1
            raise StoreError(
                f"The data changed at example {first} or after it: examples "
                f"{first} to {last} of {self._manifest.path} were made from "
                f"other inputs. Give the same data in the same order, or name another "
                f"folder."
            )
        self._shard, self._rows, self._blocks = self._shard + 1, 0, []


def inputs_digest(blocks: list[bytes]) -> str:
    """SHA-256 over the digests of the inputs of a shard's blocks, in order."""
    return hashlib.sha256(b"".join(blocks)).hexdigest()
