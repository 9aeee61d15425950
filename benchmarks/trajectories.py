"""Training with everything kept that a detector of wrong labels may look at.

Logits of every training example before each of its steps, and, at chosen epochs, the
logits and the inputs of the last layer for all of them. What was trained once is read
from its file afterwards.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import scipy.special

import natgeo as ng


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What training left behind; T epochs, E of them evaluated.

    Attributes:
        logits: at the evaluated epochs, [E, N, C] float32.
        hidden: inputs of the last layer then, [E, N, D] float32.
        features: sketched loss features of all parameters at the end, [N, K] float32;
            K may be 0.
        free: gradients of one fixed random mixture of the logits, which do not depend
            on the labels, likewise.
        epochs: which epochs, counted from 1, [E].
        steps: logits before each step, with its augmentation, [T, N, C] float32; NaN
            for what was not trained on.
        accuracy: on test data at the evaluated epochs, [E]; NaN without test data.
        seconds: CPU seconds of training and evaluation, [1].
    """

    logits: np.ndarray
    hidden: np.ndarray
    features: np.ndarray
    free: np.ndarray
    epochs: np.ndarray
    steps: np.ndarray
    accuracy: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, cosine schedule to zero.

    Attributes:
        model: a Flax module that maps [B, ...] to logits [B, C] by a last Dense layer.
        epochs: how many.
        at: epochs to evaluate after, counted from 1, ascending.
        rate: the first learning rate.
        decay: weight decay.
        batch: examples per step; each epoch leaves out what does not fill one.
        augment: changes a batch at random.
        width: K of the sketched loss features; 0 for none.
    """

    model: Any
    epochs: int
    at: tuple[int, ...]
    rate: float = 3e-3
    decay: float = 1e-4
    batch: int = 100
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    width: int = 0


def kept(file: Path, make: Callable[[], Trajectory]) -> Trajectory:
    """The trajectory of the file, made and written there if it is not there yet."""
    if not file.is_file():
        arrays = vars(make())
        arrays |= {name: np.float16(arrays[name]) for name in ("hidden", "steps")}
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **arrays)
        partial.rename(file)
    with np.load(file) as held:
        found = {name: np.float32(held[name]) for name in held}
    for name in ("features", "free"):
        found.setdefault(name, np.zeros((found["logits"].shape[1], 0), np.float32))
    return Trajectory(**found)


def train(
    recipe: Recipe,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    rows: np.ndarray | None = None,
) -> Trajectory:
    """Trains a network and evaluates all examples on the way.

    Args:
        recipe: how.
        x: inputs, [N, ...].
        y: labels, [N].
        seed: of parameters, order, augmentation and sketch.
        test: data for `accuracy`.
        rows: examples to train on; default all. All are evaluated.
    """
    start, rng = time.process_time(), np.random.default_rng(seed)
    rows = np.arange(len(y)) if rows is None else rows
    whole = len(rows) // recipe.batch * recipe.batch
    step, optimizer = _step(recipe, recipe.epochs * whole // recipe.batch)
    params = recipe.model.init(jax.random.key(seed), x[:1])
    state = optimizer.init(params)
    seen, found = [], []
    for epoch in range(1, recipe.epochs + 1):
        now: dict[int, np.ndarray] = {}
        for part in rng.permutation(rows)[:whole].reshape(-1, recipe.batch):
            inputs = x[part] if recipe.augment is None else recipe.augment(x[part], rng)
            params, state, logits = step(params, state, inputs, y[part])
            now |= zip(part.tolist(), np.asarray(logits), strict=True)
        nothing = np.full_like(next(iter(now.values())), np.nan)
        seen.append([now.get(row, nothing) for row in range(len(y))])
        if epoch in recipe.at:
            found.append(_evaluated(recipe, params, x, test))
    logits, hidden, accuracy = (np.stack(part) for part in zip(*found, strict=True))
    features, free = _gradients(recipe, params, x, y, seed)
    return Trajectory(
        logits,
        hidden,
        features,
        free,
        np.array(recipe.at, np.float32),
        np.array(seen, np.float32),
        accuracy,
        np.array([time.process_time() - start]),
    )


def last_layer(
    logits: np.ndarray, hidden: np.ndarray, y: np.ndarray, width: int = 256
) -> np.ndarray:
    """Loss gradients in the last layer, (p - onehot) x (hidden, 1), [N, K].

    K = C (D + 1), or `width` Gaussian projections of them if that is less.
    """
    error = scipy.special.softmax(np.float32(logits), axis=1)
    error[np.arange(len(y)), y] -= 1
    inputs = np.concatenate([hidden, np.ones((len(y), 1), np.float32)], axis=1)
    every = (error[:, :, None] * inputs[:, None]).reshape(len(y), -1)
    if every.shape[1] > width:
        shape = every.shape[1], width
        every = every @ np.random.default_rng(0).standard_normal(shape, np.float32)
    return np.float64(every)


def _evaluated(
    recipe: Recipe, params: Any, x: np.ndarray, test: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    accuracy = np.nan
    if test is not None:
        predicted = _evaluate(recipe.model, params, test[0])[0].argmax(axis=1)
        accuracy = float((predicted == test[1]).mean())
    return *_evaluate(recipe.model, params, x), accuracy


def _gradients(
    recipe: Recipe, params: Any, x: np.ndarray, y: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Loss features, and gradients of a mixture of the logits, [N, K] each."""
    if not recipe.width:
        return (np.zeros((len(y), 0), np.float32),) * 2
    apply, projector = recipe.model.apply, ng.projectors.CountSketch(recipe.width, seed)
    classes = jax.eval_shape(apply, params, x[:1]).shape[1]
    mix = np.random.default_rng(seed).standard_normal(classes, np.float32)
    mixture = ng.tasks.Task(
        "mixture", lambda params, example: apply(params, example[0][None])[0] @ mix
    )
    loss = ng.tasks.classification(apply, output="loss")
    first, second = (
        np.asarray(ng.featurize(task, params, (x, y), projector), np.float32)
        for task in (loss, mixture)
    )
    return first, second


def _evaluate(model: Any, params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and inputs of the last layer of all examples, 500 at a time."""
    run = _evaluator(model)
    parts = [run(params, x[at : at + 500]) for at in range(0, len(x), 500)]
    logits, hidden = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(hidden)


@functools.cache
def _evaluator(model: Any) -> Callable:
    @jax.jit
    def run(params, x):
        inputs = []

        def watch(call, args, kwargs, context):
            if isinstance(context.module, nn.Dense):
                inputs.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(watch):
            logits = model.apply(params, x)
        return logits, inputs[-1]

    return run


@functools.cache
def _step(recipe: Recipe, steps: int) -> tuple[Callable, Any]:
    """One compiled step for all networks of a recipe, and its optimizer."""
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(recipe.rate, steps), weight_decay=recipe.decay
    )

    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            logits = recipe.model.apply(params, x)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return each.mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, logits

    return step, optimizer


def shifted_and_mirrored(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images moved by up to 2 pixels with repeated edges, half of them mirrored."""
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    down, right = rng.integers(0, 5, (2, b))
    lines = np.arange(h) + down[:, None]
    columns = np.arange(w) + right[:, None]
    mirrored = rng.random(b) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    return padded[np.arange(b)[:, None, None], lines[:, :, None], columns[:, None]]
