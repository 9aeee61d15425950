"""The folder of a retraining: outputs of each chunk that is done, and its settings.

Chunks are immutable files with their length and SHA-256 in the manifest, which is
replaced atomically after each of them, so that what it lists is complete. There is no
lock: two processes of one retraining write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.errors import StoreError
from natgeo.store import manifest as files
from natgeo.store.memory import little_endian

FORMAT, VERSION = "natgeo-retraining", 1
_LARGEST = 64 * 2**20


class Kept:
    """Chunks of outputs in a folder.

    Args:
        folder: a new one, or that of an earlier run.

    Raises:
        StoreError: if it holds something else, or its manifest is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._settings: dict[str, Any] | None = None
        self._chunks: list[dict[str, Any]] = []
        if (self._folder / files.MANIFEST).exists():
            self._settings, self._chunks = self._opened()
        elif self._folder.exists() and not _is_fresh(self._folder):
            raise StoreError(
                f"{self._folder} exists and holds no retraining. Name a new folder."
            )

    @property
    def count(self) -> int:
        """How many chunks are done."""
        return len(self._chunks)

    def setting(self, name: str) -> Any:
        """One setting of the run that began the folder; None if there was none."""
        return None if self._settings is None else self._settings.get(name)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Goes on with a run of the same settings, or begins one.

        Raises:
            StoreError: naming every setting that differs.
        """
        now: dict[str, Any] = json.loads(json.dumps(settings))  # as it is read back
        if self._settings is None:
            self._settings = now
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"Cannot write {self._folder}: {error.strerror}."
                ) from None
            self._write_manifest()
            return
        then = self._settings
        differ = [
            f"{name} ({then.get(name)!r}, now {now.get(name)!r})"
            for name in sorted({*now, *then})
            if then.get(name) != now.get(name)
        ]
        if differ:
            raise StoreError(
                f"{self._folder} holds another retraining; what differs: "
                f"{'; '.join(differ)}. Restore that, or name another folder."
            )

    def read(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The outputs of a chunk that is done, verified."""
        entry = self._chunks[number]
        flat = files.read_array(self._file(number), entry, dtype.name, shape)
        return flat.reshape(shape).astype(dtype)

    def write(self, number: int, outputs: np.ndarray) -> None:
        """Adds the next chunk."""
        header = files.npy_header(outputs.dtype.name, outputs.shape)
        data = header + little_endian(outputs).tobytes()
        files.write_atomically(self._file(number), data)
        sha = hashlib.sha256(data).hexdigest()
        self._chunks.append({"bytes": len(data), "sha256": sha})
        self._write_manifest()

    def _file(self, number: int) -> Path:
        return self._folder / files.shard_name("outputs", number)

    def _write_manifest(self) -> None:
        body = {
            "format": FORMAT,
            "version": VERSION,
            "settings": self._settings,
            "chunks": self._chunks,
        }
        text = json.dumps(body, indent=1, sort_keys=True, allow_nan=False)
        files.write_atomically(self._folder / files.MANIFEST, text.encode())

    def _opened(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        file = self._folder / files.MANIFEST
        try:
            body = json.loads(files.read_regular_file(file, largest=_LARGEST))
            head = body["format"], body["version"]
            settings, chunks = dict(body["settings"]), list(body["chunks"])
            good = all(
                type(entry["bytes"]) is int and isinstance(entry["sha256"], str)
                for entry in chunks
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{file} is not the manifest of a retraining: {error!r}. Name another "
                f"folder."
            ) from None
        if head != (FORMAT, VERSION) or not good:
            raise StoreError(
                f"{file} is not the manifest of a retraining that this natgeo reads "
                f"(format and version {head!r}). Name another folder."
            )
        return settings, chunks


def _is_fresh(folder: Path) -> bool:
    """Whether a folder is empty but for what an interrupted writer leaves."""
    if not folder.is_dir():
        return False
    return all(entry.name.endswith(".tmp") for entry in folder.iterdir())
