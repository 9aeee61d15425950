"""What four kinds of models say about rows of a table, none trained on the row itself.

Which of them suits a table is not known beforehand: trees where columns act by
thresholds and together, lines where they add up, a kernel or a network where classes
are smooth. `detectors.stacked` weighs them by how well they predict the given labels.
"""

from __future__ import annotations

import numpy as np

from natgeo import checks
from natgeo.labels.builtin import cross_fitted
from natgeo.labels.forest import left_out_votes
from natgeo.labels.inputs import WIDEST
from natgeo.labels.left_out import calibrated, leave_one_out

WAVES, _PAIRS, _FARTHEST = 500, 2000, 5.0  # deviations, beyond which columns are cut


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


def random_waves(x: np.ndarray, count: int = WAVES, seed: int = 0) -> np.ndarray:
    """Features whose products approximate a Gaussian kernel, [N, at most `count`].

    Random Fourier features (Rahimi and Recht, NeurIPS 2007) of standardised columns,
    no more of them than rows. The kernel is 1 / e at the median distance.

    Args:
        x: columns, [N, D].
        count: of the features.
        seed: of the draws.
    """
    given = np.asarray(checks.matrix("x", x), np.float64)
    deviation = given.std(axis=0)
    rows = (given - given.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    rows = rows.clip(-_FARTHEST, _FARTHEST).astype(np.float32)
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, len(rows), (2, _PAIRS))
    distances = np.linalg.norm(rows[one] - rows[other], axis=1)
    apart = distances[distances > 0]
    width = float(np.median(apart)) if len(apart) else 1.0
    count = min(checks.count("count", count), len(rows))
    waves = rng.normal(size=(rows.shape[1], count)) * np.sqrt(2) / width
    return np.cos(
        rows @ np.float32(waves) + np.float32(rng.uniform(0, 2 * np.pi, count))
    )
