"""Small models for those who bring none: images and tables, trained on a CPU.

A residual network with GroupNorm for images, a perceptron for tables. Parameters are
kept after every epoch: predictions averaged over them hardly depend on how long was
trained, while at the end the wrong labels are memorised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natgeo import checks
from natgeo.labels.detectors import average
from natgeo.labels.left_out import cross_fit
from natgeo.progress import Progress
from natgeo.types import Params

# Examples of a step that computes features: fits the cache of a CPU for these models,
# and is compiled once, where a plan would compile a step to measure its memory.
FEATURE_BATCH = 32
_BATCH = 64
_STEPS = 600  # that a training run has at least, within the bounds of epochs below
_FEWEST, _MOST = 8, 40
_KEPT = 12  # checkpoints, evenly over the epochs
_RATE, _ADAM = 3e-3, optax.scale_by_adam()


@dataclass(frozen=True, eq=False)
class Trained:
    """A model and its parameters during training.

    Attributes:
        apply: `apply(params, x)` -> logits, [B, classes].
        checkpoints: parameters, the last ones at the end.
    """

    apply: Callable[[Params, Any], Any]
    checkpoints: tuple[Params, ...]


class ResNet8(nn.Module):
    """Patch stem, residual blocks of growing width, GroupNorm everywhere.

    Three blocks, or two for images of 8 pixels, of which no more is left to halve.

    GroupNorm, because with batch statistics one example's loss depends on its batch and
    a per-example gradient is not defined.
    """

    classes: int
    width: int = 16

    @nn.compact
    def __call__(self, x):
        """Logits [B, classes] of images [B, H, W, C] with even H and W."""
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        x = _convolution(x.reshape(b, h // 2, w // 2, 4 * c), self.width)
        for stage in range(2 if h <= 8 else 3):
            x = _block(nn.relu(x), self.width * 2**stage, 1 if stage == 0 else 2)
        return nn.Dense(self.classes)(nn.relu(x).mean(axis=(1, 2)))


class Perceptron(nn.Module):
    """Two hidden layers of 64."""

    classes: int

    @nn.compact
    def __call__(self, x):
        """Logits [B, classes] of rows [B, D]."""
        for _ in range(2):
            x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(self.classes)(x)


def train(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    *,
    epochs: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Trained:
    """Trains the built-in model for images [N, H, W, C], or for rows [N, D].

    Inputs are standardised inside the model, by their mean and deviation (of each
    channel, or of each column), so `apply` takes them as they are.

    Args:
        x: images, uint8 or floats, or rows of numbers.
        y: class numbers, [N], int32.
        classes: number of classes.
        epochs: default: as many as make 600 steps of 64 examples, from 8 to 40.
        seed: of the start and of the order of examples.
        progress: show a bar on standard error if it takes over a second.
    """
    epochs = _epochs(len(y)) if epochs is None else checks.count("epochs", epochs)
    mean, scale = _standard(x)
    module = _module(x, classes)

    def apply(params: Params, inputs: Any) -> Any:
        return module.apply(params, (inputs.astype(jnp.float32) - mean) / scale)

    every = list(_after_epochs(module, x, y, epochs, seed, progress))
    return Trained(apply, tuple(every[place] for place in _kept(epochs)))


def trainer(classes: int, epochs: int | None = None) -> Callable:
    """`train(x, y, seed)` -> a function from inputs to logits; for comparisons.

    All runs on inputs of one shape share one compiled step.
    """

    def run(x: Any, y: np.ndarray, seed: int) -> Callable[[Any], Any]:
        count = _epochs(len(y)) if epochs is None else checks.count("epochs", epochs)
        *_, params = _after_epochs(_module(x, classes), x, y, count, seed, False)
        mean, scale = _standard(x)

        def predict(inputs: np.ndarray) -> np.ndarray:
            standard = (inputs.astype(np.float32) - mean) / scale
            return np.asarray(_logits(_module(x, classes), params, standard))

        return predict

    return run


def cross_fitted(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    *,
    epochs: int | None = None,
    folds: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Log-probabilities by networks that were not trained on the example, [N, classes].

    Averaged over the checkpoints of each.

    Args:
        x: as for `train`.
        y: class numbers, [N], int32.
        classes: number of classes.
        epochs: as for `train`.
        folds: parts that are left out in turn; no more than examples.
        seed: of the parts, the starts and the order of examples.
        progress: show a bar on standard error if it takes over a second.
    """
    with Progress("cross-fitting", folds, visible=progress) as bar:

        def run(kept: np.ndarray, held_out: np.ndarray) -> np.ndarray:
            count = _epochs(len(kept)) if epochs is None else epochs
            module, part = _module(x, classes), x[kept]
            every = list(_after_epochs(module, part, y[kept], count, seed, False))
            mean, scale = _standard(part)
            inputs = (x[held_out].astype(np.float32) - mean) / scale
            bar.advance()
            return average([_logits(module, every[at], inputs) for at in _kept(count)])

        return cross_fit(run, y, min(folds, len(y)), seed)


def _kept(epochs: int) -> np.ndarray:
    """The epochs whose parameters are kept."""
    return np.unique(np.linspace(0, epochs - 1, _KEPT).round().astype(int))


def _module(x: np.ndarray, classes: int) -> Any:
    return ResNet8(classes) if x.ndim == 4 else Perceptron(classes)


def _standard(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel or column, float32; 1 where it is constant."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes, dtype=np.float64, keepdims=True).astype(np.float32)
    scale = x.std(axis=axes, dtype=np.float64, keepdims=True).astype(np.float32)
    return mean, np.where(scale > 0, scale, np.float32(1))


def _epochs(count: int) -> int:
    return int(np.clip(-(-_STEPS * _BATCH // count), _FEWEST, _MOST))


def _after_epochs(
    module: Any,
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    seed: int,
    progress: bool,
) -> Iterator[Params]:
    """Parameters after each epoch of Adam on a cosine schedule."""
    mean, scale = _standard(x)
    size = min(_BATCH, len(y))
    steps = len(y) // size
    params = _start(module, jax.random.key(seed), jnp.zeros((1, *x.shape[1:])))
    state, rng = _ADAM.init(params), np.random.default_rng(seed)
    rates = (
        0.5 * _RATE * (1 + np.cos(np.pi * np.arange(steps * epochs) / steps / epochs))
    )
    with Progress("training", epochs, visible=progress) as bar:
        for epoch in range(epochs):
            order = rng.permutation(len(y))[: steps * size].reshape(steps, size)
            for rows, rate in zip(order, rates[epoch * steps :], strict=False):
                inputs = (x[rows].astype(np.float32) - mean) / scale
                params, state = _step(
                    module, params, state, np.float32(rate), inputs, y[rows]
                )
            yield jax.tree.map(np.asarray, params)
            bar.advance()


# Compiled once for a module and the shape of its inputs, whatever the data.
@partial(jax.jit, static_argnums=0)
def _step(
    module: Any, params: Params, state: Any, rate: Any, inputs: Any, labels: Any
) -> tuple[Params, Any]:
    def loss(params: Params) -> Any:
        each = optax.softmax_cross_entropy_with_integer_labels
        return each(module.apply(params, inputs), labels).mean()

    updates, state = _ADAM.update(jax.grad(loss)(params), state, params)
    updates = jax.tree.map(lambda update: -rate * update, updates)
    return optax.apply_updates(params, updates), state


@partial(jax.jit, static_argnums=0)
def _start(module: Any, key: Any, inputs: Any) -> Params:
    return module.init(key, inputs)


@partial(jax.jit, static_argnums=0)
def _logits(module: Any, params: Params, inputs: Any) -> Any:
    return module.apply(params, inputs)


def _block(x: Any, width: int, stride: int) -> Any:
    y = nn.relu(_convolution(x, width, stride))
    y = _convolution(y, width)
    if x.shape != y.shape:
        x = nn.Conv(width, (1, 1), (stride, stride), use_bias=False)(x)
    return x + y


def _convolution(x: Any, width: int, stride: int = 1) -> Any:
    x = nn.Conv(width, (3, 3), (stride, stride), use_bias=False)(x)
    return nn.GroupNorm(num_groups=4)(x)
