"""Closed forms against models that are really retrained."""

from __future__ import annotations

import numpy as np
import pytest

import natgeo.convex as convex
from natgeo.errors import ArgumentError, DataError
from tests.convex import cases

OUTPUTS = [
    (loss, output)
    for loss in cases.LOSSES
    for output in ("loss", "margin", "prediction")
    if (loss, output) != ("squared", "margin")
]


@pytest.fixture(scope="module")
def models():
    return {loss: cases.model(loss) for loss in cases.LOSSES}


def reweighted(model, i, change):
    weights = model.weights.copy()
    weights[i] += change
    return model.refit(weights=weights).coefficients


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
def test_influence_is_the_derivative_of_retraining(models, loss, output):
    model = models[loss]
    chosen = [0, 7, 31]
    x, y = cases.data(loss, seed=1)
    explained = convex.targets(model, x[:5], y[:5], output=output)
    found = convex.influence(model, x[:5], y[:5], output=output)
    assert found.shape == (5, 60)
    for i in chosen:
        truth = cases.derivative(
            lambda d, i=i: explained.values(reweighted(model, i, d)), 1e-3
        )
        np.testing.assert_allclose(
            found[:, i], truth, rtol=1e-6, atol=1e-8 * abs(truth).max()
        )


def test_the_sign_is_that_of_the_loss(models):
    """More weight on a row lowers its own loss."""
    for model in models.values():
        own = convex.influence(model, convex.training_targets(model, [3, 4]))
        assert own[0, 3] < 0
        assert own[1, 4] < 0


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_self_influence_is_minus_influence_on_oneself(models, loss):
    model = models[loss]
    whole = convex.influence(model, convex.training_targets(model, np.arange(60)))
    found = convex.self_influence(model)
    np.testing.assert_allclose(found, -np.diagonal(whole), rtol=1e-12)
    assert (found > 0).all()


def functionals(model, x, y):
    group = x[:, 0] > 1
    yield convex.coefficient(model, 1, **_label(model))
    yield convex.gap(model, x, group)
    if model.classes is not None:
        yield convex.accuracy(model, x, y)


def _label(model):
    return {"label": 6} if model.loss.name == "multinomial" else {}


def value_of(name, model, x, y):
    """Functionals of a model by what they mean, from predictions alone."""
    if name.startswith("coefficient"):
        step = np.zeros(x.shape[1])
        step[1] = 1.0
        u = (model.rows(x[:1] + step) - model.rows(x[:1])) @ model.coefficients
        if model.loss.name == "multinomial":
            u = u @ model.loss.basis.T[:, [1]]
        return u[0, 0]
    u = model.rows(x) @ model.coefficients
    if name.startswith("gap"):
        score = u[:, 0] if model.classes is None else model.probabilities(u)[:, -1]
        return score[x[:, 0] > 1].mean() - score[~(x[:, 0] > 1)].mean()
    return model.probabilities(u)[np.arange(len(x)), model.codes(y)].mean()


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_functionals_move_as_they_do_when_retrained(models, loss):
    model = models[loss]
    x, y = cases.data(loss, seed=1)
    for functional in functionals(model, x, y):
        assert functional.value == pytest.approx(
            value_of(functional.name, model, x, y), rel=1e-12
        )
        found = convex.functional_influence(model, functional)
        for i in (2, 11):

            def retrained(d, i=i, name=functional.name):
                weights = model.weights.copy()
                weights[i] += d
                return value_of(name, model.refit(weights=weights), x, y)

            truth = cases.derivative(retrained, 1e-3)
            assert found[i] == pytest.approx(truth, rel=1e-6), functional.name


def test_a_functional_through_jax_agrees_with_its_closed_form(models):
    model = models["logistic"]
    x, _ = cases.data("logistic", seed=1)
    rows, group = model.rows(x), x[:, 0] > 1

    def gap(theta):
        import jax

        score = jax.nn.sigmoid(rows @ theta)[:, 0]
        return score[group].mean() - score[~group].mean()

    found, closed = convex.smooth(model, gap), convex.gap(model, x, group)
    assert found.value == pytest.approx(closed.value, rel=1e-12)
    assert found.gradient.dtype == np.float64
    np.testing.assert_allclose(found.gradient, closed.gradient, rtol=1e-12)


def test_functionals_refuse_what_has_no_meaning(models):
    model = models["squared"]
    x, y = cases.data("squared")
    with pytest.raises(ArgumentError, match="squared loss"):
        convex.accuracy(model, x, y)
    with pytest.raises(DataError, match="both groups"):
        convex.gap(model, x, np.ones(len(x), bool))
    with pytest.raises(ArgumentError, match="none of the 4 columns"):
        convex.coefficient(model, 4)
    with pytest.raises(ArgumentError, match="which one"):
        convex.coefficient(models["multinomial"], 0)
    with pytest.raises(DataError, match="not finite"):
        convex.smooth(model, lambda theta: theta.sum() * np.inf)
    with pytest.raises(ArgumentError, match="for classes"):
        convex.targets(model, x, y, output="margin")
    with pytest.raises(ArgumentError, match="needs y"):
        convex.targets(model, x)
    with pytest.raises(ArgumentError, match="expected one of"):
        convex.targets(model, x, y, output="odds")
    with pytest.raises(DataError, match="none of the classes"):
        convex.targets(models["logistic"], x, np.repeat("maybe", len(x)))
    with pytest.raises(DataError, match="fitted to 4"):
        convex.targets(model, x[:, :3], y)


def test_a_margin_without_a_derivative_is_refused():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = convex.fit(x, np.array([0, 1, 0, 1]), ridge=0.01)
    with pytest.raises(DataError, match="no derivative in float64"):
        convex.targets(model, [[1e6]], [1], output="margin")


def test_without_labels_the_prediction_is_explained(models):
    model = models["multinomial"]
    x, _ = cases.data("multinomial", seed=1)
    explained = convex.targets(model, x[:6], output="prediction")
    np.testing.assert_array_equal(model.classes[explained.labels], model.predict(x[:6]))
    assert (explained.values() > 1 / 3).all()
