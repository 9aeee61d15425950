"""Models taken over from scikit-learn, against scikit-learn solved tightly."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import natgeo.convex as convex
from natgeo.errors import ArgumentError, DataError
from tests.convex import cases

TIGHT = {"tol": 1e-12, "max_iter": 20_000}


def coefficients(model):
    theta = model.coefficients
    if model.loss.name == "multinomial":
        theta = theta @ model.loss.basis.T
    return theta


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_with_sample_weights(intercept):
    x, y = cases.data("squared")
    s = np.random.default_rng(0).uniform(0.2, 3, len(x))
    fitted = Ridge(alpha=2.5, fit_intercept=intercept).fit(x, y, sample_weight=s)
    model = convex.from_sklearn(fitted, x, y, sample_weight=s)
    np.testing.assert_allclose(model.predict(x), fitted.predict(x), rtol=1e-10)
    assert model.penalty[0] == pytest.approx(2.5 / s.sum())
    assert model.weights.sum() == pytest.approx(1)
    assert model.shape == (4 + intercept, 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced", "given"])
@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_logistic_regression_with_both_kinds_of_weights(loss, class_weight, weighted):
    x, y = cases.data(loss)
    z = (x - x.mean(0)) / x.std(0)
    given = dict(zip(np.unique(y).tolist(), (1.0, 2.5, 0.5), strict=False))
    fitted = LogisticRegression(
        C=0.7, class_weight=given if class_weight == "given" else class_weight, **TIGHT
    )
    s = np.random.default_rng(0).uniform(0.2, 3, len(x)) if weighted else None
    fitted.fit(z, y, sample_weight=s)
    model = convex.from_sklearn(fitted, z, y, sample_weight=s)
    found = coefficients(model)
    np.testing.assert_allclose(found[:-1].T, fitted.coef_, atol=2e-6)
    np.testing.assert_allclose(
        model.probabilities(model.predictors), fitted.predict_proba(z), atol=2e-6
    )
    assert "solved on to rounding" in model.notes[0]


def test_a_pipeline_brings_its_scaling():
    x, y = cases.data("logistic")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=2.0, **TIGHT))
    pipeline.fit(x, y)
    model = convex.from_sklearn(pipeline, x, y)
    u = model.rows(x) @ model.coefficients
    np.testing.assert_allclose(u[:, 0], pipeline.decision_function(x), atol=1e-5)
    np.testing.assert_array_equal(model.predict(x), pipeline.predict(x))


def test_an_early_stop_is_solved_on_and_said():
    x, y = cases.data("logistic")
    z = (x - x.mean(0)) / x.std(0)
    fitted = LogisticRegression(C=1.0, tol=1e-2).fit(z, y)
    model = convex.from_sklearn(fitted, z, y)
    gap = np.linalg.norm(model.coefficients[:-1, 0] - fitted.coef_[0])
    assert gap > 1e-6
    assert model.residual < 1e-14
    tight = LogisticRegression(C=1.0, **TIGHT).fit(z, y)
    np.testing.assert_allclose(model.coefficients[:-1, 0], tight.coef_[0], atol=1e-6)


def test_liblinear_penalises_its_intercept():
    x, y = cases.data("logistic")
    z = (x - x.mean(0)) / x.std(0) + 1
    fitted = LogisticRegression(
        C=0.5, solver="liblinear", intercept_scaling=2.0, tol=1e-10, max_iter=5000
    ).fit(z, y)
    model = convex.from_sklearn(fitted, z, y)
    np.testing.assert_allclose(model.coefficients[:-1, 0], fitted.coef_[0], atol=1e-5)
    assert model.coefficients[-1, 0] == pytest.approx(fitted.intercept_[0], abs=1e-5)


def test_no_penalty():
    x, y = cases.data("logistic")
    z = (x - x.mean(0)) / x.std(0)
    fitted = LogisticRegression(C=np.inf, **TIGHT).fit(z, y)
    model = convex.from_sklearn(fitted, z, y)
    assert not model.penalty.any()
    np.testing.assert_allclose(model.coefficients[:-1, 0], fitted.coef_[0], rtol=1e-4)


def test_other_data_than_those_of_the_fit_are_noticed():
    x, y = cases.data("squared")
    fitted = Ridge(alpha=1.0).fit(x, y)
    with pytest.raises(DataError, match="no optimum of its own risk"):
        convex.from_sklearn(fitted, x, y[::-1])
    with pytest.raises(DataError, match="no optimum of its own risk"):
        convex.from_sklearn(fitted, x, y, sample_weight=np.arange(len(x)))
    with pytest.raises(DataError, match="fitted to 4 columns"):
        convex.from_sklearn(fitted, x[:, :3], y)
    x, y = cases.data("logistic")
    fitted = LogisticRegression(**TIGHT).fit((x - x.mean(0)) / x.std(0), y)
    with pytest.raises(DataError, match="knows the classes"):
        convex.from_sklearn(fitted, x, y == "yes")


def test_what_is_not_understood_is_refused():
    x, y = cases.data("logistic")
    z = (x - x.mean(0)) / x.std(0)
    number = (y == "yes").astype(float)
    sparse = LogisticRegression(l1_ratio=1.0, solver="saga", max_iter=5000).fit(z, y)
    with pytest.raises(ArgumentError, match="not smooth"):
        convex.from_sklearn(sparse, z, y)
    for estimator, words in (
        (Lasso(0.01).fit(z, number), "Lasso cannot be taken over"),
        (Ridge(positive=True).fit(z, number), "constrained"),
        (Ridge().fit(z, np.stack([number, number], 1)), "2 numbers"),
        (make_pipeline(PCA(), Ridge()).fit(z, number), "PCA in front"),
    ):
        with pytest.raises(ArgumentError, match=words):
            convex.from_sklearn(estimator, z, number)
    with pytest.raises(DataError, match="not fitted"):
        convex.from_sklearn(Ridge(), z, number)
