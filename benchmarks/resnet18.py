"""ResNet-18 with GroupNorm for 32 x 32 images, as large as the paper's: for a GPU.

Stem of one 3 x 3 convolution, four stages of two basic blocks, global mean, one dense
layer: 11,173,962 parameters at width 64 with three channels and ten classes. GroupNorm
instead of BatchNorm, so that every example has a gradient of its own.

The tests train it at width 4 on made-up images. At full size it wants an accelerator:
an epoch of 5,000 images takes seven CPU minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.datasets import CLASSES, Images
from benchmarks.images import shuffled
from natgeo import demo

WIDTH, EPOCHS, BATCH, DIM = 64, 30, 100, 2048
PEAK, WARM_UP, DECAY = 1e-3, 0.1, 0.05
PAD = 4


class ResNet18(nn.Module):
    """Basic blocks in four stages of 1, 2, 4 and 8 times the width."""

    width: int = WIDTH

    @nn.compact
    def __call__(self, x):
        """Logits [B, 10] of images [B, H, W, C]."""
        x = nn.relu(_norm(_convolution(x, self.width, 3)))
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage and not block else 1
                x = _block(x, self.width * 2**stage, stride)
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def _block(x: Any, width: int, stride: int) -> Any:
    y = nn.relu(_norm(_convolution(x, width, 3, stride)))
    y = _norm(_convolution(y, width, 3))
    if x.shape != y.shape:
        x = _norm(_convolution(x, width, 1, stride))
    return nn.relu(x + y)


def _convolution(x: Any, width: int, size: int, stride: int = 1) -> Any:
    strides = (stride, stride)
    return nn.Conv(width, (size, size), strides, padding="SAME", use_bias=False)(x)


def _norm(x: Any) -> Any:
    return nn.GroupNorm(num_groups=min(32, x.shape[-1] // 2))(x)


def train_model(
    data: Images, *, width: int, epochs: int, seed: int
) -> tuple[Callable, Any]:
    """Trains with AdamW, warm-up and cosine, on mirrored and shifted images."""
    model = ResNet18(width)
    params = model.init(jax.random.key(seed), jnp.zeros((1, *data.x.shape[1:])))
    rows = shuffled(len(data.y), BATCH, epochs, seed)
    warm_up = max(1, round(WARM_UP * len(rows)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK, warm_up, len(rows))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=DECAY)
    )
    images = Augmented(data.x, seed)
    return model.apply, demo.fit(model.apply, params, images, data.y, rows, optimizer)


class Augmented:
    """Images that are mirrored and shifted anew every time they are looked up."""

    def __init__(self, x: np.ndarray, seed: int):
        self.x = x
        self.rng = np.random.default_rng(seed)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The images [B, H, W, C], half of them mirrored, moved by up to 4 pixels."""
        x = self.x[rows]
        mirrored = self.rng.integers(0, 2, len(x), dtype=bool)
        x = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
        height, width = x.shape[1:3]
        edges = ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))
        padded = np.pad(x, edges, mode="reflect")
        down, right = self.rng.integers(0, 2 * PAD + 1, (2, len(x)))
        rows_ = down[:, None, None] + np.arange(height)[None, :, None]
        columns = right[:, None, None] + np.arange(width)[None, None, :]
        return padded[np.arange(len(x))[:, None, None], rows_, columns]
