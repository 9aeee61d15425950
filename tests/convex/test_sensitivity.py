"""The sensitivity kernel against finite differences of retrained models."""

from __future__ import annotations

import numpy as np
import pytest

import natgeo.convex as convex
from natgeo.convex.outputs import Targets
from natgeo.errors import ArgumentError
from tests.convex import cases

CASES = [
    (loss, output)
    for loss in cases.LOSSES
    for output in ("loss", "margin", "prediction")
    if (loss, output) != ("squared", "margin")
]
TRAIN = 7


@pytest.fixture(scope="module")
def models():
    return {loss: cases.model(loss) for loss in cases.LOSSES}


def explained(model, output):
    x, y = cases.data(model.loss.name, seed=1)
    return convex.targets(model, x[:1], y[:1], output=output)


def influence_after(model, target, *, weights=None, design=None, labels=None):
    """I(i, t) of a retrained model, for the example i and the target t as they were."""
    other = model.refit(weights=weights, design=design, labels=labels)
    moved = Targets(other, target.rows, target.labels, target.output)
    own = other.gradients(model.design[[TRAIN]], model.labels[[TRAIN]])
    return -float(moved.gradients()[0] @ np.linalg.solve(other.hessian, own[0]))


@pytest.mark.parametrize(("loss", "output"), CASES)
def test_the_kernel_is_the_derivative_of_retrained_influence(models, loss, output):
    model = models[loss]
    target = explained(model, output)
    kernel = convex.sensitivity_kernel(target, TRAIN)
    assert kernel.influence == pytest.approx(
        convex.influence(model, target)[0, TRAIN], rel=1e-12
    )
    values = kernel.at()
    for j in (0, TRAIN, 20):

        def mixed(s, j=j):
            weights = (1 - s) * model.weights
            weights[j] += s
            return influence_after(model, target, weights=weights)

        truth = cases.derivative(mixed, 5e-4)
        assert values[j] == pytest.approx(truth, rel=1e-6, abs=1e-7 * abs(values).max())


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_the_kernel_has_mean_zero(models, loss):
    """By the formula of section 8 term by term, without subtracting a mean of S."""
    model = models[loss]
    target = explained(model, "loss")
    kernel = convex.sensitivity_kernel(target, TRAIN)
    assert abs(model.weights @ kernel.at()) < 1e-14 * abs(kernel.at()).max()
    np.testing.assert_allclose(
        kernel.at(), section_eight(model, target), rtol=1e-8, atol=1e-9
    )


def section_eight(model, target):
    """S(z) as certificates.md prints it, with explicit [P, P] Hessians of examples."""
    inverse = np.linalg.inv(model.hessian)
    t, i = (
        (target.rows[0], target.labels[0]),
        (model.design[TRAIN], model.labels[TRAIN]),
    )

    def hessian(x, u):
        second = np.stack(
            [model.loss.second(u[None], e[None])[0] for e in np.eye(len(u))], axis=1
        )
        return np.kron(np.outer(x, x), second)

    def gradient(x, y):
        return model.gradients(x[None], np.array([y]))[0]

    theta, ridge = model.coefficients, np.repeat(model.penalty, model.loss.outputs)
    pairs = list(zip(model.design, model.labels, strict=True))
    hessians = [hessian(x, theta.T @ x) for x, _ in pairs]
    mean = np.einsum("n,nij->ij", model.weights, hessians)
    g_t, g_i = gradient(*t), gradient(*i)
    h_t, h_i = hessian(t[0], theta.T @ t[0]), hessian(i[0], theta.T @ i[0])
    found = []
    for (x, y), own in zip(pairs, hessians, strict=True):
        moved = -inverse @ (gradient(x, y) + ridge * theta.ravel())

        def along(s, moved=moved):
            at = (theta.ravel() + s * moved).reshape(theta.shape)
            return model.loss.curvature(model.design, model.weights, model.design @ at)

        change = own - mean + cases.derivative(along, 1e-4)
        first = -(h_t @ moved) @ inverse @ g_i - g_t @ inverse @ (h_i @ moved)
        found.append(first + g_t @ inverse @ change @ inverse @ g_i)
    return np.array(found)


@pytest.mark.parametrize(("loss", "output"), CASES)
def test_slopes_predict_retraining_on_moved_points(models, loss, output):
    model = models[loss]
    target = explained(model, output)
    kernel = convex.sensitivity_kernel(target, TRAIN)
    slopes, in_labels = kernel.slopes()
    rng = np.random.default_rng(3)
    moves = rng.normal(size=model.design.shape)
    moves[:, -1] = 0.0
    turns = rng.normal(size=len(moves)) if loss == "squared" else np.zeros(len(moves))

    def moved(s):
        labels = model.labels + s * turns if loss == "squared" else model.labels
        return influence_after(
            model, target, design=model.design + s * moves, labels=labels
        )

    truth = cases.derivative(moved, 1e-4)
    found = model.weights @ (np.sum(slopes * moves, axis=1) + in_labels * turns)
    assert found == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("metric", ["natural", "euclidean"])
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_order_two_is_the_steepest_move_of_unit_cost(models, loss, metric):
    """The move that the dual norm names costs eps and changes I by the half-width."""
    model = models[loss]
    kernel = convex.sensitivity_kernel(explained(model, "loss"), TRAIN)
    slopes, in_labels = kernel.slopes()
    free = slopes[:, :-1]
    points = model.design
    ridge = model.penalty
    if loss == "squared":
        free = np.hstack([free, in_labels[:, None]])
        points = np.hstack([points, model.labels[:, None]])
        ridge = np.append(ridge, 0.0)
    cost = np.eye(free.shape[1])
    if metric == "natural":
        second = points.T @ (model.weights[:, None] * points) + np.diag(ridge)
        keep = np.arange(len(second)) != model.design.shape[1] - 1
        cost = np.linalg.inv(second)[np.ix_(keep, keep)]
    steepest = np.linalg.solve(cost, free.T).T
    squares = np.einsum("nj,nj->n", steepest @ cost, steepest)
    scale = np.sqrt(model.weights @ squares)
    gain = model.weights @ np.sum(steepest * free, axis=1) / scale
    found = convex.first_order(kernel, 0.25, metric=metric)
    assert found.half_width == pytest.approx(0.25 * gain, rel=1e-9)
    assert found.interval == (
        kernel.influence - found.half_width,
        kernel.influence + found.half_width,
    )
    once = convex.first_order(kernel, 0.25, order=1, metric=metric)
    assert once.half_width == pytest.approx(0.25 * np.sqrt(squares.max()), rel=1e-9)
    assert once.half_width >= found.half_width


def test_labels_may_be_held(models):
    kernel = convex.sensitivity_kernel(explained(models["squared"], "loss"), TRAIN)
    free = convex.first_order(kernel, 0.1, metric="euclidean")
    held = convex.first_order(kernel, 0.1, metric="euclidean", move_labels=False)
    assert held.half_width < free.half_width


def test_bad_arguments_are_refused(models):
    model = models["logistic"]
    target = explained(model, "loss")
    kernel = convex.sensitivity_kernel(target, TRAIN)
    with pytest.raises(ArgumentError, match="out of range"):
        convex.sensitivity_kernel(target, 60)
    with pytest.raises(ArgumentError, match="out of range"):
        convex.sensitivity_kernel(target, 0, index=1)
    with pytest.raises(ArgumentError, match="1 or 2"):
        convex.first_order(kernel, 0.1, order=3)
    with pytest.raises(ArgumentError, match="natural, euclidean"):
        convex.first_order(kernel, 0.1, metric="taxicab")
    with pytest.raises(ArgumentError, match="eps"):
        convex.first_order(kernel, -0.1)
    rest = convex.refit_without(model, [0])
    with pytest.raises(ArgumentError, match="sum to one"):
        convex.sensitivity_kernel(convex.training_targets(rest, [0]), 1)
