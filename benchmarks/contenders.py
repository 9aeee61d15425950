"""The JAX contenders of the feature benchmark, and the checks that all contenders pass.

A contender is a function `(model, width, few) -> Contender`: `few` are examples
`(x, y)` on which its features are compared with unprojected gradients, which another
program makes, before anything is timed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import models

SEEDS = 4


@dataclass(frozen=True)
class Contender:
    """What is timed, and what its check found.

    Attributes:
        featurize: `(x, y) -> features`, or any value that is ready.
        error: largest error of an inner product, relative to the norms.
        allowed: the error that a random projection of this kind and width may have.
        columns: dimension of the features.
    """

    featurize: Callable[[Any, Any], Any]
    error: float
    allowed: float
    columns: int


def natgeo(model: str, width: int, few: Any) -> Contender:
    from natgeo.features import projectors

    featurize = _step(model, projectors.CountSketch(width))
    error = inner_product_error(grams([featurize(*few)]), _gradients(model, few))
    return Contender(featurize, error, 6 / np.sqrt(width), width)


def natgeo_kronecker(model: str, width: int, few: Any) -> Contender:
    """Two-sided projections: the mean over seeds is checked, not one of them.

    On one outer product the error of a layer with w coordinates falls like w^(-1/4). A
    mean over seeds of inner products is nearer to the true ones, as they are unbiased.
    """
    from natgeo.features import projectors

    featurize = _step(model, projectors.Kronecker(width))
    formed, gradients = _formed(model, few), _gradients(model, few)
    seeds = [
        np.asarray(projectors.Kronecker(width, seed).project(formed))
        for seed in range(SEEDS)
    ]
    gap = np.abs(featurize(*few) - seeds[0]).max() / np.abs(seeds[0]).max()
    if not gap < 1e-3:
        raise SystemExit(f"the features differ from those of formed gradients: {gap}")
    error = inner_product_error(grams(seeds), gradients)
    return Contender(featurize, error, kronecker_bound(width), width)


def no_projection(model: str, width: int, few: Any) -> Contender:
    """The same gradients, formed and thrown away."""
    import jax

    del width, few
    step, params = gradient_step(model)

    def featurize(x: Any, y: Any) -> Any:
        return jax.block_until_ready(step(params, example(model, x, y)))

    return Contender(featurize, 0.0, 0.0, 0)


OURS = {"natgeo": natgeo, "none": no_projection, "natgeo-kronecker": natgeo_kronecker}


def example(model: str, x: Any, y: Any) -> Any:
    """A batch as the task of the model takes it."""
    return x if model == "transformer" else (x, y)


@functools.cache
def task_and_params(model: str) -> tuple[Any, Any]:
    """Margins of the classifiers; summed next-token losses of the transformer."""
    from natgeo.features import tasks

    apply, params = models.flax_model(model)
    if model == "transformer":
        return tasks.language_model(apply, output="loss"), params
    return tasks.classification(apply), params


@functools.cache
def gradient_step(model: str) -> tuple[Any, Any]:
    """Per-example gradients of a batch, jitted, and the parameters."""
    import jax

    task, params = task_and_params(model)
    return jax.jit(jax.vmap(jax.grad(task.output), in_axes=(None, 0))), params


def flops(model: str, few: Any) -> float:
    """Operations of one example's formed gradient, forward and backward, by XLA."""
    step, params = gradient_step(model)
    cost = step.lower(params, example(model, *few)).cost_analysis()
    return float(cost["flops"]) / len(few[0])


def grams(features: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over seeds of the inner products of the first 16 examples."""
    made = [np.asarray(one, np.float64)[:16] for one in features]
    return np.mean([one @ one.T for one in made], axis=0)


def inner_product_error(gram: np.ndarray, gradients: np.ndarray) -> float:
    """Largest error of an inner product, relative to the norms, up to one scale."""
    return float(np.abs(_cosines(gram) - _cosines(grams([gradients]))).max())


def kronecker_bound(width: int) -> float:
    """Three times the worst deviation of the mean over seeds of two-sided products."""
    return 3 / np.sqrt(SEEDS) / width**0.25


def _cosines(gram: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.diag(gram))
    return gram / norms[:, None] / norms[None, :]


def _step(model: str, projector: Any) -> Callable[[Any, Any], np.ndarray]:
    """The library as it is used: one jitted step a batch."""
    import jax

    from natgeo.features.gradients import feature_step

    task, params = task_and_params(model)
    step = jax.jit(feature_step(task, projector))
    return lambda x, y: np.asarray(step(params, example(model, x, y))["features"])


def _formed(model: str, few: Any) -> Any:
    step, params = gradient_step(model)
    return step(params, example(model, *few))


def _gradients(model: str, few: Any) -> np.ndarray:
    import jax

    leaves = jax.tree.leaves(_formed(model, few))
    return np.concatenate([np.asarray(a).reshape(len(a), -1) for a in leaves], axis=1)
