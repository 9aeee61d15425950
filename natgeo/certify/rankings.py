"""Certified rankings: every pair of training examples, for every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify import ranges, sample, sweep, workload
from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.bounds import upward
from natgeo.certify.limits import Moves
from natgeo.certify.pairs import count_pairs
from natgeo.certify.refutation import decide_or_refute, refute
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.screen import Kernel, in_numpy
from natgeo.certify.statements import Statement, pair, proponent
from natgeo.certify.threats import Moving, Wasserstein2
from natgeo.certify.verdict import Verdict, decide
from natgeo.certify.witness import Counterexample
from natgeo.errors import ArgumentError
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.types import Store, Threat

# Scores of this many targets are held at once: 32 bytes for each training example.
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
        kernel: what screens pairs in float32; no result depends on it.
    """

    geometry: NaturalGeometry
    targets: Store
    threat: Threat
    progress: bool = field(default=False)
    kernel: Kernel = field(default=in_numpy)

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

        A count over all N (N - 1) / 2 pairs, and a proven lower bound. A pair is
        missed only if its cosine lies within rounding of the threshold (about a
        millionth of it; more where Q is so ill-conditioned that the whitening errors
        dominate), or if scores near 1e150 leave its square no room. Everything else is
        what `verdict` says of each pair, under a ridge too.
        """
        if isinstance(self.threat, Wasserstein2):
            return self._fractions([self.threat])[:, 0]  # a curve may know it
        return self._count([self.threat])[:, 0] / max(self.pairs, 1)

    def curve(self, radii: Sequence[float]) -> np.ndarray:
        """The certified fraction at other order-2 radii, [M, len(radii)], in one pass.

        Raises:
            ArgumentError: if a radius is negative, not finite or not a number.
        """
        return self._fractions([Wasserstein2(radius) for radius in radii])

    def counts(
        self, radii: Sequence[float] | None = None, *, part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """Certified pairs as whole numbers, [M, len(radii)], or [M, 1] without.

        Args:
            radii: order-2 radii; None counts under the threat.
            part: (p, P) counts the p-th of P parts of the pairs. The parts add up to
                the whole, so that several processes or machines can share a sweep.

        Raises:
            ArgumentError: for a part that does not exist, a bad radius, or more memory
                than there is.
        """
        parts = checks.count("part[1]", part[1])
        which = checks.index("part[0]", part[0], parts)
        threats = self._threats(radii)
        return self._count(threats, (which, parts))

    @cached_property
    def fraction_by_norms(self) -> np.ndarray:
        """Share of all pairs that scores and natural norms alone certify, [M].

        A proven lower bound of `fraction` in a few milliseconds for each target.
        """
        kappas, _, moves = self._asked([self.threat])
        found = [
            sweep.certified_by_norms(self.proof, self._scored(group), kappas, moves)
            for group in self._groups()
        ]
        return np.concatenate(found)[:, 0] / max(self.pairs, 1)

    def estimate(
        self,
        pairs: int,
        *,
        seed: int = 0,
        level: float = 0.95,
        radii: Sequence[float] | None = None,
    ) -> sample.Estimate:
        """The certified fraction from a uniform sample of pairs, each decided by proof.

        For training sets whose pairs are too many. Each sampled pair is subtracted
        before it is whitened, as for a single verdict, and gets the test of `fraction`;
        only the share of them is estimated.

        Args:
            pairs: how many pairs to draw, with replacement.
            seed: of the sample, recorded in the result.
            level: of the Clopper-Pearson interval of each fraction.
            radii: other order-2 radii, for arrays [M, len(radii)]; None for the threat
                and arrays [M].

        Raises:
            ArgumentError: for a bad number, or fewer than two training examples.
        """
        n, k = self.geometry.train.shape
        drawn = sample.drawn(n, pairs, seed, level)
        workload.require_memory(
            workload.rows_bytes(n, k, copies=self._copies), "The proof of the geometry"
        )
        threats = self._threats(radii)
        rows = self.targets.rows(np.arange(self.targets.shape[0]))
        with np.errstate(over="ignore", invalid="ignore"):
            targets = self.proof.whiten(np.asarray(rows, np.float64))
        kappas, radii_, moves = self._asked(threats)
        counts = count_pairs(self.proof, targets, kappas, radii_, drawn, moves)
        return sample.estimate(
            counts[:, 0] if radii is None else counts, len(drawn), int(seed), level
        )

    def workload(self, radii: Sequence[float] | None = None) -> workload.Workload:
        """Time and memory of `fraction`, or of the curve at `radii`, before it starts.

        Times one tile of pairs, which takes a fraction of a second.
        """
        threats = self._threats(radii)
        self._require_memory()
        groups = self._groups()
        scored = self._scored(groups[0])
        seconds = sweep.seconds_per_sweep(
            self.proof, scored, *self._asked(threats), self.kernel
        )
        share = self.targets.shape[0] / len(groups[0])
        return workload.Workload(self.pairs, seconds * share, self._bytes)

    def statement(self, *, target: int, above: int, below: int) -> Statement:
        """The statement that `above` outranks `below` for `target`."""
        return pair(
            self.geometry, self.targets, target=target, above=above, below=below
        )

    def verdict(
        self,
        statement: Statement | None = None,
        *,
        target: int | None = None,
        above: int | None = None,
        below: int | None = None,
        attack: bool = False,
    ) -> Verdict:
        """Whether `above` is proven to outrank `below` for `target` under the threat.

        Args:
            statement: any other of `natgeo.statements`, instead of the pair.
            target: index of a target.
            above: index of the training example that should score higher.
            below: index of the one that should score lower.
            attack: if there is no proof, search for a counterexample inside the
                threat; with one that is proven the verdict is `refuted`.
        """
        claim = self._claim(statement, target, above, below)
        settle = decide_or_refute if attack else decide
        return settle(self.proof, claim, self.threat)

    def radius(self, *, target: int, above: int, below: int) -> float:
        """The order-2 natural radius up to which the pair is proven; 0 if it is not."""
        return self.verdict(target=target, above=above, below=below).radius

    def refute(
        self,
        statement: Statement | None = None,
        *,
        target: int | None = None,
        above: int | None = None,
        below: int | None = None,
    ) -> Counterexample | DataCounterexample:
        """Explicit perturbed data that swap the pair, re-checked.

        Under `Wasserstein2` it lies just outside the certified radius when the ridge
        is zero, and as close as the attack can get otherwise. What it is under other
        threats says `natgeo.refute`.

        Args:
            statement: any other of `natgeo.statements`, instead of the pair.
            target: index of a target.
            above: index of the training example that scores higher.
            below: index of the one that scores lower.

        Raises:
            ArgumentError: for a threat without an attack.
            DataError: if there is nothing to refute, or nothing that can be attacked.
        """
        claim = self._claim(statement, target, above, below)
        return refute(self.proof, claim, self.threat)

    def _claim(
        self,
        statement: Statement | None,
        target: int | None,
        above: int | None,
        below: int | None,
    ) -> Statement:
        """The statement that was passed, or the pair that was named."""
        pair_ = (target, above, below)
        if (statement is None) == all(index is None for index in pair_):
            raise ArgumentError(
                "Pass either a statement, or target, above and below of a pair."
            )
        if statement is not None:
            return statement
        if None in pair_:
            raise ArgumentError(
                f"target={target}, above={above}, below={below} is not a pair: all "
                f"three are needed."
            )
        return self.statement(target=target, above=above, below=below)  # type: ignore[arg-type]

    def score_range(self, *, target: int, example: int) -> tuple[float, float]:
        """Proven [low, high] of one score r_i w_t . w_i over the whole threat.

        `Delete` and `Add` say by which N their sums are divided.
        """
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
        forms, threat = (
            ranges.enclose(self.proof, left, self.proof.weighted),
            self.threat,
        )
        if isinstance(threat, Moving):
            reach = upward(np.abs(self.geometry.weights) * threat.examples)
            forms = ranges.displaced(
                self.proof,
                forms,
                (left.true_norms, np.array([threat.target])),
                (self.proof.weighted.true_norms, reach),
            )
            threat = threat.threat
        return ranges.span(self.proof, forms, threat)

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
            kappas, radii, moves = self._asked([self.threat])
            self._counts[index] = sweep.count_above_and_below(
                self.proof,
                scored,
                kappas[0],
                radii[0],
                moves,
                progress=self.progress,
            )
        return self._counts[index]

    @cached_property
    def _known(self) -> dict[Wasserstein2, np.ndarray]:
        return {}  # threat -> certified fraction of each target, [M]

    @cached_property
    def _counts(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _threats(self, radii: Sequence[float] | None) -> list[Threat]:
        return [self.threat] if radii is None else [Wasserstein2(r) for r in radii]

    def _fractions(self, threats: Sequence[Wasserstein2]) -> np.ndarray:
        missing = [threat for threat in threats if threat not in self._known]
        if missing:
            found = self._count(missing) / max(self.pairs, 1)
            self._known.update(zip(missing, found.T, strict=True))
        columns = [self._known[threat] for threat in threats]
        empty = np.zeros((self.targets.shape[0], 0))
        return np.stack(columns, axis=1) if columns else empty

    def _count(
        self, threats: Sequence[Threat], part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
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
    kernel: Kernel | None = None,
) -> Rankings:
    """Certified rankings of the training examples for each target.

    Args:
        geometry: the natural geometry of the training set.
        targets: a store or an [M, K] array of target features.
        threat: what may happen to the training distribution, for instance
            `threats.Wasserstein2(0.01)`.
        progress: show a bar on standard error for what takes over a second.
        kernel: what screens pairs in float32, NumPy unless given;
            `natgeo.geometry.kernels.xla` is faster. No result depends on it.

    Raises:
        DataError: if the targets are unusable or belong to another run.
    """
    return Rankings(
        geometry,
        as_target_store(geometry, targets),
        threat,
        progress,
        in_numpy if kernel is None else kernel,
    )
