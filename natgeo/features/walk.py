"""The walk over the data: what is this process's to compute, and what it is made from.

Every process walks the same data in the same order and passes over what is not its
own, so an example has the same index everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from natgeo.features.batches import fixed_batches
from natgeo.store.parts import Share


@dataclass(frozen=True)
class Piece:
    """One padded batch.

    Attributes:
        first: index of its first example.
        batch: exactly as many rows as a step takes.
        valid: how many of them are examples; the others are padding.
        inputs: SHA-256 of these examples, or nothing if it is not needed.
    """

    first: int
    batch: Any
    valid: int
    inputs: bytes


class Walk:
    """Iterates once over the pieces of one share of the data.

    Args:
        data: as for `fixed_batches`.
        size: rows of a batch.
        shard_rows: examples of a shard, a multiple of `size`.
        share: what to yield of the data; None for everything.
        hashed: whether the inputs are to be hashed.

    Attributes:
        rows: how many examples were passed, of any share.
        head: the first batch of the data, whoever computes it.
    """

    def __init__(
        self,
        data: Any,
        size: int,
        shard_rows: int,
        *,
        share: Share | None = None,
        hashed: bool = False,
    ):
        self._data, self._size, self._shard_rows = data, size, shard_rows
        self._share, self._hashed = share, hashed
        self._sha = hashlib.sha256()
        self.rows = 0
        self.head: Any = None

    def __iter__(self) -> Iterator[Piece]:
        for batch, valid in fixed_batches(self._data, self._size):
            first, self.rows = self.rows, self.rows + valid
            if first == 0 and self._share is not None:
                self.head = batch
            inputs = inputs_digest(batch, valid) if self._hashed else b""
            self._sha.update(inputs)
            if self._share is None or self._share.owns(first, self._shard_rows):
                yield Piece(first, batch, valid, inputs)

    @property
    def inputs(self) -> str:
        """SHA-256 of everything passed so far, for the parts to compare."""
        return self._sha.hexdigest()


def inputs_digest(batch: Any, valid: int) -> bytes:
    """SHA-256 of the first `valid` examples of a batch, dtypes and shapes included."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        part = np.ascontiguousarray(leaf[:valid])
        name = jax.tree_util.keystr(path)
        sha.update(f"{name} {part.dtype} {part.shape}\n".encode())
        sha.update(part.tobytes())
    return sha.digest()
