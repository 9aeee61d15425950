"""How well a score finds known positives: AUROC and recall."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.stats

from natgeo import checks
from natgeo.errors import ArgumentError, DataError


def auroc(scores: Any, positives: Any) -> float:
    """Area under the ROC curve: how often a positive outscores a negative.

    Ties count one half (the Mann-Whitney statistic).

    Args:
        scores: larger means more suspicious, [N].
        positives: which examples are positive, [N] booleans.

    Raises:
        DataError: if there are no positives or no negatives.

    Examples:
        >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        0.75
    """
    values, truth = _checked(scores, positives)
    ranks = scipy.stats.rankdata(values)
    p, n = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - p * (p + 1) / 2) / (p * n))


def recall_at(scores: Any, positives: Any, share: float) -> float:
    """Share of the positives among the `share` highest scores.

    Examples tied at the boundary count by their expected number under a random order.

    Args:
        scores: larger means more suspicious, [N].
        positives: which examples are positive, [N] booleans.
        share: part of the examples that is inspected, in (0, 1].

    Examples:
        >>> recall_at([3.0, 2.0, 1.0, 0.0], [True, False, True, False], 0.5)
        0.5
    """
    share = checks.nonnegative("share", share)
    if not 0 < share <= 1:
        raise ArgumentError(f"share={share} must lie in (0, 1].")
    values, truth = _checked(scores, positives)
    room = round(share * len(values))
    edge = np.sort(values)[::-1][max(room - 1, 0)]
    above, tied = values > edge, values == edge
    if room == 0:
        return 0.0
    found = truth[above].sum() + truth[tied].mean() * (room - above.sum())
    return float(found / truth.sum())


def recall_curve(scores: Any, positives: Any, points: int = 101) -> np.ndarray:
    """`[share inspected, share of the positives found]` at even steps, [points, 2]."""
    shares = np.linspace(0, 1, points)
    found = [0.0, *(recall_at(scores, positives, share) for share in shares[1:])]
    return np.stack([shares, found], axis=1)


def _checked(scores: Any, positives: Any) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(scores, np.float64), np.asarray(positives)
    if truth.dtype != bool or truth.shape != values.shape or values.ndim != 1:
        raise DataError(
            f"positives has dtype {truth.dtype} and shape {truth.shape}: expected one "
            f"boolean for each of the {values.shape} scores."
        )
    checks.finite("scores", values)
    if truth.all() or not truth.any():
        raise DataError(
            f"{int(truth.sum())} of {len(truth)} examples are positive: a detector can "
            f"only be judged with both kinds."
        )
    return values, truth
