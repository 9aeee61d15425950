"""Certified rankings: every pair of training examples, for every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify import ranges, sample, workload
from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.every_pair import EveryPair
from natgeo.certify.ranks import TopK, rank_intervals, top_k
from natgeo.certify.refutation import decide_or_refute, refute
from natgeo.certify.rounding import Proof
from natgeo.certify.screen import Kernel, in_numpy
from natgeo.certify.statements import Statement, pair, proponent
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import Verdict, decide
from natgeo.certify.witness import Counterexample
from natgeo.errors import ArgumentError
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.types import Store, Threat


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
        return self._every_pair.proof

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
        return self._every_pair.count([self.threat])[:, 0] / max(self.pairs, 1)

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
        return self._every_pair.count(self._threats(radii), (which, parts))

    @cached_property
    def fraction_by_norms(self) -> np.ndarray:
        """Share of all pairs that scores and natural norms alone certify, [M].

        A proven lower bound of `fraction` in a few milliseconds for each target.
        """
        return self._every_pair.count_by_norms(self.threat) / max(self.pairs, 1)

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
        drawn = sample.drawn(self.geometry.train.shape[0], pairs, seed, level)
        counts = self._every_pair.count_listed(drawn, self._threats(radii))
        return sample.estimate(
            counts[:, 0] if radii is None else counts, len(drawn), int(seed), level
        )

    def workload(self, radii: Sequence[float] | None = None) -> workload.Workload:
        """Time and memory of `fraction`, or of the curve at `radii`, before it starts.

        Times one tile of pairs, which takes a fraction of a second.
        """
        found = self._every_pair.workload(self._threats(radii))
        return workload.Workload(self.pairs, *found)

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
        claim = self._claim(statement, target=target, above=above, below=below)
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

        What it is under each threat says `natgeo.refute`; under `Wasserstein2` with
        ridge 0 it lies just outside the certified radius.

        Args:
            statement: any other of `natgeo.statements`, instead of the pair.
            target: index of a target.
            above: index of the training example that scores higher.
            below: index of the one that scores lower.

        Raises:
            ArgumentError: for a threat without an attack.
            DataError: if there is nothing to refute, or nothing that can be attacked.
        """
        claim = self._claim(statement, target=target, above=above, below=below)
        return refute(self.proof, claim, self.threat)

    def _claim(self, statement: Statement | None, **indices: Any) -> Statement:
        """The statement that was passed, or that of the pair that was named."""
        named = [name for name, index in indices.items() if index is not None]
        if statement is not None and not named:
            return statement
        if statement is None and len(named) == len(indices):
            return self.statement(**indices)
        raise ArgumentError(
            f"Pass a statement, or target, above and below of a pair: there is "
            f"{'no' if statement is None else 'a'} statement, and of a pair "
            f"{' and '.join(named) or 'nothing'}."
        )

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
        return ranges.score_ranges(self.proof, row, self.threat)

    def ranks(self, target: int) -> np.ndarray:
        """Certified rank interval of every training example, [N, 2]; 1 is the highest.

        rank_i lies in [1 + certified above i, N - certified below i]. Ties widen it.
        """
        return rank_intervals(*self._above_and_below(target))

    def top_k(self, target: int, k: int) -> TopK:
        """Which examples are certified to be in, and out of, the top k of a target."""
        k = checks.count("k", k)
        return top_k(k, *self._above_and_below(target))

    def _above_and_below(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        index = checks.index("target", target, self.targets.shape[0])
        if index not in self._counts:
            self._counts[index] = self._every_pair.above_and_below(index, self.threat)
        return self._counts[index]

    @cached_property
    def _every_pair(self) -> EveryPair:
        return EveryPair(self.geometry, self.targets, self.progress, self.kernel)

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
            found = self._every_pair.count(missing) / max(self.pairs, 1)
            self._known.update(zip(missing, found.T, strict=True))
        columns = [self._known[threat] for threat in threats]
        empty = np.zeros((self.targets.shape[0], 0))
        return np.stack(columns, axis=1) if columns else empty


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
