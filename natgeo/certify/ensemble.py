"""Certificates for the scores of an ensemble of checkpoints (certificates.md, 6).

The form of an ensemble statement is the mean over checkpoints of u_c^T M_c v_c, with
the mean residual weights in every v_c. Each checkpoint has its own covariance and its
own ball. Whatever one training distribution does, it does inside all of them, so

    form >= 1/C sum_c low_c,    low_c the least value over the ball of checkpoint c,

and the statement is certified if the sum, rounded down, is positive. One radius in C
metrics is C assumptions: they are named wherever a verdict is printed. An ensemble of
one checkpoint gets exactly the verdicts of that checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify import disc, ranges, sample
from natgeo.certify.bounds import TINY, U, row_norms, upward
from natgeo.certify.ensemble_pairs import EnsemblePairs
from natgeo.certify.rankings import Rankings, certify_rankings
from natgeo.certify.ranks import rank_intervals
from natgeo.certify.rounding import NaturalRows, Proof, prove
from natgeo.certify.statements import Combination, Statement, combine
from natgeo.certify.verdict import CERTIFIED, UNDECIDED, decide
from natgeo.geometry.ensemble import Ensemble
from natgeo.types import Threat

_LEAST = 2.0**-1074  # what the rounding of a subnormal can lose
_FINEST = 1e-9  # relative width at which a bisection of the radius stops


@dataclass(frozen=True, eq=False)
class EnsembleVerdict:
    """What is proven about one statement about the ensemble's scores.

    Attributes:
        status: `certified` or `undecided`; see `Verdict`.
        low: proven least value of the form over the threat.
        high: proven greatest value.
        claim: the statement in words.
        threat: the threat in words, with its C assumptions.
    """

    status: str
    low: float
    high: float
    claim: str
    threat: str

    def __bool__(self) -> bool:
        raise TypeError(
            "A verdict is not a truth value: compare verdict.status with 'certified' "
            "or 'undecided'."
        )


@dataclass(frozen=True, eq=False)
class EnsembleRankings:
    """Certificates for the order of the training examples under an ensemble.

    Attributes:
        ensemble: the geometries of the C checkpoints.
        threat: what may happen to the training distribution, in every checkpoint.
        progress: show a bar on standard error for what takes over a second.
    """

    ensemble: Ensemble
    threat: Threat
    progress: bool = field(default=False)

    def __repr__(self) -> str:
        return f"EnsembleRankings({self.ensemble!r}, {self.threat})"

    @cached_property
    def proofs(self) -> tuple[Proof, ...]:
        """The rounding proof of each checkpoint, with the ensemble's weights."""
        return tuple(self._proof(geometry) for geometry in self.ensemble.geometries)

    def describe(self) -> str:
        """The threat in words: one assumption for each checkpoint."""
        count = len(self.ensemble.geometries)
        if count == 1:
            return self.threat.describe()
        return (
            f"{self.threat.describe()}; this is assumed {count} times, once in the "
            f"natural metric of the features of each of {count} checkpoints"
        )

    def verdict(self, *, target: int, above: int, below: int) -> EnsembleVerdict:
        """Whether `above` is proven to outrank `below` for `target`.

        Raises:
            ArgumentError: for an index out of range, or a threat that bounds no form.
        """
        weights, (i, j) = (
            self.ensemble.weights,
            self._examples(above=above, below=below),
        )
        return self._decide(
            f"for target {target}, training example {i} keeps a larger ensemble score "
            f"than {j}",
            target,
            [(weights[i], i), (-weights[j], j)],
        )

    def proponent(self, *, target: int, example: int) -> EnsembleVerdict:
        """Whether an example is proven to keep a positive ensemble score."""
        (i,) = self._examples(example=example)
        return self._decide(
            f"training example {i} keeps a positive ensemble score for target {target}",
            target,
            [(self.ensemble.weights[i], i)],
        )

    def opponent(self, *, target: int, example: int) -> EnsembleVerdict:
        """Whether an example is proven to keep a negative ensemble score."""
        (i,) = self._examples(example=example)
        return self._decide(
            f"training example {i} keeps a negative ensemble score for target {target}",
            target,
            [(-self.ensemble.weights[i], i)],
        )

    def radius(self, *, target: int, above: int, below: int) -> float:
        """The order-2 radius, the same in every metric, up to which a pair is proven.

        Found by bisection; the number returned was itself proven. 0 if there is none.
        """
        i, j = self._examples(above=above, below=below)
        weights = self.ensemble.weights
        made = self._statements("", target, [(weights[i], i), (-weights[j], j)])
        if len(made) == 1:
            return decide(self.proofs[0], made[0], self.threat).radius
        forms = [
            ranges.forms_of(proof, claim)
            for proof, claim in zip(self.proofs, made, strict=True)
        ]
        low = np.concatenate([form.low for form in forms])
        norms = np.concatenate([form.norms for form in forms])
        certain, beyond = 0.0, 1.0
        while beyond - certain > _FINEST * beyond and beyond > 1e-15:
            middle = (certain + beyond) / 2
            if _mean_from_below(disc.least(low, norms, middle)) > 0:
                certain = middle
            else:
                beyond = middle
        return certain

    def score_range(self, *, target: int, example: int) -> tuple[float, float]:
        """Proven [low, high] of one ensemble score over the threat."""
        verdict = self.proponent(target=target, example=example)
        return verdict.low, verdict.high

    @property
    def pairs(self) -> int:
        """Number of unordered pairs of training examples, N (N - 1) / 2."""
        n = self.ensemble.geometries[0].train.shape[0]
        return n * (n - 1) // 2

    @cached_property
    def fraction(self) -> np.ndarray:
        """Share of all pairs that is certified under the threat, [M]; 0 if no pairs.

        A proven lower bound over all N (N - 1) / 2 pairs. For C > 1 it takes
        N^2 (K + 5 M) C steps: `estimate` samples where that is too many.
        """
        if len(self.ensemble.geometries) == 1:
            return self._only.fraction
        return self._every_pair.count(progress=self.progress) / max(self.pairs, 1)

    def estimate(
        self, pairs: int, *, seed: int = 0, level: float = 0.95
    ) -> sample.Estimate:
        """The certified fraction from a uniform sample of pairs, as for `Rankings`.

        Args:
            pairs: how many pairs to draw, with replacement.
            seed: of the sample, recorded in the result.
            level: of the Clopper-Pearson interval of each fraction.

        Raises:
            ArgumentError: for a bad number, or fewer than two training examples.
        """
        if len(self.ensemble.geometries) == 1:
            return self._only.estimate(pairs, seed=seed, level=level)
        drawn = sample.drawn(
            self.ensemble.geometries[0].train.shape[0], pairs, seed, level
        )
        hits = self._every_pair.count_listed(drawn)
        return sample.estimate(hits, len(drawn), int(seed), level)

    def ranks(self, target: int) -> np.ndarray:
        """Certified rank interval of every training example, [N, 2]; 1 is the highest.

        As `Rankings.ranks`, over all pairs, in N^2 (K + 5) C steps.
        """
        index = checks.index("target", target, self.ensemble.targets[0].shape[0])
        if len(self.ensemble.geometries) == 1:
            return self._only.ranks(index)
        return rank_intervals(*self._every_pair.above_and_below(index))

    @cached_property
    def _only(self) -> Rankings:
        """The rankings of the only checkpoint: everything about it is theirs."""
        (geometry,), (targets,) = self.ensemble.geometries, self.ensemble.targets
        return certify_rankings(geometry, targets, self.threat, progress=self.progress)

    @cached_property
    def _every_pair(self) -> EnsemblePairs:
        return EnsemblePairs(self.proofs, self.ensemble.targets, self.threat)

    def _proof(self, geometry: Any) -> Proof:
        proof = prove(geometry)
        if len(self.ensemble.geometries) == 1 or not self.ensemble.weighted:
            return proof
        scaled = proof.train.scaled(self.ensemble.weights)
        # The mean weights are rounded once, so each row is off by u of itself more.
        lost = 2 * U * scaled.true_norms + _LEAST * proof.train.true_norms
        errors = upward(scaled.errors + lost)
        weighted = NaturalRows(scaled.rows, scaled.norms, errors)
        return replace(proof, weighted=weighted)

    def _examples(self, **indices: Any) -> list[int]:
        size = self.ensemble.geometries[0].train.shape[0]
        return [checks.index(name, value, size) for name, value in indices.items()]

    def _statements(
        self, claim: str, target: int, terms: list[tuple[float, int]]
    ) -> list[Statement]:
        """The statement as each checkpoint sees it."""
        size = self.ensemble.targets[0].shape[0]
        t = checks.index("target", target, size)
        inexact = len(self.ensemble.geometries) > 1 and self.ensemble.weighted
        made = []
        for geometry, targets in zip(
            self.ensemble.geometries, self.ensemble.targets, strict=True
        ):
            row = np.asarray(targets.rows(np.array([t])), np.float64)[0]
            features = np.asarray(
                geometry.train.rows(np.array([i for _, i in terms])), np.float64
            )
            coefficients = np.array([weight for weight, _ in terms])
            with np.errstate(over="ignore", invalid="ignore"):
                vectors, formation = combine(features[None], coefficients[None])
                if inexact:
                    rounded = 2 * U * np.abs(coefficients) + _LEAST
                    formation = upward(formation + rounded @ row_norms(features))
            made.append(
                Statement(
                    claim,
                    Combination(row, 0.0),
                    Combination(vectors[0], float(formation[0])),
                )
            )
        return made

    def _decide(
        self, claim: str, target: int, terms: list[tuple[float, int]]
    ) -> EnsembleVerdict:
        made = self._statements(claim, target, terms)
        ends = np.array(
            [
                ranges.score_range(proof, statement, self.threat)
                for proof, statement in zip(self.proofs, made, strict=True)
            ]
        )
        low, high = _mean_from_below(ends[:, 0]), -_mean_from_below(-ends[:, 1])
        if len(made) == 1:
            status = decide(self.proofs[0], made[0], self.threat).status
        else:
            # "is True" because anything else, NaN included, must not certify.
            status = CERTIFIED if (low > 0) is True else UNDECIDED
        return EnsembleVerdict(status, low, high, claim, self.describe())


def certify_ensemble(
    ensemble: Ensemble, threat: Threat, *, progress: bool = False
) -> EnsembleRankings:
    """Certified rankings of the training examples under an ensemble of checkpoints.

    Args:
        ensemble: from `natgeo.ensemble`.
        threat: what may happen to the training distribution in every checkpoint.
        progress: show a bar on standard error for what takes over a second.
    """
    ranges.least_of(threat)
    return EnsembleRankings(ensemble, threat, progress)


def _mean_from_below(values: np.ndarray) -> float:
    """A lower bound of the mean; the sum of one value is exact."""
    total = math.fsum(values) if np.isfinite(values).all() else -math.inf
    if len(values) == 1:
        return float(values[0])
    # fsum and the quotient round once each.
    return total / len(values) - 2.0**-51 * abs(total) - TINY
