"""The data that a certificate is checked against, as float64 rows of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from natgeo.proof.language import Term


@dataclass(frozen=True, eq=False)
class Data:
    """Training features with their weights, and the target rows that are claimed about.

    Attributes:
        store: the training features phi, [N, K].
        targets: target features by their index, [K] each.
    """

    store: Any
    targets: Mapping[int, np.ndarray]

    @cached_property
    def weights(self) -> np.ndarray:
        """Residual weights r, [N], float64; ones if the store has none."""
        column = self.store.column("weights")
        if column is None:
            return np.ones(self.store.shape[0])
        return np.asarray(column, np.float64)

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """The training features in order, float64, at most `rows` at a time."""
        for block in self.store.blocks(rows):
            yield np.asarray(block, np.float64)

    def row(self, term: Term) -> np.ndarray:
        """The row of a term without its sign and weight, [K], float64."""
        if term.target:
            return np.asarray(self.targets[term.row], np.float64)
        return np.asarray(self.store.rows(np.array([term.row]))[0], np.float64)


def weights_digest(store: Any) -> str | None:
    """SHA-256 of the residual weights as little-endian float64, or None without."""
    column = store.column("weights")
    if column is None:
        return None
    return hashlib.sha256(np.asarray(column, "<f8").tobytes()).hexdigest()
