"""Scores against retrained models: subsets (LDS), and single examples left out.

Positive scores support the target's output, so that scores predict outputs with the
same sign: the output of a model is, up to a constant, the sum of the scores of the
examples it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.errors import DataError
from natgeo.evaluate.agreement import (
    Agreement,
    agreement,
    models_of,
    pearson,
    scored,
    slope,
    spearman,
)


def lds(
    scores: Any,
    retrained: Any,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Agreement:
    """Linear datamodeling score: do summed scores order models trained on subsets?

        LDS_t = Spearman over s of  (sum_i w_si tau(t, i),  f_t(model s))

    arXiv 2303.14186, section 2. 1 is perfect, 0 is chance; what the randomness of
    training leaves possible is less than 1 (see `ceiling`).

    Args:
        scores: [M, N], for instance from `natgeo.scores`.
        retrained: from `evaluate.retrain` with `half_subsets`, or a pair of outputs
            [S, M] and weights [S, N].
        resamples: bootstrap resamples of targets and subsets, for the interval.
        seed: of the resamples.
        level: of the interval.

    Raises:
        ArgumentError: for bad options.
        DataError: if scores and models do not fit, or a row is constant.

    Examples:
        >>> weights = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
        >>> found = lds([[0.0, 1.0, 3.0]], (np.array([[1.0], [4.0], [3.5]]), weights))
        >>> found.value
        1.0
    """
    outputs, weights = models_of(retrained)
    values = scored(scores, weights, outputs.shape[1])
    return agreement(
        values @ weights.T,
        outputs.T,
        spearman,
        resamples=resamples,
        seed=seed,
        level=level,
    )


def ceiling(
    retrained: Any, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Agreement:
    """How well the seeds of a retraining predict each other: roughly what LDS can be.

    The rank correlation over subsets of the mean output of the even seeds with that of
    the odd ones. Scores that knew the expected output of every subset would be compared
    with the mean of all seeds, and reach more.

    Args:
        retrained: from `evaluate.retrain` with at least two seeds.
        resamples: as in `lds`.
        seed: as in `lds`.
        level: as in `lds`.

    Raises:
        DataError: if there is one seed only.
    """
    each = getattr(retrained, "each", None)
    if each is None or len(each) < 2:
        raise DataError(
            "One seed cannot tell what training leaves to chance: retrain with at least"
            " two (seeds=2)."
        )
    even, odd = (np.asarray(each[i::2], np.float64).mean(axis=0).T for i in (0, 1))
    return agreement(even, odd, spearman, resamples=resamples, seed=seed, level=level)


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """How scores agree with what leaving examples out does.

    Attributes:
        pearson: correlation with the effects.
        spearman: rank correlation with them.
        slope: of N times the effect over the score; 1 where scores are effects, as for
            Natural W-TRAK scores of a linear model up to its leverages.
    """

    pearson: Agreement
    spearman: Agreement
    slope: Agreement


def leave_one_out(
    scores: Any,
    retrained: Any,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LeaveOneOut:
    """Compares scores with the effects of leaving out examples, or groups of them.

        effect[t, g] = f_t(everything) - f_t(without g)  ~  (1/N) sum_{i in g} tau(t, i)

    Args:
        scores: [M, N].
        retrained: from `evaluate.retrain` with rows of `leave_out`, or a pair of
            outputs [S, M] and such rows; row 0 is trained on everything.
        resamples: bootstrap resamples of targets and groups, for the intervals.
        seed: of the resamples.
        level: of the intervals.

    Raises:
        ArgumentError: for bad options.
        DataError: if row 0 is not everything, or scores and models do not fit.
    """
    outputs, weights = models_of(retrained)
    values = scored(scores, weights, outputs.shape[1])
    if not (weights[0] == 1).all():
        raise DataError(
            "Row 0 of the weights must be all ones, a model trained on everything: "
            "make the rows with evaluate.leave_out."
        )
    effects = (outputs[0] - outputs[1:]).T
    predicted = values @ (1 - weights[1:]).T / values.shape[1]
    found = (
        agreement(predicted, effects, each, resamples=resamples, seed=seed, level=level)
        for each in (pearson, spearman, slope)
    )
    return LeaveOneOut(*found)
