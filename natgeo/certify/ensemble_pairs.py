"""Many pairs of training examples at once, under an ensemble of checkpoints.

The form of a pair is the mean over checkpoints of u_c^T M_c v_c (`ensemble.py`). Here
v_c is formed after whitening, so that a chunk of pairs costs one subtraction for each
checkpoint, shared by all targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from natgeo.certify import ranges
from natgeo.certify.bounds import U, row_norms, upward
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.progress import Progress
from natgeo.types import Store, Threat

_CHUNK = 8192  # pairs whose differences are held at once


@dataclass(frozen=True, eq=False)
class EnsemblePairs:
    """The pairs of the training examples under C checkpoints.

    Attributes:
        proofs: the rounding proof of each checkpoint, with the ensemble's weights.
        targets: the store of the M targets, for each checkpoint.
        threat: what may happen to the training distribution, in every checkpoint.
    """

    proofs: tuple[Proof, ...]
    targets: tuple[Store, ...]
    threat: Threat

    def count(self, *, progress: bool = False) -> np.ndarray:
        """Certified pairs of each target among all pairs, [M]."""
        n = self._examples
        chunks = -(-n // max(1, _CHUNK // n))
        total = np.zeros(self.targets[0].shape[0], np.int64)
        with Progress("certifying pairs", chunks, visible=progress) as bar:
            for first, second in _all_pairs(n):
                total += (self._orders(first, second) != 0).sum(axis=1)
                bar.advance()
        return total

    def count_listed(self, pairs: np.ndarray) -> np.ndarray:
        """Certified pairs of each target among some pairs [P, 2], [M]."""
        hits = np.zeros(self.targets[0].shape[0], np.int64)
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            hits += (self._orders(chunk[:, 0], chunk[:, 1]) != 0).sum(axis=1)
        return hits

    def above_and_below(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """How many examples are certified above, and below, each one, [N] each."""
        n = self._examples
        above, below = np.zeros((2, n), np.int64)
        for first, second in _all_pairs(n):
            order = self._orders(first, second, [target])[0]
            for sign, winners, losers in ((1, first, second), (-1, second, first)):
                proven = order == sign
                below += np.bincount(winners[proven], minlength=n)
                above += np.bincount(losers[proven], minlength=n)
        return above, below

    @property
    def _examples(self) -> int:
        return self.proofs[0].geometry.train.shape[0]

    @cached_property
    def _scored(self) -> list[tuple[list[ranges.Forms], NaturalRows]]:
        """For each checkpoint: whitened scores of every target, and the targets."""
        found = []
        for proof, targets in zip(self.proofs, self.targets, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                rows = proof.whiten(np.asarray(targets, np.float64))
                forms = [
                    ranges.whitened(rows.take(slice(t, t + 1)), proof.weighted)
                    for t in range(len(rows.rows))
                ]
            found.append((forms, rows))
        return found

    def _orders(
        self,
        first: np.ndarray,
        second: np.ndarray,
        targets: Sequence[int] | None = None,
    ) -> np.ndarray:
        """1 where the first of a pair is certified above, -1 where below, else 0.

        [M, P] for all targets, or one row for each of `targets`.
        """
        least = getattr(self.threat, "least_quick", ranges.least_of(self.threat))
        distances = [_distance(proof.weighted, first, second) for proof in self.proofs]
        if targets is None:
            targets = range(self.targets[0].shape[0])
        out = np.zeros((len(targets), len(first)), np.int8)
        for place, t in enumerate(targets):
            scores = [forms[t] for forms, _ in self._scored]
            gap = sum(f.low[first] - f.low[second] for f in scores)
            winner = np.where(gap > 0, first, second)
            loser = np.where(gap > 0, second, first)
            lows = []
            for proof, form, distance, (_, rows) in zip(
                self.proofs, scores, distances, self._scored, strict=True
            ):
                pair = ranges.Forms(
                    np.nextafter(form.low[winner] - form.high[loser], -np.inf),
                    np.full(len(first), np.inf),
                    upward(rows.true_norms[t] * distance),
                )
                true = ranges.unwhitened(proof, pair)
                lows.append(least(proof, true.low, true.norms))
            total = np.sum(lows, axis=0)
            room = upward(2 * U * len(lows) * np.abs(lows).sum(axis=0))
            proven = total > room  # NaN and -inf compare as False
            out[place] = np.where(gap > 0, 1, -1) * proven
        return out


def _distance(rows: NaturalRows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Upper bounds of norm(R d) of pairs, [P]; a subtraction rounds by u norm(d)."""
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = row_norms(rows.rows[first] - rows.rows[second])
        return upward(sizes * (1 + 2 * U) + rows.errors[first] + rows.errors[second])


def _all_pairs(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every unordered pair once, in chunks of two index arrays."""
    everyone, size = np.arange(count), max(1, _CHUNK // count)
    for start in range(0, count, size):
        rows = everyone[start : start + size, None]
        first, second = np.nonzero(rows < everyone)
        yield first + start, second
