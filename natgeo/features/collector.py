"""Features that stay in memory, collected as they are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo.store.memory import MemoryStore


class Collector:
    """A writer with the face of `DiskWriter` that keeps everything in memory.

    Args:
        metadata: as for a writer.
        total: number of examples, so that they go straight to their place; None
            collects blocks, and holds everything twice for a moment at the end.
    """

    def __init__(self, metadata: dict[str, Any], total: int | None):
        self._metadata, self._total = metadata, total
        self._parts: list[dict[str, np.ndarray]] = []
        self._rows = 0

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts = []

    def append(
        self, features: np.ndarray, columns: dict[str, np.ndarray], *, inputs: bytes
    ) -> None:
        """Keeps a batch; the digest of its inputs is of no use here."""
        block = {"features": features, **columns}
        if self._total is None:
            self._parts.append(block)
            return
        if not self._parts:
            self._parts = [
                {
                    name: np.empty((self._total, *array.shape[1:]), array.dtype)
                    for name, array in block.items()
                }
            ]
        for name, array in block.items():
            self._parts[0][name][self._rows : self._rows + len(array)] = array
        self._rows += len(features)

    def close(self) -> MemoryStore:
        """What was collected, frozen."""
        made = {
            name: np.concatenate([part[name] for part in self._parts])
            if len(self._parts) > 1
            else self._parts[0][name]
            for name in self._parts[0]
        }
        for array in made.values():
            array.flags.writeable = False  # nobody else holds it: no copy is needed
        return MemoryStore(made.pop("features"), made, self._metadata)
