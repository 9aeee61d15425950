"""Influences as pyinfluence and captum compute them, at scale exactly 1.

The arrays were written by `tests/data/make_influence.py`, which runs both. What turns
their conventions into ours is known beforehand, and nothing is fitted:

- pyinfluence (damping 0) calibrates to the removal of a row, a weight of 1/N: its
  score of a loss is loss(without) - loss(with), -I(i, t) / N; its score of a prediction
  is prediction(with) - prediction(without), I(i, t) / N; a functional is scored like a
  loss.
- captum gives g_t^T (sum of Hessians + c I)^-1 g_i with a ridge c on every weight of
  every class, which is -I(i, t) / N at ridge c / N without an intercept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import natgeo.convex as convex

FROZEN = Path(__file__).parent.parent / "data" / "influence.npz"


@pytest.fixture(scope="module")
def frozen():
    return np.load(FROZEN)


def case(frozen, name):
    return (frozen[f"{name}_{key}"] for key in ("x", "y", "xt", "yt"))


def close(found, truth, rtol=1e-7):
    np.testing.assert_allclose(found, truth, rtol=rtol, atol=rtol * abs(truth).max())


def test_ridge_as_pyinfluence(frozen):
    x, y, xt, yt = case(frozen, "ridge")
    model = convex.from_sklearn(Ridge(alpha=1.0).fit(x, y), x, y)
    close(-convex.influence(model, xt, yt) / len(x), frozen["ridge_loss"])
    found = convex.influence(model, xt, output="prediction") / len(x)
    close(found, frozen["ridge_prediction"])


def test_logistic_regression_as_pyinfluence(frozen):
    x, y, xt, yt = case(frozen, "logistic")
    model = convex.from_sklearn(LogisticRegression(C=0.5, tol=1e-8).fit(x, y), x, y)
    close(-convex.influence(model, xt, yt) / len(x), frozen["logistic_loss"])
    ones = np.ones(len(xt), int)
    found = convex.influence(model, xt, ones, output="prediction") / len(x)
    close(found, frozen["logistic_prediction"])
    gap = convex.gap(model, x, x[:, 0] > 0)
    close(-convex.functional_influence(model, gap) / len(x), frozen["logistic_gap"])


def test_softmax_regression_as_captum(frozen):
    x, y, xt, yt = case(frozen, "wine")
    ridge = float(frozen["wine_ridge"]) / len(x)
    model = convex.fit(x, y, ridge=ridge, intercept=False, standardize=False)
    close(-convex.influence(model, xt, yt) / len(x), frozen["wine_loss"])
    close(convex.self_influence(model) / len(x), frozen["wine_self"])
