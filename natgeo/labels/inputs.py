"""The inputs themselves as a second opinion: features that no label has touched.

A network that has memorised a wrong label repeats it, and its representation may have
been bent to it. A readout of the inputs with every example left out has seen neither
(`detectors.weighed`); it counts as much as it explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from natgeo import checks
from natgeo.labels.detectors import stacked
from natgeo.labels.left_out import leave_one_out
from natgeo.labels.patches import patch_features

# Images from this side on have room for patches; 3.1 or 6.3 KiB of them for each image.
PATCHED_SIDE, MOST_PATCHED = 16, 80_000
# Of images with one channel, whose patches have a third of the numbers, and with more:
# what a small network's features allow. AUROC of the default at one checkpoint, 10 %
# uniform flips of 10,000 images, seed 0: Fashion-MNIST .9930 (.9937 with 200), CIFAR-10
# .9325 (.9292 with 100, .9344 with 400). Every other place alone, each way, takes a
# quarter of the time and gives .9269 on CIFAR-10; every other one of all, .9304.
GREY_PATCHES, PATCHES = 100, 200
WIDEST = 2048  # columns: N D^2 work for the readout
WAVES, _PAIRS, _FARTHEST = 500, 2000, 5.0  # deviations, beyond which columns are cut


def input_readouts(x: np.ndarray) -> tuple[str, list[np.ndarray]] | None:
    """A name and features [N, D] of inputs, or None if they have no plain ones.

    Images [N, H, W, C] become random patches, or their pixels if they are small; rows
    of numbers are columns as they are, and, as pixels are too, waves of them (a
    kernel); rows of whole numbers below 2,048 are taken for tokens, whose counts are
    scaled to length one (0 is padding and does not count).

    Args:
        x: inputs of a model, [N, ...].
    """
    if x.ndim < 2 or x.dtype.kind not in "fiu" or len(x) < 2:
        return None
    size = int(np.prod(x.shape[1:]))
    if x.ndim == 4 and min(x.shape[1:3]) >= PATCHED_SIDE:
        if len(x) > MOST_PATCHED:
            return None
        largest = np.float32(np.abs(x).max())
        scaled = np.float32(x) / max(largest, np.float32(1e-6))
        count = GREY_PATCHES if x.shape[3] == 1 else PATCHES
        return "patches", [patch_features(scaled, count)]
    if x.ndim == 2 and x.dtype.kind in "iu":
        return _counts(x)
    if size > WIDEST:
        return None
    rows = np.asarray(x, np.float32).reshape(len(x), size)
    name = "columns" if x.ndim == 2 else "pixels"
    return name, [rows, random_waves(rows)]


def second_opinion(
    readouts: Sequence[np.ndarray], labels: np.ndarray, classes: int
) -> np.ndarray:
    """Log-probabilities by readouts that left each example out, [N, C]; stacked.

    Args:
        readouts: features, [N, D] each, from `input_readouts`.
        labels: given, [N].
        classes: C.
    """
    said = [leave_one_out(each, labels, classes=classes) for each in readouts]
    return said[0] if len(said) == 1 else stacked(said, labels)


def _counts(tokens: np.ndarray) -> tuple[str, list[np.ndarray]] | None:
    if tokens.min() < 0 or tokens.max() >= WIDEST:
        return None
    counts = np.zeros((len(tokens), int(tokens.max()) + 1), np.float32)
    np.add.at(counts, (np.arange(len(tokens))[:, None], tokens), 1)
    counts[:, 0] = 0
    lengths = np.linalg.norm(counts, axis=1, keepdims=True)
    return "words", [counts / np.maximum(lengths, 1)]


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
