"""The main job on real data: handwritten digits, a small Flax model, flipped labels.

Trains a classifier on scikit-learn's digits with a tenth of the training labels wrong,
certifies which training digits made it predict what it predicts, and scans for the
wrong labels. Everything is seeded; the same machine gives the same page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natgeo.certify import distances
from natgeo.certify.rankings import Rankings, certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.errors import UnfitEnvironmentError
from natgeo.features import projectors, tasks
from natgeo.features.featurize import featurize
from natgeo.geometry import kernels
from natgeo.geometry.natural import natural_geometry
from natgeo.geometry.scores import scores
from natgeo.labels.scan import LabelScan, scan_labels
from natgeo.report import sections
from natgeo.types import Store

TRAIN, CLASSES, FLIPPED_SHARE = 1500, 10, 0.1
DIM, EPS, EPOCHS, BATCH = 256, 0.01, 20, 50


@dataclass(frozen=True, eq=False)
class Digits:
    """Images in [0, 1], [N, 64] float32, and labels; a known part of them is wrong."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    flipped: np.ndarray


class Perceptron(nn.Module):
    """A multi-layer perceptron with two hidden layers: 17,226 parameters on digits."""

    @nn.compact
    def __call__(self, x):
        """Logits [B, 10] of flattened images [B, 64]."""
        for width in (128, 64):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(CLASSES)(x)


def load_digits(seed: int) -> Digits:
    """scikit-learn's 1,797 digits, shuffled; a tenth of the train labels is flipped.

    Raises:
        UnfitEnvironmentError: if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError:
        raise UnfitEnvironmentError(
            "The demo needs the digits of scikit-learn. Install natgeo[demo]."
        ) from None
    bunch = load()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(bunch.target))
    x = np.asarray(bunch.data[order] / 16, np.float32)
    y = np.asarray(bunch.target[order], np.int32)
    flipped = np.zeros(TRAIN, bool)
    flipped[rng.choice(TRAIN, int(FLIPPED_SHARE * TRAIN), replace=False)] = True
    shift = rng.integers(1, CLASSES, TRAIN, dtype=np.int32)
    given = np.where(flipped, (y[:TRAIN] + shift) % CLASSES, y[:TRAIN]).astype(np.int32)
    return Digits(x[:TRAIN], given, x[TRAIN:], y[TRAIN:], flipped)


def train_model(data: Digits, seed: int) -> tuple[Callable, Any]:
    """Trains the perceptron with Adam; returns `(apply, params)`."""
    model = Perceptron()
    params = model.init(jax.random.key(seed), jnp.zeros((1, data.x.shape[1])))
    order = np.random.default_rng(seed)
    batches = [
        rows
        for _ in range(EPOCHS)
        for rows in order.permutation(len(data.y)).reshape(-1, BATCH)
    ]
    return model.apply, fit(
        model.apply, params, data.x, data.y, batches, optax.adam(1e-3)
    )


def fit(
    apply: Callable,
    params: Any,
    x: np.ndarray,
    y: np.ndarray,
    batches: Iterable[np.ndarray],
    optimizer: optax.GradientTransformation,
) -> Any:
    """Trains a classifier on the examples of each batch in turn.

    Args:
        apply: `apply(params, x)` -> logits, [B, classes].
        params: pytree to begin with.
        x: inputs, [N, ...].
        y: labels, [N], whole numbers.
        batches: indices of examples, all of one length.
        optimizer: from optax.
    """

    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            logits = apply(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for rows in batches:
        params, state = step(params, state, x[rows], y[rows])
    return params


@dataclass(frozen=True, eq=False)
class Study:
    """What was trained, attributed and scanned; M held-out and N training digits.

    Attributes:
        seed: of everything.
        data: the digits.
        predicted: the model's answers on held-out digits, [M]; they are explained.
        rankings: certified orders at `EPS`.
        scores: point estimates, [M, N].
        scan: the label scan.
        projector: in words.
        scale: how far known changes of the data are, in units of eps.
        seconds: all of it took, wall time.
    """

    seed: int
    data: Digits
    predicted: np.ndarray
    rankings: Rankings
    scores: np.ndarray
    scan: LabelScan
    projector: str
    scale: dict[str, Any]
    seconds: float


def study(seed: int = 0, *, progress: bool = False) -> Study:
    """Trains, attributes, certifies and scans."""
    start = time.perf_counter()
    data = load_digits(seed)
    apply, params = train_model(data, seed)
    # What is explained is the model's own answer, right or wrong.
    predicted = np.argmax(np.asarray(apply(params, data.x_test)), axis=1)
    projector = projectors.Rademacher(dim=DIM, seed=seed)
    margin = tasks.classification(apply)

    def features_of(x: np.ndarray, y: np.ndarray) -> Store:
        return featurize(margin, params, (x, y), projector, progress=progress)

    targets = features_of(data.x_test, predicted.astype(np.int32))
    geometry = natural_geometry(features_of(data.x, data.y), ridge=0.0)
    rankings = certify_rankings(
        geometry,
        targets,
        Wasserstein2(EPS),
        progress=progress,
        kernel=kernels.for_work(len(data.y), len(data.y_test), len(sections.RADII)),
    )
    return Study(
        seed=seed,
        data=data,
        predicted=predicted,
        rankings=rankings,
        scores=scores(geometry, targets),
        scan=scan_labels(
            apply, params, (data.x, data.y), projector=projector, progress=progress
        ),
        projector=str(projector),
        scale=_scale(rankings, data, features_of, seed),
        seconds=time.perf_counter() - start,
    )


def _scale(
    rankings: Rankings, data: Digits, features_of: Callable, seed: int
) -> dict[str, Any]:
    """Natural distances of two changes that anyone can picture, and of resamples."""
    geometry = rankings.geometry
    changed = {
        "shifted by one pixel": features_of(_shifted(data.x), data.y),
        "relabelled as the next digit": features_of(data.x, (data.y + 1) % CLASSES),
    }
    known = {
        name: distances.change(geometry, geometry.train, features)
        for name, features in changed.items()
    }
    return sections.scale_section(
        rankings, known, distances.resample(geometry, seed=seed)
    )


def _shifted(x: np.ndarray) -> np.ndarray:
    """The same digits one pixel to the right, [N, 64]."""
    images = x.reshape(-1, 8, 8)
    moved = np.concatenate([np.zeros_like(images[:, :, :1]), images[:, :, :-1]], axis=2)
    return moved.reshape(x.shape)
