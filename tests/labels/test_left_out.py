"""Leave-one-out in closed form against fits that really leave one out."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.labels import left_out
from natgeo.store.memory import MemoryStore


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def test_leverage_is_the_diagonal_of_the_hat_matrix(rng):
    x = rng.standard_normal((30, 4))
    want = np.diag(x @ np.linalg.inv(x.T @ x + 30 * 0.2 * np.eye(4)) @ x.T)
    np.testing.assert_allclose(left_out.leverage(x, 0.2), want, rtol=1e-10)
    with pytest.raises(DataError, match="ridge > 0"):
        left_out.leverage(np.zeros((3, 2)), 0.0)


def test_a_readout_is_that_of_all_others(rng):
    x = rng.standard_normal((25, 3)) * [1, 5, 0.1] + [0, 10, 0]
    labels = rng.integers(0, 3, 25)
    onehot = np.eye(3)[labels]
    rows = np.c_[(x - x.mean(axis=0)) / x.std(axis=0), np.ones(25)]
    raw = np.empty((25, 3))
    for i in range(25):
        others = np.arange(25) != i
        gram = rows[others].T @ rows[others] + 25 * 0.05 * np.eye(4)
        raw[i] = rows[i] @ np.linalg.solve(gram, rows[others].T @ onehot[others])
    got = left_out.leave_one_out(MemoryStore(x), labels, 0.05)
    # The temperature is one number: rows agree up to it and a constant each.
    centred = raw - raw.mean(axis=1, keepdims=True)
    seen = got - got.mean(axis=1, keepdims=True)
    scale = (seen * centred).sum() / (centred * centred).sum()
    np.testing.assert_allclose(seen, scale * centred, atol=1e-9)
    best = min(
        -log_softmax(s * raw)[np.arange(25), labels].mean()
        for s in np.exp(np.linspace(-4, 6, 2001))
    )
    assert -got[np.arange(25), labels].mean() <= best + 1e-6


def test_a_constant_feature_and_an_unseen_class_do_no_harm(rng):
    x = np.c_[rng.standard_normal((12, 2)), np.full(12, 7.0)]
    labels = np.arange(12) % 2
    got = left_out.leave_one_out(x, labels, classes=4)
    assert got.shape == (12, 4)
    assert np.isfinite(got).all()
    without = left_out.leave_one_out(x[:, :2], labels, classes=4)
    np.testing.assert_allclose(got, without, atol=1e-9)


def test_float32_features_give_the_same_readout(rng):
    """Raw columns of any scale, and one that a single example has to itself."""
    x = rng.standard_normal((300, 40)) * np.logspace(-6, 6, 40) + np.logspace(3, -3, 40)
    x[:, 0] = 0
    x[7, 0] = 1e-3
    labels = rng.integers(0, 3, 300)
    x = np.float32(x)
    want = left_out.leave_one_out(np.float64(x), labels)
    got = left_out.leave_one_out(x, labels)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    tiny = left_out.leave_one_out(x, labels, 1e-9)
    exact = left_out.leave_one_out(np.float64(x), labels, 1e-9)
    np.testing.assert_allclose(tiny, exact, rtol=1e-6)


def test_the_held_out_step_is_newtons_without_the_example(rng):
    x, sign = rng.standard_normal((40, 3)), rng.choice([-1.0, 1.0], 40)
    theta = rng.standard_normal(3)
    f = sign * (x @ theta)
    losses, r = np.logaddexp(0, -f), 1 / (1 + np.exp(f))
    g = sign[:, None] * x
    weights = r * (1 - r)
    whole = (g * weights[:, None]).T @ g
    ridge = 0.3 * np.trace(whole) / 3 * np.eye(3)
    want = [
        r[i]
        * g[i]
        @ np.linalg.solve(whole + ridge - weights[i] * np.outer(g[i], g[i]), g[i])
        for i in range(40)
    ]
    phi = -r[:, None] * g
    np.testing.assert_allclose(left_out.held_out_shift(losses, phi), want, rtol=1e-9)
    np.testing.assert_allclose(
        left_out.held_out_loss(losses, phi), np.logaddexp(0, want - f), rtol=1e-9
    )
    logits = np.c_[np.zeros(40), x @ theta]
    labels = (sign > 0).astype(int)
    both = left_out.held_out(logits, labels, phi)
    np.testing.assert_allclose(
        -both[np.arange(40), labels], np.logaddexp(0, want - f), rtol=1e-9
    )


def test_the_held_out_loss_is_near_that_of_a_refit(rng):
    """Logistic regression at its optimum, refitted without each example."""
    x, sign = rng.standard_normal((60, 3)), rng.choice([-1.0, 1.0], 60)
    sign[:45] = np.where(x[:45, 0] > 0, 1.0, -1.0)

    def fit(rows, ridge):
        theta = np.zeros(3)
        for _ in range(50):
            f = sign[rows] * (x[rows] @ theta)
            r = 1 / (1 + np.exp(f))
            g = sign[rows, None] * x[rows]
            hessian = (g * (r * (1 - r))[:, None]).T @ g + ridge * np.eye(3)
            theta = theta + np.linalg.solve(hessian, g.T @ r - ridge * theta)
        return theta, hessian

    rows, ridge = np.arange(60), 1.0
    theta, hessian = fit(rows, ridge)
    f = sign * (x @ theta)
    phi = -(1 / (1 + np.exp(f)))[:, None] * sign[:, None] * x
    damping = ridge / (np.trace(hessian - ridge * np.eye(3)) / 3)
    got = left_out.held_out_loss(np.logaddexp(0, -f), phi, damping)
    want = np.empty(60)
    for i in rows:
        left, _ = fit(rows[rows != i], ridge)
        want[i] = np.logaddexp(0, -sign[i] * (x[i] @ left))
    moved = want - np.logaddexp(0, -f)
    # One Newton step: near in size, and nearly the same order.
    assert np.abs(got - want).max() < 0.25 * moved.max()
    assert np.corrcoef(got - np.logaddexp(0, -f), moved)[0, 1] > 0.998
    assert (got > np.logaddexp(0, -f)).all()


def test_saturated_losses_stay_finite(rng):
    losses = np.array([0.0, -1e-7, 1e-30, 800.0, 3.0])
    features = rng.standard_normal((5, 2)) * np.array([[0, 1e-9, 1e-9, 1, 1]]).T
    assert np.isfinite(left_out.held_out_loss(losses, features)).all()


def test_skill_is_the_share_of_the_log_loss_that_is_explained(rng):
    labels = np.array([0, 0, 0, 1, 1, 2])
    frequencies = np.log(np.tile([1 / 2, 1 / 3, 1 / 6], (6, 1)))
    assert left_out.skill(frequencies, labels) == pytest.approx(0, abs=1e-12)
    assert left_out.skill(50 * np.eye(3)[labels], labels) == pytest.approx(1)
    assert left_out.skill(-np.eye(3)[labels], labels) < 0
    entropy = np.log(2) / 2 + np.log(3) / 3 + np.log(6) / 6
    p = np.full((6, 3), 0.2)
    p[np.arange(6), labels] = 0.6
    want = 1 + np.log(0.6) / entropy
    assert left_out.skill(np.log(p), labels) == pytest.approx(want)
    assert left_out.skill(np.zeros((2, 2)), [1, 1]) == 0


def test_folds_are_even_in_every_class_and_nobody_is_trained_on(rng):
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    fold = left_out.folds(labels, 5, seed=3)
    for label, each in ((0, 10), (1, 4), (2, 1)):
        assert (np.bincount(fold[labels == label], minlength=5) == each).all()
    seen = []

    def fit(train, held_out):
        assert not set(train) & set(held_out)
        assert len(train) + len(held_out) == 75
        seen.extend(held_out)
        return np.c_[held_out, -held_out].astype(float)

    got = left_out.cross_fit(fit, labels, 5, seed=3)
    assert sorted(seen) == list(range(75))
    np.testing.assert_array_equal(got[:, 0], np.arange(75))
    with pytest.raises(DataError, match="1 rows for"):
        left_out.cross_fit(lambda *_: np.zeros((1, 2)), labels)


@pytest.mark.parametrize(
    ("labels", "word"),
    [([0, 1], "of 3"), ([0, 1, -1], "-1"), ([0.0, 1.0, 1.0], "float64"), ([], "of 3")],
)
def test_wrong_labels_are_refused(labels, word):
    with pytest.raises(DataError, match=word):
        left_out.leave_one_out(np.eye(3), np.array(labels))


def test_wrong_arguments_are_refused(rng):
    x = rng.standard_normal((4, 2))
    with pytest.raises(ArgumentError, match="ridge"):
        left_out.leave_one_out(x, [0, 1, 0, 1], ridge=0)
    with pytest.raises(DataError, match="without many gaps"):
        left_out.leave_one_out(x, [0, 1, 0, 10**6])
    with pytest.raises(DataError, match="not negative"):
        left_out.held_out_loss(np.array([1.0, 1, -1, 1]), x)
    with pytest.raises(DataError, match="all features zero"):
        left_out.held_out_loss(np.ones(4), np.zeros((4, 2)))
    with pytest.raises(ArgumentError, match="4 examples"):
        left_out.folds([0, 1, 0, 1], 5)
