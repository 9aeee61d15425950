"""Features of images without training: random patches, for a second opinion on labels.

Coates and Ng (ICML 2011): the image is compared with patches that are drawn from the
data and whitened, responses below a threshold are dropped, and what is left is summed
over each quarter of the image. A readout of these (`detectors.leave_one_out`) is a fair
classifier that takes a minute for 10,000 images, and is never trained on the example.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import DataError

# The published settings for images of 32 x 32; smaller images have smaller patches.
SIDE, THRESHOLD, SAMPLED, CHUNK = 6, 0.25, 100_000, 50


def patch_features(images: Any, count: int = 400, seed: int = 0) -> np.ndarray:
    """Quarter sums of thresholded responses to random patches, [N, 8 count] float32.

    Args:
        images: [N, H, W, C] or [N, H, W], of any finite numbers; H, W >= 6.
        count: of patches.
        seed: which patches.

    Raises:
        DataError: if the images have another shape, or are not finite.
    """
    array = np.asarray(images, np.float32)
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or not len(array) or min(array.shape[1:3]) < SIDE:
        raise DataError(
            f"images has shape {array.shape}: expected [N, H, W, C] with at least one "
            f"image and at least {SIDE} pixels each way."
        )
    checks.finite("images", array.reshape(len(array), -1))
    count = checks.count("count", count)
    rng = np.random.default_rng(seed)
    sample = _sampled(array, rng)
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(sample.T) + 0.1 * np.eye(sample.shape[1]))
    whitener = np.float32((vectors / np.sqrt(values)) @ vectors.T)
    white = (sample[rng.choice(len(sample), count)] - mean) @ whitener
    norms = np.linalg.norm(white, axis=1, keepdims=True)
    bank = whitener @ (white / np.maximum(norms, 1e-6)).T
    return np.concatenate(
        [
            _pooled(array[at : at + CHUNK], mean, bank)
            for at in range(0, len(array), CHUNK)
        ]
    )


def _sampled(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random patches of random images, each with its own mean and contrast removed."""
    n, h, w, _ = images.shape
    which = rng.integers(0, n, SAMPLED)
    top, left = rng.integers(0, (h - SIDE + 1, w - SIDE + 1), (SAMPLED, 2)).T
    lines = top[:, None, None] + np.arange(SIDE)[:, None]
    columns = left[:, None, None] + np.arange(SIDE)
    return _normal(images[which[:, None, None], lines, columns].reshape(SAMPLED, -1))


def _normal(patches: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance each; the floor keeps flat patches flat."""
    centred = patches - patches.mean(axis=-1, keepdims=True)
    # 10 / 255^2, as published for bytes.
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1.5e-4)


def _pooled(images: np.ndarray, mean: np.ndarray, bank: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), (1, 2))
    b, h, w = windows.shape[:3]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(b, h, w, -1)
    response = (_normal(patches) - mean) @ bank
    parts = []
    for signed in (response, -response):
        kept = np.maximum(signed - np.float32(THRESHOLD), 0)
        for lines in (slice(h // 2), slice(h // 2, h)):
            for columns in (slice(w // 2), slice(w // 2, w)):
                parts.append(kept[:, lines, columns].sum(axis=(1, 2)))
    return np.concatenate(parts, axis=1)
