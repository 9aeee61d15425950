"""What the features of a run will take, on disk or in memory, before it begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from natgeo import resources
from natgeo.errors import StoreError
from natgeo.features import gradients
from natgeo.features.tasks import Task
from natgeo.store import manifest as files
from natgeo.store.parts import Share
from natgeo.types import Params, Projector

_SHARD_BYTES = 64 * 2**20
_SHARD_ROWS = 8192


@dataclass(frozen=True)
class Footprint:
    """Size of the features of one example.

    Attributes:
        width: their number K.
        row_bytes: bytes of features and columns.
    """

    width: int
    row_bytes: int

    @property
    def shard_rows(self) -> int:
        """Examples of a shard that is neither many files nor much memory."""
        return max(1, min(_SHARD_ROWS, _SHARD_BYTES // self.row_bytes))

    def check(
        self, total: int | None, store: str | os.PathLike | None, share: Share | None
    ) -> None:
        """Refuses a run whose result would not fit.

        Args:
            total: number of examples; None, for an iterable, is not checked.
            store: folder of the store, None for a run in memory.
            share: of this process, if several write the store.

        Raises:
            StoreError: if the disk of `store` has too little space.
            ArgumentError: if the memory does not hold the features.
        """
        if total is None:
            return
        what = f"{total:,} examples x {self.width:,} features"
        if store is None:
            resources.require_memory(
                total * self.row_bytes,
                what,
                "Write them to disk with store=, project to fewer dimensions, or "
                "featurize fewer examples.",
            )
            return
        left = max(0, total - _stored_rows(Path(store), share))
        resources.require_disk(
            Path(store),
            left * self.row_bytes,
            what,
            "Free them, name another disk, project to fewer dimensions (--dim), or "
            "featurize fewer examples.",
        )


def footprint(task: Task, params: Params, projector: Projector) -> Footprint:
    """The size of one example's features for this task, model and projector."""
    chosen, _ = gradients.split_params(params, task.only)
    wide = any(np.dtype(leaf.dtype) == np.float64 for leaf in jax.tree.leaves(chosen))
    width = int(projector.width(chosen))
    columns = 1 + (task.weight is not None)
    return Footprint(width, (width + columns) * (8 if wide else 4))


def _stored_rows(store: Path, share: Share | None) -> int:
    """How many examples an earlier run has left in the store."""
    every = range(share.of) if share is not None else ()
    folders = [Share(index, len(every)).folder(store) for index in every] or [store]
    return sum(_rows_in(folder) for folder in folders)


def _rows_in(folder: Path) -> int:
    try:
        return files.read_manifest(folder).rows
    except StoreError:
        return 0
