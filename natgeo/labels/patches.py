"""Features of images without training: random patches, for a second opinion on labels.

Coates and Ng (ICML 2011): the image is compared with patches that are drawn from the
data and whitened, responses below a threshold are dropped, and what is left is summed
over each quarter of the image. A readout of these (`detectors.leave_one_out`) is a fair
classifier that takes a few seconds for 10,000 small images, and is never trained on
the example.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import DataError

# The published settings; the floor of the variance is 10 / 255^2, as for bytes. A chunk
# of images and its patches fit the cache of a CPU.
SIDE, THRESHOLD, SAMPLED, FLOOR, CHUNK = 6, 0.25, 100_000, 1.5e-4, 8


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
    out = np.empty((len(array), 8 * count), np.float32)
    for at in range(0, len(array), CHUNK):
        part = array[at : at + CHUNK]
        repeated = np.repeat(part[-1:], CHUNK - len(part), axis=0)
        pooled = _pooled(np.concatenate([part, repeated]), mean, bank)
        out[at : at + CHUNK] = pooled[: len(part)]
    return out


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
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + FLOOR)


def _pooled(images: np.ndarray, mean: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Quarter sums, [B, 8 count], of images [B, H, W, C]."""
    h, w = (size - SIDE + 1 for size in images.shape[1:3])
    quarter = 2 * (np.arange(h)[:, None] >= h // 2) + (np.arange(w) >= w // 2)
    within = np.float32(quarter.reshape(-1) == np.arange(4)[:, None])
    # The mean of a patch is taken out of the bank, which is smaller than the patches.
    centred = np.float32(bank - bank.mean(axis=0))
    made = _summed()(_windows(images), centred, np.float32(mean @ bank), within)
    return np.asarray(made)


def _windows(images: np.ndarray) -> np.ndarray:
    """All patches over their deviations, [B, SIDE^2 C, places].

    Their own means are left in, those of the images are not.
    """
    b, _, _, c = images.shape
    planes = images - images.mean(axis=(1, 2, 3), keepdims=True)
    planes = np.ascontiguousarray(planes.transpose(3, 0, 1, 2))
    size = SIDE * SIDE * c
    mean = _box(planes.sum(axis=0, dtype=np.float64)) / size
    square = _box(np.square(planes).sum(axis=0, dtype=np.float64)) / size
    spread = np.sqrt(np.maximum(square - np.square(mean), 0) + FLOOR)
    scale, (_, h, w) = np.float32(1 / spread), spread.shape
    out = np.empty((b, SIDE, SIDE, c, h, w), np.float32)
    for top, left, channel in np.ndindex(SIDE, SIDE, c):
        part = planes[channel, :, top : top + h, left : left + w]
        np.multiply(part, scale, out=out[:, top, left, channel])
    return out.reshape(b, size, h * w)


def _box(values: np.ndarray) -> np.ndarray:
    """Sums over each square of SIDE x SIDE, of [B, H, W]."""
    h, w = (size - SIDE + 1 for size in values.shape[1:])
    lines = np.sum([values[:, top : top + h] for top in range(SIDE)], axis=0)
    parts = [lines[:, :, left : left + w] for left in range(SIDE)]
    return np.asarray(np.sum(parts, axis=0))


@lru_cache(maxsize=1)
def _summed() -> Callable[[Any, Any, Any, Any], Any]:
    """`(windows, bank, offset, within [4, places])` -> [B, 8 count], compiled."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def summed(windows: Any, bank: Any, offset: Any, within: Any) -> Any:
        def one(image: Any) -> Any:
            response = image.T @ bank - offset[None]
            # Sums as products: the compiler does not vectorise a sum over places.
            kept = [
                within @ jnp.maximum(signed - THRESHOLD, 0)
                for signed in (response, -response)
            ]
            return jnp.stack(kept).reshape(-1)

        return jax.lax.map(one, windows)

    return summed
