"""Rows left out: closed forms against n exact refits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge

import natgeo.convex as convex
from natgeo.errors import DataError
from tests.convex import cases


def test_ridge_without_each_row_equals_n_refits_by_scikit_learn():
    x, y = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = convex.fit(x, y, ridge=0.01, standardize=False)
    moved = convex.leave_one_out(model, x[:20], output="prediction")
    losses = convex.leave_one_out(model, x[:20], y[:20])
    left = convex.held_out(model)[:, 0]
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        # alpha stays what it is for N rows: the sum of losses loses one term.
        other = Ridge(alpha=0.01 * len(x), solver="cholesky").fit(x[rest], y[rest])
        truth = other.predict(x[:20])
        np.testing.assert_allclose(
            moved[:, i], truth - model.predict(x[:20]), atol=1e-9 * abs(truth).max()
        )
        change = 0.5 * ((truth - y[:20]) ** 2 - (model.predict(x[:20]) - y[:20]) ** 2)
        np.testing.assert_allclose(losses[:, i], change, atol=1e-9 * np.var(y))
        assert left[i] == pytest.approx(other.predict(x[i : i + 1])[0], rel=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_leaves_a_group_out_exactly(intercept):
    model = cases.model("squared", intercept=intercept)
    group = [0, 5, 5, 9, 40]
    truth = convex.refit_without(model, group).coefficients
    np.testing.assert_allclose(convex.without_group(model, group), truth, rtol=1e-9)
    for i in (0, 13):
        np.testing.assert_allclose(
            convex.without_one(model, [i])[0],
            convex.refit_without(model, [i]).coefficients,
            rtol=1e-9,
        )


def errors(model, rows):
    """Largest error of a Newton step and of first order, relative to the change."""
    newton, first = [], []
    pulls = model.solve(model.gradients(model.design[rows], model.labels[rows]))
    for i, step, pull in zip(rows, convex.without_one(model, rows), pulls, strict=True):
        truth = convex.refit_without(model, [i]).coefficients
        size = np.linalg.norm(truth - model.coefficients)
        newton.append(np.linalg.norm(step - truth) / size)
        linear = model.coefficients + model.weights[i] * pull.reshape(model.shape)
        first.append(np.linalg.norm(linear - truth) / size)
    return np.array(newton), np.array(first)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_a_newton_step_with_leverage_is_near_the_refit(load):
    x, y = load(return_X_y=True)
    model = convex.fit(x, y, ridge=0.01)
    rows = np.argsort(-convex.self_influence(model))[:12]
    newton, first = errors(model, rows)
    assert newton.max() < 0.2
    # The leverage is what the first order lacks.
    assert newton.mean() < 0.5 * first.mean()


@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_the_step_is_newtons_on_the_rest(loss):
    """By the printed Hessian of the remaining rows, without Woodbury."""
    model = cases.model(loss)
    for i in (0, 17):
        weights = model.weights.copy()
        weights[i] = 0.0
        hessian = model.hessian - cases_hessian(model, i)
        pull = model.weights[i] * model.gradients()[i]
        truth = model.theta + np.linalg.solve(hessian, pull)
        found = convex.without_one(model, [i])[0].ravel()
        np.testing.assert_allclose(found, truth, rtol=1e-10)
        np.testing.assert_allclose(
            convex.without_group(model, [i]).ravel(), truth, rtol=1e-10
        )
        explained = convex.training_targets(model, [2, i])
        change = convex.leave_one_out(model, explained)[:, i]
        after = explained.values(truth.reshape(model.shape))
        np.testing.assert_allclose(change, after - explained.values(), rtol=1e-9)


def cases_hessian(model, i):
    """Hessian of one weighted loss, by differences of its gradient."""
    x, y, w = model.design[i : i + 1], model.labels[i : i + 1], model.weights[i]

    def gradient(theta):
        first = model.loss.first(x @ theta.reshape(model.shape), y)
        return w * np.outer(x[0], first[0]).ravel()

    columns = [
        cases.derivative(lambda s, e=e: gradient(model.theta + s * e), 1e-3)
        for e in np.eye(model.parameters)
    ]
    return np.stack(columns, axis=1)


def test_a_row_that_alone_determines_a_coefficient_is_refused():
    x = np.zeros((5, 2))
    x[:, 0] = [1.0, 2.0, 3.0, 4.0, 5.0]
    x[2, 1] = 1.0
    model = convex.fit(
        x, x[:, 0] ** 2, loss="squared", ridge=0.0, standardize=False, intercept=False
    )
    with pytest.raises(DataError, match="row 2 has leverage 1"):
        convex.held_out(model)
    with pytest.raises(DataError, match="do not determine"):
        convex.without_group(model, [2])


def test_leaving_out_the_only_row_of_a_class_is_refused():
    x, y = cases.data("multinomial")
    y = np.where(np.arange(len(y)) == 4, 99, y)
    model = convex.fit(x, y, ridge=0.1)
    with pytest.raises(DataError, match="class code 3"):
        convex.refit_without(model, [4])


def test_classifiers_refit_as_scikit_learn_does_without_the_row():
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = convex.fit(x, y, ridge=0.05, standardize=False)
    rest = np.arange(len(x)) != 60
    other = LogisticRegression(C=1 / (0.05 * len(x)), tol=1e-10, max_iter=5000)
    other.fit(x[rest], y[rest])
    logits = convex.refit_without(model, [60]).coefficients @ model.loss.basis.T
    np.testing.assert_allclose(logits[:-1].T, other.coef_, atol=1e-6)
    np.testing.assert_allclose(
        logits[-1], other.intercept_ - other.intercept_.mean(), atol=1e-6
    )
