"""Wrong labels of three kinds, made from right ones, for judging detectors.

`uniform`: any example, any other class. `class`: each class is mistaken for one other
class, at a rate of its own. `boundary`: examples that a reference finds hard, mistaken
for the class that it confuses them with. The reference is kernel ridge regression on
the inputs, leave-one-out, with the right labels: not one of the models that are
judged on the noise.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

KINDS = ("uniform", "class", "boundary")
# Of how many times the flips, counted from the hardest, `boundary` draws.
HARD = 3


def flip(kind: str, x: np.ndarray, y: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Labels of which round(rate N) are wrong, [N].

    Args:
        kind: one of `KINDS`.
        x: inputs, [N, ...]; used by `boundary` alone.
        y: right labels, [N], whole numbers from 0.
        rate: share of wrong labels, in (0, 1).
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    classes, count = int(y.max()) + 1, round(rate * len(y))
    if kind == "uniform":
        other = (y + rng.integers(1, classes, len(y))) % classes
        chance = np.ones(len(y))
    elif kind == "class":
        # A random cycle through all classes, and rates from a third to 5 / 3.
        cycle = rng.permutation(classes)
        partner = np.empty(classes, int)
        partner[cycle] = np.roll(cycle, 1)
        other, chance = (
            partner[y],
            np.linspace(1, 5, classes)[rng.permutation(classes)][y],
        )
    else:
        other, margin = rivals(x, y)
        hard = np.argsort(margin, kind="stable")[: min(HARD * count, len(y))]
        chance = np.isin(np.arange(len(y)), hard).astype(float)
    wrong = rng.choice(len(y), count, replace=False, p=chance / chance.sum())
    given = y.copy()
    given[wrong] = other[wrong]
    return given


def rivals(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class each example is closest to besides its own, and by how much, [N] each.

    One-against-all kernel ridge regression, Gaussian kernel of the median distance,
    ridge 0.1, leave-one-out in closed form.
    """
    flat = np.asarray(x, np.float32).reshape(len(y), -1)
    squares = np.square(flat).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0)
    kernel = np.exp(-distances / np.median(distances[:500]))
    kernel[np.diag_indices(len(y))] += 0.1
    factor = scipy.linalg.cho_factor(kernel, lower=True, overwrite_a=True)
    inverse = scipy.linalg.cho_solve(factor, np.eye(len(y), dtype=np.float32))
    onehot = np.eye(int(y.max()) + 1, dtype=np.float32)[y]
    held_out = onehot - inverse @ onehot / np.diag(inverse)[:, None]
    own = held_out[np.arange(len(y)), y]
    held_out[np.arange(len(y)), y] = -np.inf
    return held_out.argmax(axis=1), own - held_out.max(axis=1)
