"""The models of the LDS benchmark in torch, with the weights of their Flax twins.

Layers of a kind are numbered as Flax numbers them, so that `Dense_2` is `dense.2`.
Inputs are those of Flax as well: images are [B, H, W, C].
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import sentences
from benchmarks.datasets import CLASSES

KINDS = {
    "Dense": "dense",
    "Conv": "convolutions",
    "GroupNorm": "norms",
    "LayerNorm": "norms",
    "Embed": "embed",
}
# Of each leaf: its name in torch, and the order of its axes where that differs.
LEAVES: dict[str, tuple[str, dict[int, tuple[int, ...]]]] = {
    "kernel": ("weight", {2: (1, 0), 4: (3, 2, 0, 1)}),
    "scale": ("weight", {}),
    "embedding": ("weight", {}),
    "bias": ("bias", {}),
}
EPSILON = 1e-6  # of Flax's norms
TOLERANCE = 1e-5  # of the logits, relative to the largest


def model(name: str) -> Any:
    """The torch module of one problem, in evaluation mode.

    Args:
        name: "mlp", "resnet8" (width 8, images of one channel) or "sentences".
    """
    known = {"mlp": _perceptron, "resnet8": _resnet8, "sentences": _transformer}
    return known[name]().eval()


def state(params: Any) -> dict[str, Any]:
    """The state of the torch module from the parameters of the Flax model."""
    import torch

    made = {}
    for layer, leaves in params["params"].items():
        if not isinstance(leaves, dict):
            made[layer] = np.array(leaves)
            continue
        kind, _, number = layer.rpartition("_")
        for leaf, value in leaves.items():
            name, axes = LEAVES[leaf]
            order = axes.get(value.ndim, range(value.ndim))
            made[f"{KINDS[kind]}.{number}.{name}"] = np.transpose(value, order)
    return {
        name: torch.tensor(np.ascontiguousarray(array)) for name, array in made.items()
    }


def check(name: str, params: Any, x: np.ndarray, want: np.ndarray) -> float:
    """How far torch's logits are from JAX's, relative to the largest.

    Args:
        name: as in `model`.
        params: of the Flax model.
        x: inputs.
        want: logits by Flax, [B, classes].

    Raises:
        SystemExit: if that is above TOLERANCE: then it is another model.
    """
    import torch

    module = model(name)
    module.load_state_dict(state(params))
    with torch.no_grad():
        got = module(torch.tensor(np.array(x))).numpy()
    off = float(np.abs(got - want).max() / np.abs(want).max())
    if not off <= TOLERANCE:
        raise SystemExit(
            f"{name}: logits of torch and JAX differ by {off:.1e}, above {TOLERANCE}."
        )
    return off


def _perceptron() -> Any:
    import torch
    from torch import nn

    class Perceptron(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = pairwise((64, 128, 64, CLASSES))
            self.dense = nn.ModuleList(nn.Linear(*pair) for pair in pairs)

        def forward(self, x):
            for layer in self.dense[:-1]:
                x = torch.relu(layer(x))
            return self.dense[-1](x)

    return Perceptron()


def _resnet8() -> Any:
    import torch
    from torch import nn

    # (inputs, outputs, kernel, stride) in Flax's order; blocks two and three end with
    # the 1 x 1 convolution of their short cut.
    shapes = [(4, 8, 3, 1), (8, 8, 3, 1), (8, 8, 3, 1)]
    for width in (8, 16):
        wide = 2 * width
        shapes += [(width, wide, 3, 2), (wide, wide, 3, 1), (width, wide, 1, 2)]

    class ResNet8(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolutions = nn.ModuleList(
                nn.Conv2d(inputs, outputs, size, stride, bias=False)
                for inputs, outputs, size, stride in shapes
            )
            widths = [outputs for _, outputs, size, _ in shapes if size == 3]
            self.norms = nn.ModuleList(nn.GroupNorm(4, w, EPSILON) for w in widths)
            self.dense = nn.ModuleList([nn.Linear(32, CLASSES)])

        def convolve(self, x, place, norm=None):
            layer = self.convolutions[place]
            x = layer(_same(x, layer.kernel_size[0], layer.stride[0]))
            return x if norm is None else self.norms[norm](x)

        def forward(self, x):
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 2, 4, 5, 1, 3)
            x = self.convolve(x.reshape(b, 4 * c, h // 2, w // 2), 0, 0)
            for first, norm, cut in ((1, 1, None), (3, 3, 5), (6, 5, 8)):
                x = torch.relu(x)
                y = torch.relu(self.convolve(x, first, norm))
                y = self.convolve(y, first + 1, norm + 1)
                x = y + (x if cut is None else self.convolve(x, cut))
            return self.dense[0](torch.relu(x).mean(dim=(2, 3)))

    return ResNet8()


def _same(x: Any, size: int, stride: int) -> Any:
    """Flax's padding: as much as makes ceil(H / stride) outputs, the odd one behind."""
    from torch.nn import functional

    sides = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        sides += [total // 2, total - total // 2]
    return functional.pad(x, sides)


def _transformer() -> Any:
    import torch
    from torch import nn

    width, heads, length = 16, 2, sentences.LENGTH

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(length, width))
            self.embed = nn.ModuleList([nn.Embedding(sentences.VOCABULARY, width)])
            outputs = (3 * width, width, 4 * width, width, sentences.CLASSES)
            self.dense = nn.ModuleList(
                nn.Linear(4 * width if place == 3 else width, wide)
                for place, wide in enumerate(outputs)
            )
            self.norms = nn.ModuleList(nn.LayerNorm(width, EPSILON) for _ in range(3))

        def attention(self, h, kept):
            batch = h.shape[0]
            both = self.dense[0](h).reshape(batch, length, 3, heads, width // heads)
            q, k, v = both.permute(2, 0, 3, 1, 4)
            near = (q @ k.mT) * (width // heads) ** -0.5
            near = torch.where(kept[:, None, None, :], near, -1e9)
            seen = (near.softmax(dim=-1) @ v).transpose(1, 2)
            return self.dense[1](seen.reshape(batch, length, width))

        def forward(self, x):
            kept = x > 0
            h = self.embed[0](x) + self.places
            h = h + self.attention(self.norms[0](h), kept)
            up = self.dense[2](self.norms[1](h))
            up = nn.functional.gelu(up, approximate="tanh")
            h = self.norms[2](h + self.dense[3](up))
            share = kept.to(h.dtype)[..., None]
            mean = (h * share).sum(dim=1) / share.sum(dim=1).clamp(min=1.0)
            return self.dense[4](mean)

    return Transformer()
