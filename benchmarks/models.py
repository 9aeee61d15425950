"""The models of the feature benchmark, the same in Flax and in torch.

`mlp`: 64-128-64-10, 17,226 parameters. `resnet9`: width 8, GroupNorm, images of
32 x 32 x 3. Weights are random: the time of a gradient does not depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES = 10
INPUT = {"mlp": (64,), "resnet9": (32, 32, 3)}


def data(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs [N, ...] float32 and labels [N]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, *INPUT[name]), np.float32)
    return x, rng.integers(0, CLASSES, count, dtype=np.int32)


def flax_model(name: str) -> tuple[Any, Any]:
    """`(apply, params)` in Flax."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    def block(x, width, pool):
        x = nn.Conv(width, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.GroupNorm(num_groups=4)(x))
        return nn.max_pool(x, (2, 2), (2, 2)) if pool else x

    class Perceptron(nn.Module):
        @nn.compact
        def __call__(self, x):
            for width in (128, 64):
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(CLASSES)(x)

    class ResNet9(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = block(block(x, 8, False), 16, True)
            x = x + block(block(x, 16, False), 16, False)
            x = block(block(x, 32, True), 64, True)
            x = x + block(block(x, 64, False), 64, False)
            return nn.Dense(CLASSES)(x.max(axis=(1, 2)))

    model = {"mlp": Perceptron, "resnet9": ResNet9}[name]()
    params = model.init(jax.random.key(0), jnp.zeros((1, *INPUT[name])))
    return model.apply, params


def torch_model(name: str) -> Any:
    """The same model as a torch module; images are [B, 3, 32, 32] there."""
    import torch
    from torch import nn

    def block(inputs, width, pool):
        layers = [
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.GroupNorm(4, width),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    class ResNet9(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(block(3, 8, False), block(8, 16, True))
            self.b = nn.Sequential(block(16, 16, False), block(16, 16, False))
            self.c = nn.Sequential(block(16, 32, True), block(32, 64, True))
            self.d = nn.Sequential(block(64, 64, False), block(64, 64, False))
            self.e = nn.Linear(64, CLASSES)

        def forward(self, x):
            x = self.a(x)
            x = self.c(x + self.b(x))
            return self.e((x + self.d(x)).amax(dim=(2, 3)))

    torch.manual_seed(0)
    if name == "resnet9":
        return ResNet9()
    return nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )
