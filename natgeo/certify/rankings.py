"""Certified rankings: every pair of training examples, for every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify import attacks, ranges, sweep
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.statements import Statement, pair, proponent
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import Verdict, decide
from natgeo.certify.witness import Counterexample, counterexample
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.types import Store, Threat

# Score intervals of this many targets are held at once: three float64 rows of N each.
_TARGETS_BYTES = 256 * 2**20


@dataclass(frozen=True)
class TopK:
    """Membership of the k highest-scoring training examples of a target.

    Attributes:
        inside: examples certified to be among the k highest, [..].
        outside: examples certified not to be among them, [..].
        undecided: all others, [..].
    """

    inside: np.ndarray
    outside: np.ndarray
    undecided: np.ndarray


@dataclass(frozen=True, eq=False)
class Rankings:
    """Certificates for the order of the training examples under each target.

    All pair certificates of a target hold for the same ball, so they hold together:
    ranks and top-k sets derived from them are certified as well. Nothing is computed
    until it is asked for.

    Attributes:
        geometry: the natural geometry of the N training examples.
        targets: the store of the M targets.
        threat: what may happen to the training distribution.
        progress: show a bar on standard error for what takes over a second.
    """

    geometry: NaturalGeometry
    targets: Store
    threat: Threat
    progress: bool = field(default=False)

    def __repr__(self) -> str:
        (n, k), m = self.geometry.train.shape, self.targets.shape[0]
        return f"Rankings(N={n}, M={m}, K={k}, {self.threat})"

    @cached_property
    def proof(self) -> Proof:
        """The proven rounding errors of the geometry."""
        return prove(self.geometry)

    @property
    def pairs(self) -> int:
        """Number of unordered pairs of training examples, N (N - 1) / 2."""
        n = self.geometry.train.shape[0]
        return n * (n - 1) // 2

    @cached_property
    def fraction(self) -> np.ndarray:
        """Share of all pairs that is certified under the threat, [M]; 0 if no pairs.

        Exact over all N (N - 1) / 2 pairs, and a proven lower bound: a pair is missed
        only if its cosine lies within rounding of the threshold (about a millionth of
        it; more where Q is so ill-conditioned that the whitening errors dominate).
        """
        return self._fractions([self.threat.kappa(self.proof)])[:, 0]

    def curve(self, radii: Sequence[float]) -> np.ndarray:
        """The certified fraction at other order-2 radii, [M, len(radii)], in one pass.

        Raises:
            ArgumentError: if a radius is negative, not finite or not a number.
        """
        return self._fractions([Wasserstein2(radius).kappa() for radius in radii])

    def statement(self, *, target: int, above: int, below: int) -> Statement:
        """The statement that `above` outranks `below` for `target`."""
        return pair(
            self.geometry, self.targets, target=target, above=above, below=below
        )

    def verdict(
        self, *, target: int, above: int, below: int, attack: bool = False
    ) -> Verdict:
        """Whether `above` is proven to outrank `below` for `target` under the threat.

        Args:
            target: index of a target.
            above: index of the training example that should score higher.
            below: index of the one that should score lower.
            attack: if there is no proof, search for a counterexample inside the threat
                (order 2 or 1, deletion, addition, replacement); with one that is
                proven the verdict is `refuted`.
        """
        statement = self.statement(target=target, above=above, below=below)
        verdict = decide(self.proof, statement, self.threat)
        undecided = verdict.status == "undecided" and verdict.cosine > 0
        if attack and undecided and isinstance(self.threat, Wasserstein2):
            found = counterexample(self.proof, statement, verdict.radius)
            if found.flips and found.cost <= self.threat.eps:
                return verdict.refuted_by(found)
        elif attack and undecided:
            other = attacks.attack(self.proof, statement, self.threat)
            if other is not None and other.flips and other.inside:
                return verdict.refuted_by(other)
        return verdict

    def radius(self, *, target: int, above: int, below: int) -> float:
        """The order-2 natural radius up to which the pair is proven; 0 if it is not."""
        return self.verdict(target=target, above=above, below=below).radius

    def refute(self, *, target: int, above: int, below: int) -> Counterexample:
        """An explicit perturbed training set that swaps the pair, re-checked.

        It lies just outside the certified radius when the ridge is zero, and as close
        as the attack can get otherwise.
        """
        statement = self.statement(target=target, above=above, below=below)
        verdict = decide(self.proof, statement, self.threat)
        return counterexample(self.proof, statement, verdict.radius)

    def score_range(self, *, target: int, example: int) -> tuple[float, float]:
        """Proven [low, high] of one score r_i w_t . w_i over the whole threat."""
        claim = proponent(self.geometry, self.targets, target=target, example=example)
        return ranges.score_range(self.proof, claim, self.threat)

    def score_ranges(self, target: int) -> np.ndarray:
        """Proven [low, high] of every score of a target over the threat, [N, 2].

        All hold for the same ball, so they hold together. An example whose low end is
        positive is a certified proponent, one whose high end is negative an opponent.
        """
        index = checks.index("target", target, self.targets.shape[0])
        row = np.asarray(self.targets.rows(np.array([index])), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            left = self.proof.whiten(row)
        forms = ranges.enclose(self.proof, left, self.proof.weighted)
        return ranges.span(self.proof, forms, self.threat)

    def ranks(self, target: int) -> np.ndarray:
        """Certified rank interval of every training example, [N, 2]; 1 is the highest.

        rank_i lies in [1 + certified above i, N - certified below i]. Ties widen it.
        """
        above, below = self._above_and_below(target)
        return np.stack([1 + above, len(below) - below], axis=1)

    def top_k(self, target: int, k: int) -> TopK:
        """Which examples are certified to be in, and out of, the top k of a target."""
        size = self.geometry.train.shape[0]
        k = checks.count("k", k)
        above, below = self._above_and_below(target)
        inside, outside = below >= size - k, above >= k
        return TopK(
            np.flatnonzero(inside),
            np.flatnonzero(outside),
            np.flatnonzero(~inside & ~outside),
        )

    def _above_and_below(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        index = checks.index("target", target, self.targets.shape[0])
        if index not in self._counts:
            scored = self._scored(np.array([index]))
            self._counts[index] = sweep.count_above_and_below(
                self.proof,
                scored,
                self.threat.kappa(self.proof),
                progress=self.progress,
            )
        return self._counts[index]

    @cached_property
    def _known(self) -> dict[float, np.ndarray]:
        return {}  # kappa -> certified fraction of each target, [M]

    @cached_property
    def _counts(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _fractions(self, kappas: list[float]) -> np.ndarray:
        missing = [kappa for kappa in kappas if kappa not in self._known]
        if missing:
            m, n = self.targets.shape[0], self.geometry.train.shape[0]
            size = max(1, _TARGETS_BYTES // (24 * n))
            counts = [
                sweep.count_certified(
                    self.proof,
                    self._scored(np.arange(start, min(start + size, m))),
                    missing,
                    progress=self.progress,
                )
                for start in range(0, m, size)
            ]
            found = np.concatenate(counts) / max(self.pairs, 1)
            self._known.update(zip(missing, found.T, strict=True))
        columns = [self._known[kappa] for kappa in kappas]
        empty = np.zeros((self.targets.shape[0], 0))
        return np.stack(columns, axis=1) if columns else empty

    def _scored(self, indices: np.ndarray) -> sweep.Scored:
        rows = np.asarray(self.targets.rows(indices), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return sweep.score_intervals(self.proof, rows)


def certify_rankings(
    geometry: NaturalGeometry,
    targets: Any,
    threat: Threat,
    *,
    progress: bool = False,
) -> Rankings:
    """Certified rankings of the training examples for each target.

    Args:
        geometry: the natural geometry of the training set.
        targets: a store or an [M, K] array of target features.
        threat: what may happen to the training distribution, for instance
            `threats.Wasserstein2(0.01)`.
        progress: show a bar on standard error for what takes over a second.

    Raises:
        DataError: if the targets are unusable or belong to another run.
    """
    return Rankings(geometry, as_target_store(geometry, targets), threat, progress)
