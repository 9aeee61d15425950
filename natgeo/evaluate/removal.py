"""Counterfactuals: remove what a score calls most supportive, and train again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError
from natgeo.evaluate.agreement import models_of


@dataclass(frozen=True, eq=False)
class RemovalCurve:
    """What removing k examples takes from the outputs of T targets.

    Attributes:
        counts: how many are removed, [G].
        targets: index of each target, [T].
        drops: f_t(everything) - f_t(without its k most supportive), [T, G].
        random: the same without k random examples, mean over the draws, [T, G].
        low: lower ends of the intervals of the mean of `drops - random` over targets,
            [G].
        high: upper ends.
        level: of the intervals, by bootstrap over targets.
        seed: of the random removals and the bootstrap.
    """

    counts: np.ndarray
    targets: np.ndarray
    drops: np.ndarray
    random: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    seed: int


def removal_curve(
    scores: Any,
    train: Callable[[np.ndarray], Any],
    *,
    counts: Sequence[int],
    targets: Sequence[int],
    draws: int = 3,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RemovalCurve:
    """Removes the k most supportive examples of each target, and k random ones.

    Trains 1 + G (T + draws) models.

    Args:
        scores: [M, N]; positive supports.
        train: `train(weights [S, N])` -> what `evaluate.retrain` returns, for instance
            `functools.partial(evaluate.retrain, init, training, outputs)`.
        counts: numbers of examples to remove.
        targets: indices of the targets to do this for.
        draws: random removals of each size, shared by the targets.
        resamples: bootstrap resamples of the targets, for the intervals.
        seed: of the random removals and of the bootstrap.
        level: of the intervals.

    Raises:
        ArgumentError: for counts or targets that are out of range, or bad options.
    """
    values = np.asarray(checks.matrix("scores", scores), np.float64)
    chosen = checks.indices("targets", targets, len(values))
    sizes = checks.indices("counts", counts, values.shape[1])
    if not len(chosen) or not len(sizes) or not sizes.all():
        raise ArgumentError(
            f"counts={counts!r} and targets={targets!r}: expected at least one of each,"
            f" and counts of at least 1."
        )
    draws, resamples = (
        checks.count("draws", draws),
        checks.count("resamples", resamples),
    )
    rng = np.random.default_rng(checks.count("seed", seed, 0))
    if not 0 < checks.nonnegative("level", level) < 1:
        raise ArgumentError(f"level={level!r} must lie between 0 and 1.")
    rows = [np.ones(values.shape[1], np.float32)]
    for size in sizes:
        best = np.argsort(-values[chosen], axis=1, kind="stable")[:, :size]
        lots = [rng.permutation(values.shape[1])[:size] for _ in range(draws)]
        rows += [_without(values.shape[1], gone) for gone in (*best, *lots)]
    outputs, _ = models_of(train(np.stack(rows)))
    lost = (outputs[0] - outputs[1:])[:, chosen].reshape(len(sizes), -1, len(chosen))
    drops = np.stack([np.diag(part[: len(chosen)]) for part in lost], axis=1)
    random = lost[:, len(chosen) :].mean(axis=1).T
    picks = rng.integers(0, len(chosen), (resamples, len(chosen)))
    means = (drops - random)[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return RemovalCurve(sizes, chosen, drops, random, low, high, level, int(seed))


def _without(size: int, gone: np.ndarray) -> np.ndarray:
    row = np.ones(size, np.float32)
    row[gone] = 0
    return row
