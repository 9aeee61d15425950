"""Agreement of predictions with truth, target by target, with a bootstrap interval.

Both the targets and the models are resampled: the interval says what other targets and
other retrained models would have given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError

# (x [M, S], y [M, S], how often each column counts [S]) -> one number a target, [M].
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Agreement:
    """A number for each target, their mean, and how sure it is.

    Attributes:
        each: one number for each target, [M].
        value: their mean.
        low: lower end of the percentile interval of the mean.
        high: upper end.
        draws: the mean in every resample, [resamples].
        level: of the interval.
        seed: of the resamples.
    """

    each: np.ndarray
    value: float
    low: float
    high: float
    draws: np.ndarray
    level: float
    seed: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def minus(self, other: Agreement) -> Agreement:
        """The difference to another one on the same truth, by the same resamples.

        Far sharper than comparing two intervals: what makes a resample easy makes it
        easy for both.

        Raises:
            ArgumentError: if the resamples are not the same ones.
        """
        alike = ("level", "seed")
        same = all(getattr(self, name) == getattr(other, name) for name in alike)
        shapes = (
            self.each.shape + self.draws.shape,
            other.each.shape + other.draws.shape,
        )
        if not same or shapes[0] != shapes[1]:
            raise ArgumentError(
                f"The two were not resampled alike: targets and resamples "
                f"{shapes[0]} and {shapes[1]}, seeds {self.seed} and {other.seed}. Use "
                f"the same truth, resamples, seed and level."
            )
        return _summary(
            self.each - other.each, self.draws - other.draws, self.level, self.seed
        )


def agreement(
    predicted: np.ndarray,
    truth: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Agreement:
    """How well each row of `predicted` agrees with that of `truth`.

    Args:
        predicted: [M, S], a row for each target, a column for each model.
        truth: what came out, [M, S].
        statistic: `spearman`, `pearson` or `slope`.
        resamples: bootstrap resamples of targets and of models.
        seed: of the resamples.
        level: of the interval, between 0 and 1.

    Raises:
        ArgumentError: for bad options.
        DataError: if there are too few models, or a row is constant, so that nothing
            can agree with it.
    """
    resamples, seed = (
        checks.count("resamples", resamples),
        checks.count("seed", seed, 0),
    )
    if not 0 < checks.nonnegative("level", level) < 1:
        raise ArgumentError(f"level={level!r} must lie between 0 and 1.")
    count = truth.shape[1]
    if count < 3:
        raise DataError(f"{count} models are too few: expected at least 3.")
    for name, rows in (("The predictions", predicted), ("The outputs", truth)):
        flat = np.flatnonzero(np.ptp(rows, axis=1) == 0)
        if len(flat):
            raise DataError(
                f"{name} of target {flat[0]} are the same for every model, so that "
                f"nothing can correlate with them ({len(flat)} of {len(rows)} targets)."
            )
    each = statistic(predicted, truth, np.ones(count))
    rng, draws = np.random.default_rng(seed), np.empty(resamples)
    for place in range(resamples):
        models = np.bincount(rng.integers(0, count, count), minlength=count)
        targets = np.bincount(
            rng.integers(0, len(each), len(each)), minlength=len(each)
        )
        found = statistic(predicted, truth, models.astype(np.float64))
        # A resample may repeat too few models to correlate: that is no agreement.
        draws[place] = np.nan_to_num(found) @ targets / len(each)
    return _summary(each, draws, level, seed)


def spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rank correlation of each row, [M]; column s is there counts[s] times."""
    return pearson(_ranks(x, counts), _ranks(y, counts), counts)


def pearson(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlation of each row, [M]; NaN where a row is constant."""
    xx, xy, yy = _moments(x, y, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return xy / np.sqrt(xx * yy)


def slope(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Least-squares slope of y over x, [M]; NaN where x is constant."""
    xx, xy, _ = _moments(x, y, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return xy / xx


def scored(scores: Any, weights: np.ndarray, targets: int) -> np.ndarray:
    """Scores as [M, N] float64 that fit the outputs of models.

    Raises:
        DataError: if they are not finite, or have other shapes.
    """
    values = np.asarray(checks.matrix("scores", scores), np.float64)
    if values.shape != (targets, weights.shape[1]):
        raise DataError(
            f"scores have shape {values.shape}: expected {targets} targets and "
            f"{weights.shape[1]} training examples, as the retrained models have."
        )
    return values


def models_of(retrained: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [S, M] and weights [S, N] of `Retrained`, or of such a pair.

    Raises:
        DataError: if they do not belong together.
    """
    if isinstance(retrained, (tuple, list)) and len(retrained) == 2:
        outputs, weights = retrained
    elif hasattr(retrained, "outputs") and hasattr(retrained, "weights"):
        outputs, weights = retrained.outputs, retrained.weights
    else:
        raise ArgumentError(
            f"retrained is a {type(retrained).__name__}: expected what "
            f"evaluate.retrain returns, or a pair of outputs [S, M] and weights [S, N]."
        )
    made = checks.matrix("outputs", outputs)
    rows = np.asarray(weights, np.float64)
    if rows.ndim != 2 or len(rows) != len(made):
        raise DataError(
            f"weights have shape {rows.shape} and outputs {made.shape}: expected a row "
            f"of each for every model."
        )
    checks.finite("weights", rows)
    return np.asarray(made, np.float64), rows


def _summary(each: np.ndarray, draws: np.ndarray, level: float, seed: int) -> Agreement:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(
        each, float(each.mean()), float(low), float(high), draws, level, seed
    )


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean ranks within each row when column s is there counts[s] times, [M, S]."""
    rows, columns = values.shape
    order = np.argsort(values, axis=1, kind="stable")
    inorder = np.take_along_axis(values, order, axis=1)
    new = np.ones((rows, columns), bool)
    new[:, 1:] = inorder[:, 1:] != inorder[:, :-1]
    groups = np.empty((rows, columns), np.intp)
    np.put_along_axis(groups, order, np.cumsum(new, axis=1) - 1, axis=1)
    groups += np.arange(rows)[:, None] * columns
    sizes = np.bincount(
        groups.ravel(), weights=np.tile(counts, rows), minlength=rows * columns
    ).reshape(rows, columns)
    middle = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    return middle.ravel()[groups]


def _moments(
    x: np.ndarray, y: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    total = counts.sum()
    x = x - (x @ counts / total)[:, None]
    y = y - (y @ counts / total)[:, None]
    return (x * x) @ counts, (x * y) @ counts, (y * y) @ counts
