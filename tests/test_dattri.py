"""TRAK scores as dattri computes them, at scale exactly 1.

The arrays were written by `tests/data/make_dattri.py`, which runs dattri. The two state
the same score with other conventions; what turns one into the other is exact and known
beforehand, and nothing is fitted. dattri divides every gradient by s = sqrt(P), takes
its kernel as a sum over the N training examples, and adds its regulariser c to that:

    r_i (g_t / s)^T (sum_j g_j g_j^T / s^2 + c I)^-1 (g_i / s).

Ours is the mean over the N examples, of gradients as they are, plus the ridge:

    tau(t, i) = r_i g_t^T (sum_j g_j g_j^T / N + ridge I)^-1 g_i.

So with ridge = c P / N, dattri's score is tau(t, i) / N.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng

FROZEN = Path(__file__).parent / "data" / "dattri.npz"


@pytest.fixture(scope="module")
def frozen():
    with np.load(FROZEN) as arrays:
        return dict(arrays)


def stores(frozen, checkpoint):
    """Unprojected margin features of one checkpoint, train and targets, in float64."""
    params = {
        "kernel": frozen["kernels"][checkpoint],
        "bias": frozen["biases"][checkpoint],
    }
    task = ng.tasks.classification(
        lambda params, x: x @ params["kernel"] + params["bias"][None, :]
    )
    data = frozen["pixels"] / 16, frozen["labels"]
    count = frozen["one"].shape[1]
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, params)
        return [
            ng.featurize(
                task, params, tuple(a[rows] for a in data), ng.projectors.Identity()
            )
            for rows in (slice(count), slice(count, None))
        ]


def ridge(frozen):
    n = frozen["one"].shape[1]
    parameters = frozen["kernels"][0].size + frozen["biases"][0].size
    return float(frozen["regularisation"]) * parameters / n


def largest_error(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def test_one_checkpoint_scores_as_dattri_at_scale_one(frozen):
    train, targets = stores(frozen, 0)
    geometry = ng.natural_geometry(train, ridge=ridge(frozen))
    got = ng.scores(geometry, targets) / len(frozen["one"][0])
    assert got.dtype == np.float64
    assert largest_error(got, frozen["one"]) < 1e-10


def test_two_checkpoints_score_as_dattri_by_the_product_of_means(frozen):
    """The ensemble rule of TRAK (2303.14186, section 3): mean kernel x mean (1 - p)."""
    kernels, weights = [], []
    for checkpoint in range(2):
        train, targets = stores(frozen, checkpoint)
        features, count = np.asarray(train), train.shape[0]
        covariance = features.T @ features / count
        covariance += ridge(frozen) * np.eye(len(covariance))
        inverse = np.linalg.solve(covariance, features.T)
        kernels.append(np.asarray(targets) @ inverse / count)
        weights.append(train.column("weights"))
    got = np.mean(kernels, axis=0) * np.mean(weights, axis=0)
    assert largest_error(got, frozen["two"]) < 1e-10
    # The mean of the products is another number.
    other = np.mean([k * w for k, w in zip(kernels, weights, strict=True)], axis=0)
    assert largest_error(other, frozen["two"]) > 1e-3
