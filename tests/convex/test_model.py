"""Fitting: the optimum, and a clear answer to every table that has none."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import natgeo.convex as convex
from natgeo.convex import solver
from natgeo.errors import ArgumentError, DataError
from tests.convex import cases


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_the_optimum_is_that_of_a_general_purpose_solver(loss, intercept):
    model = cases.model(loss, intercept=intercept)
    truth = cases.minimum(model)
    found = model.coefficients
    if loss == "multinomial":
        found = found @ model.loss.basis.T
        # A softmax with a column for every class: its intercepts are free by a shift.
        truth = truth - truth.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, truth, atol=1e-6)
    assert cases.risk(model, found) <= cases.risk(model, truth) + 1e-15
    assert model.residual < 1e-14


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_the_gradient_of_the_printed_risk_vanishes(loss):
    model = cases.model(loss)
    theta = model.coefficients
    if loss == "multinomial":
        theta = theta @ model.loss.basis.T
    gradient = [
        cases.derivative(lambda s, e=e: cases.risk(model, theta.ravel() + s * e), 1e-3)
        for e in np.eye(theta.size)
    ]
    np.testing.assert_allclose(gradient, 0, atol=1e-11)


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_hessian_factor_and_products_agree(loss):
    model = cases.model(loss)
    np.testing.assert_allclose(
        model.factor @ model.factor.T, model.hessian, rtol=1e-12, atol=1e-14
    )
    vectors = np.random.default_rng(0).normal(size=(3, model.parameters))
    np.testing.assert_allclose(model.product(vectors[0]), model.hessian @ vectors[0])
    np.testing.assert_allclose(model.solve(vectors) @ model.hessian, vectors)
    np.testing.assert_allclose(model.solve(vectors[0]), model.solve(vectors)[0])
    # The sum of the gradients balances the ridge.
    ridge = (model.penalty[:, None] * model.coefficients).ravel()
    np.testing.assert_allclose(model.weights @ model.gradients(), -ridge, atol=1e-14)


def test_conjugate_gradients_take_over_where_no_hessian_is_formed(monkeypatch):
    """The route for many parameters, forced on few, ends at the same optimum."""
    dense = {loss: cases.model(loss, ridge=0.1) for loss in cases.LOSSES}
    solved = {loss: model.solve(model.gradients()[:3]) for loss, model in dense.items()}
    monkeypatch.setattr(solver, "DENSE", 1)
    for loss, model in dense.items():
        large = cases.model(loss, ridge=0.1)
        np.testing.assert_allclose(
            large.coefficients, model.coefficients, rtol=1e-10, atol=1e-13
        )
        np.testing.assert_allclose(
            large.solve(model.gradients()[:3]), solved[loss], rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(
            convex.self_influence(large)[:3],
            np.sum(model.gradients()[:3] * solved[loss], 1),
        )


def test_an_integer_weight_is_that_many_copies():
    x, y = cases.data("logistic")
    counts = np.arange(len(x)) % 3
    weighted = convex.fit(x, y, weights=counts, ridge=0.01)
    copied = convex.fit(np.repeat(x, counts, axis=0), np.repeat(y, counts), ridge=0.01)
    np.testing.assert_allclose(
        weighted.coefficients, copied.coefficients, rtol=1e-10, atol=1e-13
    )


def test_standardising_changes_units_and_not_an_unpenalised_fit():
    x, y = cases.data("squared")
    plain = convex.fit(x, y, ridge=0.0, standardize=False)
    scaled = convex.fit(x, y, ridge=0.0)
    np.testing.assert_allclose(plain.predict(x), scaled.predict(x), rtol=1e-12)
    np.testing.assert_allclose(scaled.design[:, :-1].mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(scaled.design[:, :-1].std(0), 1, rtol=1e-14)
    np.testing.assert_array_equal(scaled.rows(x), scaled.design)


def test_the_loss_is_chosen_by_the_labels():
    x = np.random.default_rng(0).normal(size=(40, 2))
    codes = np.arange(40)
    for y, loss in (
        (x[:, 0], "squared"),
        (codes, "squared"),
        (codes % 2, "logistic"),
        (codes % 2 == 1, "logistic"),
        (codes % 3, "multinomial"),
        (np.array(["a", "b", "c", "a"] * 10, object), "multinomial"),
    ):
        assert convex.fit(x, y, ridge=0.1).loss.name == loss


def test_two_classes_by_softmax_are_the_logistic_model_with_half_the_ridge():
    x, y = cases.data("logistic")
    one = convex.fit(x, y, loss="logistic", ridge=0.05)
    two = convex.fit(x, y, loss="multinomial", ridge=0.1)
    logits = two.coefficients @ two.loss.basis.T
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], one.coefficients[:, 0], rtol=1e-10
    )


def test_refit_takes_other_data_and_keeps_the_rest():
    model = cases.model("squared")
    x, y = cases.data("squared", seed=4)
    other = model.refit(design=model.rows(x[:30]), labels=y[:30])
    fresh = convex.fit(
        model.rows(x[:30]), y[:30], ridge=0.0, standardize=False, intercept=False
    )
    fresh = fresh.refit(penalty=model.penalty)
    np.testing.assert_allclose(other.coefficients, fresh.coefficients, rtol=1e-9)
    np.testing.assert_array_equal(other.penalty, model.penalty)
    for bad in (
        {"design": np.ones((3, 2))},
        {"labels": y[:3]},
        {"weights": -model.weights},
        {"weights": model.weights * np.nan},
    ):
        with pytest.raises(DataError):
            model.refit(**bad)


# What has no answer, and the words that must be in the message.

X, Y = cases.data("squared")
SPLIT = X[:, 0] > 1
REFUSED = {
    "collinear": (np.hstack([X, X[:, :1] * 2 + 1]), Y, {"ridge": 0.0}, "collinear"),
    "separable": (X, SPLIT, {"ridge": 0.0}, "separable"),
    "separable, three classes": (
        X,
        np.digitize(X[:, 0], [0.5, 1.5]),
        {"ridge": 0.0},
        "separable",
    ),
    "almost separable": (
        np.hstack([SPLIT[:, None] * (np.arange(60) % 2)[:, None], X[:, 1:]]),
        (SPLIT & (np.arange(60) % 2 == 1)) | (np.arange(60) % 5 == 0),
        {"ridge": 0.0},
        "separable",
    ),
    "constant": (np.hstack([X, np.ones((60, 1))]), Y, {}, "'4' is constant"),
    "constant, as it is": (
        np.hstack([X, np.ones((60, 1))]),
        Y,
        {"ridge": 0.0, "standardize": False},
        "collinear",
    ),
    "zero column": (
        np.hstack([X, np.zeros((60, 1))]),
        Y,
        {"ridge": 0.0, "standardize": False},
        "Column 4",
    ),
    "fewer rows than columns": (X[:3], Y[:3], {"ridge": 0.0}, "3 examples"),
    "one class": (X, np.repeat("only", 60), {}, "Every label is only"),
    "a class without weight": (
        X,
        np.arange(60) % 3,
        {"weights": np.arange(60) % 3},
        "Class 0 has no example",
    ),
    "NaN": (np.where(np.arange(60)[:, None] == 5, np.nan, X), Y, {}, "row 5"),
    "NaN label": (X, np.where(np.arange(60) == 7, np.nan, Y), {}, "row 7"),
    "text": (
        np.hstack([X.astype(object), np.repeat("red", 60)[:, None]]),
        Y,
        {},
        "'4' holds text ('red'",
    ),
    "text label": (X, np.repeat(["a", "b"], 30), {"loss": "squared"}, "holds text"),
    "a gap in the labels": (X, np.array(["a", None] * 30, object), {}, "mixes text"),
    "an object": (np.full((60, 1), None), Y, {}, "None"),
    "three classes": (X, np.arange(60) % 3, {"loss": "logistic"}, "3 classes"),
    "an identifier": (
        np.arange(2000.0)[:, None],
        np.arange(2000).astype(str),
        {},
        "2,000 classes",
    ),
    "names": (X, Y, {"names": ["a"]}, "1 names for 4 columns"),
    "rows": (X, Y[:5], {}, "y has shape"),
    "one axis": (X[:, 0], Y, {}, "x has shape"),
    "no rows": (X[:0], Y[:0], {}, "empty"),
    "weights": (X, Y, {"weights": -np.ones(60)}, "negative"),
    "no weight": (X, Y, {"weights": np.zeros(60)}, "positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_answer_is_refused_in_words(name):
    x, y, options, words = REFUSED[name]
    with pytest.raises(DataError) as caught:
        convex.fit(x, y, **options)
    assert words in str(caught.value)


def test_wrong_options_are_refused():
    with pytest.raises(ArgumentError, match="expected one of"):
        convex.fit(X, Y, loss="hinge")
    with pytest.raises(ArgumentError, match="ridge"):
        convex.fit(X, Y, ridge=-1.0)
    with pytest.raises(ArgumentError, match="no probabilities"):
        convex.fit(X, Y).probabilities(np.zeros((1, 1)))


def test_a_ridge_answers_what_has_none_without():
    for name in (
        "collinear",
        "separable",
        "almost separable",
        "fewer rows than columns",
    ):
        x, y, options, _ = REFUSED[name]
        model = convex.fit(x, y, **(options | {"ridge": 0.01}))
        assert model.residual < 1e-13


def test_nearly_separable_classes_are_solved_and_not_called_separable():
    x, y = load_breast_cancer(return_X_y=True)
    model = convex.fit(x[:, :5], y, ridge=0.0)
    assert model.residual < 1e-12
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000)
    other.fit(model.design[:, :-1], y)
    np.testing.assert_allclose(model.coefficients[:-1, 0], other.coef_[0], rtol=1e-3)


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 300)), rng.normal(size=50)
    model = convex.fit(x, y, ridge=0.1)
    # The dual solution, by a system of N equations.
    design, center = model.design[:, :-1], y.mean()
    dual = np.linalg.solve(design @ design.T / 50 + 0.1 * np.eye(50), y - center) / 50
    np.testing.assert_allclose(model.coefficients[:-1, 0], design.T @ dual, rtol=1e-9)


SIZES = {"shuttle": (58_000, 9, 7), "letter": (20_000, 16, 26)}


def tables(name, seed=0):
    n, d, classes = SIZES[name]
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    noise = rng.gumbel(size=(n, classes))
    return x, np.argmax(x @ rng.normal(size=(d, classes)) * 2 + noise, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_large_tables_take_seconds(name):
    x, y = tables(name)
    start = time.process_time()
    model = convex.fit(x, y, ridge=1e-3)
    convex.influence(model, x[:20], y[:20])
    convex.self_influence(model)
    convex.leave_one_out(model, x[:5], y[:5])
    seconds = time.process_time() - start
    print(f"{name}: {seconds:.1f} CPU seconds")
    assert model.residual < 1e-12
    assert seconds < 60


@pytest.mark.slow
def test_two_thousand_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2000))
    y = x[:, :10].sum(axis=1) + rng.logistic(size=4000) > 0
    start = time.process_time()
    model = convex.fit(x, y, ridge=1e-2)
    convex.influence(model, x[:20], y[:20])
    convex.leave_one_out(model, x[:5], y[:5])
    print(f"p = 2,000: {time.process_time() - start:.1f} CPU seconds")
    assert model.residual < 1e-12
    assert time.process_time() - start < 120
