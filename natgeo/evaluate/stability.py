"""How stable scores are under resampling, beside what is certified.

A certificate covers every change within its radius. A bootstrap draws changes of one
kind, usually far outside it: a certified pair that flips under resampling contradicts
nothing. Every draw over examples says how far it lies, in the units of the certificate,
and at ridge 0 a pair whose certified radius is larger than that cannot flip in it.

Residual weights, features and targets are held fixed, as in a certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks, resources
from natgeo.certify.distances import bures, weighted_moments
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.ensemble import Ensemble
from natgeo.geometry.natural import NaturalGeometry, as_target_store


@dataclass(frozen=True, eq=False)
class Stability:
    """Scores under D resamples.

    Attributes:
        scores: the scores as they are, [M, N].
        draws: scores in every resample, [D, M, N].
        distances: `covariance` distance of each resample in natural units, [D], see
            `natgeo.distances`; None where the metric itself is resampled.
        seed: of the resamples.
    """

    scores: np.ndarray
    draws: np.ndarray
    distances: np.ndarray | None
    seed: int

    def __repr__(self) -> str:
        return f"Stability(draws={len(self.draws)}, M={len(self.scores)})"

    @cached_property
    def median(self) -> np.ndarray:
        """Median score over the draws, [M, N]."""
        return np.median(self.draws, axis=0)

    @cached_property
    def signal_to_noise(self) -> np.ndarray:
        """abs(mean) over standard deviation of the draws, [M, N]; inf if constant."""
        spread = self.draws.std(axis=0, ddof=1)
        mean = np.abs(self.draws.mean(axis=0))
        return np.divide(mean, spread, out=np.full_like(mean, np.inf), where=spread > 0)

    def activity(self, k: int) -> np.ndarray:
        """How often an example is among the k most supportive of a target, [M, N].

        Raises:
            ArgumentError: if k is not a whole number from 1 to N.
        """
        size = self.scores.shape[1]
        if checks.count("k", k) > size:
            raise ArgumentError(f"k={k} is more than the {size} training examples.")
        found = np.zeros(self.scores.shape)
        for draw in self.draws:
            best = np.argpartition(-draw, k - 1, axis=1)[:, :k]
            np.put_along_axis(
                found, best, np.take_along_axis(found, best, axis=1) + 1, axis=1
            )
        return found / len(self.draws)

    def flips(self, pairs: Any) -> np.ndarray:
        """How often the order of each pair is not the one of the scores, [P].

        Args:
            pairs: target, first and second example of each, [P, 3]. A tie in a draw is
                a flip.

        Raises:
            ArgumentError: for indices that are out of range.
            DataError: for a pair whose scores tie: it has no order to lose.
        """
        gaps, order = self._gaps(pairs)
        return (np.sign(gaps) != order[None, :]).mean(axis=0)

    def needed(self, level: float = 0.5) -> float:
        """The radius that covers this share of the resamples, in natural units.

        Raises:
            ArgumentError: for a level that is no share.
            DataError: if the distances are not known.
        """
        if self.distances is None:
            raise DataError(
                "Resampling checkpoints changes the metric: it has no distance in it."
            )
        if not 0 < checks.nonnegative("level", level) <= 1:
            raise ArgumentError(f"level={level!r} must lie above 0 and at most be 1.")
        return float(np.quantile(self.distances, level, method="higher"))

    def _gaps(self, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(pairs)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise ArgumentError(
                f"pairs have shape {rows.shape}: expected target, first and second "
                f"example of each, [P, 3]."
            )
        sizes = (len(self.scores), *[self.scores.shape[1]] * 2)
        names = ("target", "first", "second")
        t, i, j = (
            checks.indices(f"pairs, {name}", column, size)
            for name, column, size in zip(names, rows.T, sizes, strict=True)
        )
        order = np.sign(self.scores[t, i] - self.scores[t, j])
        if not order.all():
            place = int(np.flatnonzero(order == 0)[0])
            raise DataError(
                f"pairs[{place}] has two equal scores: there is no order to lose."
            )
        return self.draws[:, t, i] - self.draws[:, t, j], order


def resample_examples(
    geometry: NaturalGeometry,
    targets: Any,
    *,
    draws: int = 100,
    share: float = 1.0,
    seed: int = 0,
) -> Stability:
    """Bootstrap over the training examples: the covariance of each draw is another.

        Q_b = (1/N) sum_i m_i phi_i phi_i^T + ridge I,   m = 1 + share (counts - 1)

    with counts of N examples drawn with replacement.

    Args:
        geometry: of the training set.
        targets: a store or [M, K].
        draws: how many resamples.
        share: part of the weight that is resampled; small ones stay within small radii.
        seed: of the resamples.

    Raises:
        ArgumentError: for bad options, or if the memory does not hold the draws.
        DataError: for unusable targets, or a draw whose covariance is singular.
    """
    store = as_target_store(geometry, targets)
    draws, seed = checks.count("draws", draws, 2), checks.count("seed", seed, 0)
    if not 0 < checks.nonnegative("share", share) <= 1:
        raise ArgumentError(f"share={share!r} must lie above 0 and at most be 1.")
    left = geometry.whiten(np.asarray(store.rows(np.arange(store.shape[0]))))
    right, weights = geometry.natural, geometry.weights[None, :]
    rng, size = np.random.default_rng(seed), len(right)
    made = _room(draws, len(left), size)
    found = np.empty(draws)
    for place in range(draws):
        counts = np.bincount(rng.integers(0, size, size), minlength=size)
        change = weighted_moments(right, share * (counts - 1.0)) / size
        spectrum, basis = np.linalg.eigh(change)
        if not spectrum[0] > -1:
            raise DataError(
                f"Resample {place} has a singular covariance: use a ridge, or a share "
                f"below 1."
            )
        found[place] = float(bures(spectrum))
        turned = (left @ basis) / (1 + spectrum)
        made[place] = (turned @ basis.T) @ right.T * weights
    return Stability(left @ right.T * weights, made, found, seed)


def resample_checkpoints(
    ensemble: Ensemble, *, draws: int = 100, seed: int = 0
) -> Stability:
    """Bootstrap over the checkpoints of an ensemble: scores of C drawn from C.

    Raises:
        ArgumentError: for one checkpoint, bad options, or if the memory does not hold
            the draws.
    """
    draws, seed = checks.count("draws", draws, 2), checks.count("seed", seed, 0)
    kernels, weights = kernels_of(ensemble)
    count = len(kernels)
    if count < 2:
        raise ArgumentError("One checkpoint has nothing to resample: give two or more.")
    rng = np.random.default_rng(seed)
    made = _room(draws, *kernels[0].shape)
    for place in range(draws):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count) / count
        made[place] = np.tensordot(drawn, kernels, 1) * (drawn @ weights)
    scores = kernels.mean(axis=0) * weights.mean(axis=0)
    return Stability(scores, made, None, seed)


def kernels_of(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """w_t . w_i [C, M, N] and r_i [C, N] of every checkpoint, float64.

    Raises:
        ArgumentError: if the memory does not hold them.
    """
    shape = ensemble.targets[0].shape[0], ensemble.geometries[0].train.shape[0]
    kernels = _room(len(ensemble.geometries), *shape)
    for place, (geometry, store) in enumerate(
        zip(ensemble.geometries, ensemble.targets, strict=True)
    ):
        left = geometry.whiten(np.asarray(store.rows(np.arange(shape[0]))))
        start = 0
        for block in geometry.natural_blocks():
            kernels[place, :, start : start + len(block)] = left @ block.T
            start += len(block)
    return kernels, np.stack([geometry.weights for geometry in ensemble.geometries])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Certified radius against flips, for a sample of pairs.

    Attributes:
        pairs: target, above and below, [P, 3].
        radius: certified radius of each, [P], natural units.
        flips: share of the resamples in which it flips, [P].
        distances: of the resamples, [D].
    """

    pairs: np.ndarray
    radius: np.ndarray
    flips: np.ndarray
    distances: np.ndarray


def against_certificates(
    stability: Stability,
    radius: Callable[..., float],
    *,
    pairs: int = 500,
    seed: int = 0,
) -> Comparison:
    """Certified radii of a random sample of pairs beside how often they flip.

    Args:
        stability: from `resample_examples`.
        radius: `Rankings.radius`, of the same geometry and targets.
        pairs: how many to draw; those that tie are left out.
        seed: of the sample.

    Raises:
        DataError: if the distances of the resamples are not known.
    """
    if stability.distances is None:
        raise DataError(
            "Resampling checkpoints changes the metric: compare resample_examples."
        )
    rng = np.random.default_rng(checks.count("seed", seed, 0))
    m, n = stability.scores.shape
    t = rng.integers(0, m, checks.count("pairs", pairs))
    i = rng.integers(0, n, len(t))
    j = (i + rng.integers(1, n, len(t))) % n
    gap = stability.scores[t, i] - stability.scores[t, j]
    rows = np.stack([t, np.where(gap > 0, i, j), np.where(gap > 0, j, i)], axis=1)
    rows = rows[gap != 0]
    found = [radius(target=int(a), above=int(b), below=int(c)) for a, b, c in rows]
    return Comparison(rows, np.array(found), stability.flips(rows), stability.distances)


def _room(*shape: int) -> np.ndarray:
    resources.require_memory(
        8 * int(np.prod(shape)),
        f"{' x '.join(f'{n:,}' for n in shape)} scores in float64",
        "Use fewer draws, or fewer targets at a time.",
    )
    return np.empty(shape)
