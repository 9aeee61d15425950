"""Counts over all pairs of training examples: what each sweep needs, and its result.

The targets are taken in groups whose scores fit into memory. Before anything is held,
a sweep that would not fit is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from natgeo.certify import sweep, workload
from natgeo.certify.limits import Moves
from natgeo.certify.pairs import count_pairs
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.screen import Kernel
from natgeo.certify.threats import Moving, Wasserstein2
from natgeo.certify.tile_counts import Scored, score_intervals
from natgeo.geometry.natural import NaturalGeometry
from natgeo.types import Store, Threat

# Scores of this many targets are held at once: 32 bytes for each training example.
_TARGETS_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class EveryPair:
    """All pairs of the training examples, for every target.

    Attributes:
        geometry: the natural geometry of the N training examples.
        targets: the store of the M targets.
        progress: show a bar on standard error for what takes over a second.
        kernel: what screens pairs in float32; no result depends on it.
    """

    geometry: NaturalGeometry
    targets: Store
    progress: bool
    kernel: Kernel

    @cached_property
    def proof(self) -> Proof:
        """The proven rounding errors of the geometry."""
        return prove(self.geometry)

    def count(
        self, threats: Sequence[Threat], part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """Certified pairs of each target under each threat, [M, G], in one pass.

        Args:
            threats: of order 2, or a single one of any kind.
            part: (p, P) counts the p-th of P parts of the pairs.

        Raises:
            ArgumentError: for more memory than there is.
        """
        self._require_memory()
        counts = [
            sweep.count_certified(
                self.proof,
                self._scored(group),
                *self._asked(threats),
                part=part,
                kernel=self.kernel,
                progress=self.progress,
            )
            for group in self._groups()
        ]
        return np.concatenate(counts)

    def count_by_norms(self, threat: Threat) -> np.ndarray:
        """Pairs that scores and natural norms alone certify, [M]."""
        kappas, _, moves = self._asked([threat])
        found = [
            sweep.certified_by_norms(self.proof, self._scored(group), kappas, moves)
            for group in self._groups()
        ]
        return np.concatenate(found)[:, 0]

    def count_listed(self, pairs: np.ndarray, threats: Sequence[Threat]) -> np.ndarray:
        """How many of some pairs [P, 2] are certified, [M, G], each on its own.

        Raises:
            ArgumentError: for more memory than there is.
        """
        workload.require_memory(
            workload.rows_bytes(*self.geometry.train.shape, copies=self._copies),
            "The proof of the geometry",
        )
        rows = self.targets.rows(np.arange(self.targets.shape[0]))
        with np.errstate(over="ignore", invalid="ignore"):
            targets = self.proof.whiten(np.asarray(rows, np.float64))
        kappas, radii, moves = self._asked(threats)
        return count_pairs(self.proof, targets, kappas, radii, pairs, moves)

    def above_and_below(
        self, target: int, threat: Threat
    ) -> tuple[np.ndarray, np.ndarray]:
        """How many examples are certified above, and below, each one, [N] each."""
        scored = self._scored(np.array([target]))
        kappas, radii, moves = self._asked([threat])
        return sweep.count_above_and_below(
            self.proof, scored, kappas[0], radii[0], moves, progress=self.progress
        )

    def workload(self, threats: Sequence[Threat]) -> tuple[float, int]:
        """Seconds and bytes of `count`, from the time of one tile.

        Raises:
            ArgumentError: for more memory than there is.
        """
        self._require_memory()
        groups = self._groups()
        scored = self._scored(groups[0])
        seconds = sweep.seconds_per_sweep(
            self.proof, scored, *self._asked(threats), self.kernel
        )
        share = self.targets.shape[0] / len(groups[0])
        return seconds * share, self._bytes

    def _asked(
        self, threats: Sequence[Threat]
    ) -> tuple[list[float], list[float | None], Moves | None]:
        """Kappa of each threat, its radius if it is of order 2, and what moves."""
        radii = [t.eps if isinstance(t, Wasserstein2) else None for t in threats]
        first, moves = threats[0] if threats else None, None
        if isinstance(first, Moving):
            moves, threats = Moves(first.target, first.examples), [first.threat]
        return [threat.kappa(self.proof) for threat in threats], radii, moves

    def _groups(self) -> list[np.ndarray]:
        """Targets whose scores are held together."""
        m, n = self.targets.shape[0], self.geometry.train.shape[0]
        size = max(1, _TARGETS_BYTES // (32 * n))
        return [np.arange(i, min(i + size, m)) for i in range(0, m, size)]

    @property
    def _copies(self) -> int:
        """How many float64 arrays of all training rows the proof and a sweep hold."""
        weighted = self.geometry.train.column("weights") is not None
        return 1 + weighted + (self.geometry.ridge > 0)

    @property
    def _bytes(self) -> int:
        n, k = self.geometry.train.shape
        return workload.sweep_bytes(n, k, len(self._groups()[0]), copies=self._copies)

    def _require_memory(self) -> None:
        workload.require_memory(self._bytes, "A sweep over all pairs")

    def _scored(self, indices: np.ndarray) -> Scored:
        rows = np.asarray(self.targets.rows(indices), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return score_intervals(self.proof, rows)
