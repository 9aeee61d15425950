"""The models of the feature benchmark, the same in Flax and in torch.

`mlp`: 64-128-64-10, 17,226 parameters. `resnet9`: width 8, GroupNorm, images of
32 x 32 x 3, 103,954 parameters. `transformer`: 2 layers of width 64, 4 heads, sequences
of 64 tokens out of 256, 137,216 parameters. Weights are random: the time of a gradient
does not depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES = 10
INPUT = {"mlp": (64,), "resnet9": (32, 32, 3), "transformer": (64,)}
TOKENS, WIDTH, HEADS, LAYERS = 256, 64, 4, 2


def data(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs [N, ...] float32 and labels [N]; tokens [N, T], labels unused."""
    rng = np.random.default_rng(0)
    if name == "transformer":
        x = rng.integers(0, TOKENS, (count, *INPUT[name]), dtype=np.int32)
    else:
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

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            length = tokens.shape[1]
            places = self.param("places", nn.initializers.normal(), (length, WIDTH))
            x = nn.Embed(TOKENS, WIDTH)(tokens) + places[None]
            future = jnp.triu(jnp.ones((length, length), bool), 1)[None, None]
            for _ in range(LAYERS):
                both = nn.Dense(3 * WIDTH)(nn.LayerNorm()(x))
                both = both.reshape(-1, length, 3, HEADS, WIDTH // HEADS)
                q, k, v = (both[:, :, part] for part in range(3))
                near = jnp.einsum("bthd,bshd->bhts", q, k) * (WIDTH // HEADS) ** -0.5
                near = nn.softmax(jnp.where(future, -jnp.inf, near))
                seen = jnp.einsum("bhts,bshd->bthd", near, v)
                x = x + nn.Dense(WIDTH)(seen.reshape(-1, length, WIDTH))
                x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
            return nn.Dense(TOKENS)(nn.LayerNorm()(x))

    known = {"mlp": Perceptron, "resnet9": ResNet9, "transformer": Transformer}
    model = known[name]()
    params = model.init(jax.random.key(0), data(name, 1)[0])
    return model.apply, params


def torch_model(name: str) -> Any:
    """The same model as a torch module; images are [B, 3, 32, 32] there."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name == "resnet9":
        return _torch_resnet9()
    if name == "transformer":
        return _torch_transformer()
    return nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def _torch_resnet9() -> Any:
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

    return ResNet9()


def _torch_transformer() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before = nn.LayerNorm(WIDTH, eps=1e-6)
            self.after = nn.LayerNorm(WIDTH, eps=1e-6)
            self.both = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            batch, length, _ = x.shape
            both = self.both(self.before(x))
            both = both.reshape(batch, length, 3, HEADS, WIDTH // HEADS)
            q, k, v = both.permute(2, 0, 3, 1, 4)
            near = (q @ k.mT) * (WIDTH // HEADS) ** -0.5
            future = torch.ones(length, length, dtype=torch.bool).triu(1)
            seen = near.masked_fill(future, -torch.inf).softmax(dim=-1) @ v
            x = x + self.out(seen.transpose(1, 2).reshape(batch, length, WIDTH))
            up = nn.functional.gelu(self.up(self.after(x)), approximate="tanh")
            return x + self.down(up)

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(0.01 * torch.randn(64, WIDTH))
            self.embed = nn.Embedding(TOKENS, WIDTH)
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
            self.head = nn.Linear(WIDTH, TOKENS)

        def forward(self, tokens):
            x = self.embed(tokens) + self.places
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Transformer()
