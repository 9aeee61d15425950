"""The receiver operating characteristic of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo.evaluate.detection import auroc


def roc_curve(scores: Any, positives: Any, points: int = 101) -> np.ndarray:
    """`[share of false alarms, share of positives found]`, at most `points` of them.

    Examples with tied scores are inspected together, so ties are straight lines.

    Args:
        scores: larger means more suspicious, [N].
        positives: which examples are positive, [N] booleans.
        points: how many points of the curve are kept, evenly along it.

    Raises:
        DataError: if there are no positives or no negatives.

    Examples:
        >>> roc_curve([3.0, 2.0, 1.0], [True, False, True]).tolist()
        [[0.0, 0.0], [0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]
    """
    auroc(scores, positives)  # refuses what cannot be judged
    values, truth = np.asarray(scores, np.float64), np.asarray(positives)
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)
    found = np.cumsum(truth[order])[last]
    alarms = np.cumsum(~truth[order])[last]
    curve = np.stack([alarms / alarms[-1], found / found[-1]], axis=1)
    curve = np.concatenate([[[0.0, 0.0]], curve])
    kept = np.unique(np.linspace(0, len(curve) - 1, points).round().astype(int))
    return np.asarray(curve[kept])
