"""Training as a pure function of the weights of the examples, and what is read off.

Everything that is random comes from the key, which all models of a seed share: models
differ by their weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.features.tasks import Task, as_task
from natgeo.types import Array, Params


@dataclass(frozen=True, eq=False)
class Sgd:
    """Gradient descent on batches in a fixed order, for `evaluate.retrain`.

    Each step minimises the weighted mean of the losses of its batch,

        sum_i w_i loss(params, example_i) / sum_i w_i,

    so that an example of weight 0 takes no part, the others keep their places in the
    order, and the size of a step does not depend on how many were left out. A batch
    without weight has gradient zero (an optimizer with momentum still moves).

    Attributes:
        loss: a loss task (`tasks.classification(apply, output="loss")`), or any
            f(params, example) -> scalar.
        optimizer: from optax.
        data: arrays such as `(x, y)`, example i in row i, [N, ...] each.
        order: indices of the examples of each step, [steps, B]; or a function of the
            key that returns them, such as `shuffled`, so that each seed has its own.
    """

    loss: Task | Callable[[Params, Any], Array]
    optimizer: optax.GradientTransformation
    data: Any
    order: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", as_task(self.loss))
        object.__setattr__(self, "data", jax.tree.map(jnp.asarray, self.data))
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(self.data)}
        if len(sizes) != 1 or sizes == {()}:
            raise DataError(
                f"data hold arrays of {sorted(sizes)} rows: expected one row for each "
                f"training example in all of them."
            )
        if not callable(self.order):
            object.__setattr__(self, "order", _checked_order(self.order, self.size))

    @property
    def size(self) -> int:
        """Number of training examples N."""
        return int(jax.tree.leaves(self.data)[0].shape[0])

    def steps(self, key: Array) -> np.ndarray:
        """The order of one seed, [steps, B]."""
        if not callable(self.order):
            return self.order
        return _checked_order(np.asarray(self.order(key)), self.size)

    def start(self, params: Params) -> tuple[Params, Any]:
        """What the first step is given."""
        return params, self.optimizer.init(params)

    def step(
        self, data: Any, rows: Array, state: tuple[Params, Any], weights: Array
    ) -> tuple[Params, Any]:
        """One step of one model; a pure function of its arguments.

        Args:
            data: the training data.
            rows: indices of the examples of the batch, [B].
            state: from `start` or the last step.
            weights: weights of all training examples, [N].
        """
        params, memory = state
        batch = jax.tree.map(lambda leaf: leaf[rows], data)
        here = weights[rows]

        def objective(params: Params) -> Array:
            each = jax.vmap(self.loss.output, in_axes=(None, 0))(params, batch)  # type: ignore[union-attr]
            share = here.astype(each.dtype)
            total = jnp.sum(share)
            return jnp.sum(share * each) / jnp.where(total > 0, total, 1)

        updates, memory = self.optimizer.update(
            jax.grad(objective)(params), memory, params
        )
        return optax.apply_updates(params, updates), memory

    def __call__(self, params: Params, weights: Array, key: Array) -> Params:
        """The whole training of one model in one call, without `retrain`."""
        step = jax.jit(self.step)
        state = self.start(params)
        for rows in self.steps(key):
            state = step(self.data, rows, state, weights)
        return state[0]


def shuffled(size: int, batch: int, epochs: int) -> Callable[[Array], Array]:
    """An order for `Sgd`: every epoch a new permutation, cut into whole batches.

    Args:
        size: number of training examples N.
        batch: examples of a step; those that do not fill the last one wait for the next
            permutation.
        epochs: permutations.

    Raises:
        ArgumentError: if a batch is larger than the training set.
    """
    size, batch = checks.count("size", size), checks.count("batch", batch)
    epochs = checks.count("epochs", epochs)
    if batch > size:
        raise ArgumentError(f"batch={batch} is more than the {size} training examples.")

    def order(key: Array) -> Array:
        keys = jax.random.split(key, epochs)
        rows = jax.vmap(lambda one: jax.random.permutation(one, size))(keys)
        return rows[:, : size // batch * batch].reshape(-1, batch)

    return order


def outputs_of(task: Task | Callable, data: Any) -> Callable[[Params], Array]:
    """What to read off each trained model: the task's output on M targets, [M].

    Args:
        task: what is attributed, as for `featurize`.
        data: arrays such as `(x, y)` of the targets, [M, ...] each.
    """
    task = as_task(task)
    targets = jax.tree.map(jnp.asarray, data)

    def outputs(params: Params) -> Array:
        return jax.vmap(task.output, in_axes=(None, 0))(params, targets)

    return outputs


def _checked_order(order: Any, size: int) -> np.ndarray:
    rows = np.asarray(order)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iu":
        raise ArgumentError(
            f"order has shape {rows.shape} and dtype {rows.dtype}: expected the indices"
            f" of the examples of each step, [steps, B]."
        )
    return checks.indices("order", rows.ravel(), size).reshape(rows.shape)
