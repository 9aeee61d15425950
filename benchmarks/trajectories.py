"""Training with everything kept that a detector of wrong labels may look at.

Logits of every training example before each of its steps, and, at chosen epochs, the
logits and the inputs of the last layer for all of them. What was trained once is read
from its file afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What training left behind; T epochs, E of them evaluated.

    Attributes:
        logits: at the evaluated epochs, [E, N, C] float32.
        hidden: inputs of the last layer then, [E, N, D] float32.
        epochs: which epochs, counted from 1, [E].
        steps: logits before each step, with its augmentation, [T, N, C] float32.
        accuracy: on test data at the evaluated epochs, [E]; empty without test data.
        seconds: CPU seconds of training and evaluation, [1].
    """

    logits: np.ndarray
    hidden: np.ndarray
    epochs: np.ndarray
    steps: np.ndarray
    accuracy: np.ndarray
    seconds: np.ndarray


def kept(file: Path, make: Callable[[], Trajectory]) -> Trajectory:
    """The trajectory of the file, made and written there if it is not there yet."""
    if file.is_file():
        with np.load(file) as held:
            return Trajectory(**{name: np.float32(held[name]) for name in held})
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    half = {"hidden", "steps"}
    arrays = asdict(made)
    partial = file.with_suffix(".part.npz")
    np.savez(
        partial,
        **{
            k: v.astype(np.float16 if k in half else np.float32)
            for k, v in arrays.items()
        },
    )
    partial.rename(file)
    return made


def train(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int,
    at: Sequence[int],
    seed: int,
    rate: float = 3e-3,
    decay: float = 1e-4,
    batch: int = 100,
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Trajectory, list[Any]]:
    """Trains with AdamW on a cosine schedule; returns the trajectory, and the
    parameters at each evaluated epoch.

    Args:
        model: a Flax module that maps [B, ...] to logits [B, C] by a last Dense layer.
        x: inputs, [N, ...].
        y: labels, [N].
        epochs: how many.
        at: epochs to evaluate after, from 1.
        seed: of parameters, order and augmentation.
        rate: the first learning rate.
        decay: weight decay.
        batch: examples per step; each epoch leaves out what does not fill one.
        augment: changes a batch at random.
        test: data for `accuracy`.
        rows: examples to train on; default all. All are evaluated.
    """
    start = time.process_time()
    rows = np.arange(len(y)) if rows is None else rows
    params = model.init(jax.random.key(seed), x[:1])
    whole = len(rows) // batch * batch
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(rate, epochs * whole // batch), weight_decay=decay
    )
    step, evaluate = _step(model.apply, optimizer), _evaluator(model)
    state, rng = optimizer.init(params), np.random.default_rng(seed)
    seen, found, passed = [], [], []
    for epoch in range(1, epochs + 1):
        now = np.full((len(y), _classes(model, params, x)), np.nan, np.float32)
        for part in rng.permutation(rows)[:whole].reshape(-1, batch):
            inputs = x[part] if augment is None else augment(x[part], rng)
            params, state, logits = step(params, state, inputs, y[part])
            now[part] = logits
        seen.append(now)
        if epoch in at:
            right = (
                ()
                if test is None
                else evaluate(params, test[0])[0].argmax(1) == test[1]
            )
            passed.append(params)
            found.append(
                (*evaluate(params, x), np.mean(right) if len(right) else np.nan)
            )
    logits, hidden, accuracy = (np.stack(part) for part in zip(*found, strict=True))
    seconds = np.array([time.process_time() - start])
    return Trajectory(
        logits, hidden, np.sort(at), np.stack(seen), accuracy, seconds
    ), passed


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


def _classes(model: Any, params: Any, x: np.ndarray) -> int:
    return jax.eval_shape(model.apply, params, x[:1]).shape[-1]


def _step(apply: Callable, optimizer: optax.GradientTransformation) -> Callable:
    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            logits = apply(params, x)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return each.mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, logits

    return step


def _evaluator(
    model: Any,
) -> Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Logits and inputs of the last layer of all examples, 500 at a time."""

    @jax.jit
    def one(params, x):
        inputs = []

        def watch(call, args, kwargs, context):
            if isinstance(context.module, nn.Dense):
                inputs.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(watch):
            logits = model.apply(params, x)
        return logits, inputs[-1]

    def all_of(params, x):
        parts = [one(params, x[at : at + 500]) for at in range(0, len(x), 500)]
        logits, hidden = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(hidden)

    return all_of
