"""Losses against exact derivatives of the printed formula, and their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from natgeo.convex.losses import Logistic, Multinomial, Squared
from tests.convex import cases

ALL = [Squared(), Logistic(), Multinomial(2), Multinomial(5)]


def points(loss, *, n=40, spread=3.0, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, loss.outputs)) * spread
    if isinstance(loss, Squared):
        return u, rng.normal(size=n)
    return u, rng.integers(0, getattr(loss, "classes", 2), n)


def printed(loss, u, y):
    """The loss by its formula, in plain Python."""
    if isinstance(loss, Squared):
        return 0.5 * (float(u[0]) - float(y)) ** 2
    if isinstance(loss, Logistic):
        return math.log(1 + math.exp(-(2 * int(y) - 1) * float(u[0])))
    logits = [math.fsum(row * u) for row in loss.basis]
    return math.log(math.fsum(map(math.exp, logits))) - logits[int(y)]


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_values_are_those_of_the_formula(loss):
    u, y = points(loss)
    truth = [printed(loss, *pair) for pair in zip(u, y, strict=True)]
    np.testing.assert_allclose(loss.value(u, y), truth, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_each_derivative_is_that_of_the_one_before(loss):
    u, y = points(loss)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, *u.shape))
    close = {"rtol": 1e-7, "atol": 1e-9}
    truth = cases.derivative(lambda s: loss.value(u + s * a, y), 1e-3)
    np.testing.assert_allclose(np.sum(loss.first(u, y) * a, axis=1), truth, **close)
    truth = cases.derivative(lambda s: loss.first(u + s * a, y), 1e-3)
    np.testing.assert_allclose(loss.second(u, a), truth, **close)
    truth = cases.derivative(lambda s: loss.second(u + s * b, a), 1e-3)
    np.testing.assert_allclose(loss.third(u, a, b), truth, **close)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_curvature_is_the_weighted_sum_of_kronecker_products(loss):
    u, _ = points(loss)
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(len(u), 3)), rng.uniform(size=len(u))
    second = np.stack(
        [loss.second(u, np.tile(e, (len(u), 1))) for e in np.eye(loss.outputs)], axis=2
    )
    truth = sum(w[i] * np.kron(np.outer(x[i], x[i]), second[i]) for i in range(len(u)))
    np.testing.assert_allclose(loss.curvature(x, w, u), truth, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", ALL[1:], ids=str)
def test_bounds_hold_and_are_reached_within_a_factor(loss):
    """An attack on each bound: random starts, then the best of many directions."""
    rng = np.random.default_rng(3)
    bounds, n, q = loss.bounds, 20_000, loss.outputs
    u = rng.normal(size=(n, q)) * rng.uniform(0, 4, (n, 1))
    y = rng.integers(0, getattr(loss, "classes", 2), n)
    a = rng.normal(size=(n, q))
    # Differences of two logits are the extreme directions.
    if isinstance(loss, Multinomial):
        pairs = rng.permuted(np.tile(np.arange(loss.classes), (n // 2, 1)), axis=1)
        a[: n // 2] = loss.basis[pairs[:, 0]] - loss.basis[pairs[:, 1]]
        u[: n // 4] = 6.0 * (
            loss.basis[pairs[: n // 4, 0]] + loss.basis[pairs[: n // 4, 1]]
        )
        u[: n // 4] += rng.normal(size=(n // 4, 1)) * a[: n // 4]
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    seen = {
        "first": np.linalg.norm(loss.first(u, y), axis=1).max(),
        "second": abs(np.sum(a * loss.second(u, a), axis=1)).max(),
        "third": abs(np.sum(a * loss.third(u, a, a), axis=1)).max(),
    }
    step = 1e-4
    fourth = (loss.third(u + step * a, a, a) - loss.third(u - step * a, a, a)) / step
    seen["fourth"] = abs(np.sum(a * fourth, axis=1)).max() / 2
    for name, value in seen.items():
        bound = getattr(bounds, name)
        assert 0.9 * bound <= value <= bound * (1 + 1e-6), name


@pytest.mark.parametrize("loss", [Logistic(), Multinomial(2), Multinomial(4)], ids=str)
def test_confident_predictions_keep_their_digits(loss):
    """At logits 80 apart the gradient is 1e-35, not zero and not rounding noise."""
    if isinstance(loss, Logistic):
        u, y, truth = np.array([[80.0]]), np.array([1]), -math.exp(-80.0)
    else:
        logits = np.zeros(loss.classes)
        logits[0] = 80.0
        u, y = (logits - logits.mean())[None] @ loss.basis, np.array([0])
        truth = np.full(loss.classes, math.exp(-80.0))
        truth[0] = -(loss.classes - 1) * math.exp(-80.0)
        truth = truth @ loss.basis
    np.testing.assert_allclose(loss.first(u, y)[0], truth, rtol=1e-12)
    # exp(-80) and the losses are the same to the last digits.
    others = getattr(loss, "classes", 2) - 1
    assert loss.value(u, y)[0] == pytest.approx(others * math.exp(-80.0), rel=1e-12)
    far = loss.value(-1000 * u, y)
    assert np.isfinite(far).all()
    assert np.isfinite(loss.third(1000 * u, u, u)).all()


def test_the_basis_is_an_isometry_onto_the_sum_zero_logits():
    for classes in (2, 3, 26):
        basis = Multinomial(classes).basis
        np.testing.assert_allclose(basis.T @ basis, np.eye(classes - 1), atol=1e-15)
        np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-15)
