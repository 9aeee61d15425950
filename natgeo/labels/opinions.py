"""What four kinds of models say about rows of a table, none trained on the row itself.

Which of them suits a table is not known beforehand: trees where columns act by
thresholds and together, lines where they add up, a kernel or a network where classes
are smooth. `detectors.stacked` weighs them by how well they predict the given labels.
"""

from __future__ import annotations

import numpy as np

from natgeo.labels.builtin import cross_fitted
from natgeo.labels.forest import left_out_votes
from natgeo.labels.inputs import WIDEST, random_waves
from natgeo.labels.left_out import calibrated, leave_one_out


def table_opinions(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    *,
    epochs: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Log-probabilities of trees, the network, a kernel and lines, [N, C] each.

    Args:
        x: columns, [N, D], float32.
        y: given labels, [N], int32.
        classes: C.
        epochs: of the network; default as in `builtin.train`.
        seed: of all draws.
        progress: show bars on standard error for what takes over a second.
    """
    said = {
        "trees": left_out_votes(x, y, classes=classes, seed=seed, progress=progress),
        "network": calibrated(
            cross_fitted(x, y, classes, epochs=epochs, seed=seed, progress=progress), y
        ),
        "kernel": leave_one_out(random_waves(x, seed=seed), y, classes=classes),
    }
    if x.shape[1] <= WIDEST:
        said["lines"] = leave_one_out(x, y, classes=classes)
    return said
