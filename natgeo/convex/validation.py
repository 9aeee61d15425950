"""The ridge by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from natgeo import checks
from natgeo.convex.model import ConvexModel
from natgeo.errors import ArgumentError, DataError

# Three a decade, in units of the mean loss on standardised columns.
RIDGES = tuple(float(f"{r:.4g}") for r in np.logspace(-5, 1, 19))
RULES = ("minimum", "one-se")


@dataclass(frozen=True, eq=False)
class Validation:
    """Losses on held-out folds over a grid of ridges.

    Attributes:
        ridges: mu, [R], ascending.
        losses: [R, folds], mean loss of every fold when it was held out.
        folds: number of folds.
        seed: of their assignment.
    """

    ridges: np.ndarray
    losses: np.ndarray
    folds: int
    seed: int

    @property
    def means(self) -> np.ndarray:
        """Mean over the folds, [R]."""
        return self.losses.mean(axis=1)

    @property
    def errors(self) -> np.ndarray:
        """Standard error of that mean, [R]."""
        return self.losses.std(axis=1, ddof=1) / np.sqrt(self.folds)

    def choose(self, rule: str = "minimum") -> float:
        """The ridge of least mean loss, or the largest within one standard error of it.

        Raises:
            ArgumentError: for an unknown rule.
        """
        if rule not in RULES:
            raise ArgumentError(f"rule={rule!r}: expected one of {', '.join(RULES)}.")
        best = int(np.argmin(self.means))
        if rule == "minimum":
            return float(self.ridges[best])
        within = self.means <= self.means[best] + self.errors[best]
        return float(self.ridges[np.flatnonzero(within)[-1]])


def cross_validate(
    model: ConvexModel,
    ridges: Sequence[float] = RIDGES,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Validation:
    """Held-out losses of a model over a grid of ridges, by K folds.

    Rows of one class are dealt out evenly. The standardisation stays that of the whole
    table, so that a column that is constant in one fold is no obstacle. Every fit
    starts from the one before, from the largest ridge down.

    Args:
        model: a fitted model; its ridge does not matter.
        ridges: mu, positive.
        folds: K, at least two.
        seed: of the folds.

    Raises:
        ArgumentError: for bad ridges, or fewer than two folds.
        DataError: if there are too few rows, or too few of a class.
    """
    grid = np.sort([checks.nonnegative("ridges", r) for r in ridges])[::-1]
    if not len(grid) or not grid[-1] > 0:
        raise ArgumentError("ridges must be positive, and there must be one.")
    count = checks.count("folds", folds, 2)
    assigned = _assign(model, count, seed)
    losses = np.empty((len(grid), count))
    for fold in range(count):
        inside = assigned == fold
        fitted = model
        for place, ridge in enumerate(grid):
            fitted = _refit(model, fitted.coefficients, inside, ridge)
            held = fitted.losses(model.design[inside], model.labels[inside])
            losses[place, fold] = np.average(held, weights=model.weights[inside])
    return Validation(grid[::-1], losses[::-1], count, seed)


def _refit(
    model: ConvexModel, start: np.ndarray, inside: np.ndarray, ridge: float
) -> ConvexModel:
    weights = model.weights[~inside]
    penalty = np.full(model.design.shape[1], ridge)
    if model.scaling.intercept:
        penalty[-1] = 0.0
    return model.refit(
        design=model.design[~inside],
        labels=model.labels[~inside],
        weights=weights / weights.sum(),
        penalty=penalty,
        start=start,
    )


def _assign(model: ConvexModel, folds: int, seed: int) -> np.ndarray:
    """The fold of every row, [N]: a random order, dealt out class by class."""
    order = np.random.default_rng(seed).permutation(len(model.design))
    if model.classes is not None:
        counts = np.bincount(model.labels, minlength=len(model.classes))
        if np.min(counts) < 2:
            raise DataError(
                f"Class {model.classes[np.argmin(counts)]!s} has {np.min(counts)} "
                f"rows: cross-validation needs two of each. Drop the class, or give "
                f"the ridge."
            )
        order = order[np.argsort(model.labels[order], kind="stable")]
    if len(order) < 2 * folds:
        raise DataError(f"{len(order)} rows are too few for {folds} folds.")
    assigned = np.empty(len(order), int)
    assigned[order] = np.arange(len(order)) % folds
    return assigned
