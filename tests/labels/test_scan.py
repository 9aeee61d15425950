"""The label scan: self-influence by the printed formula, and refused input."""

from __future__ import annotations

import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError, DataError
from natgeo.features import tasks
from natgeo.labels import detectors, left_out, predictions


def test_self_influence_scores_and_order(rng):
    features = rng.standard_normal((30, 4))
    losses = rng.random(30)
    scan = ng.scan_labels(
        ng.MemoryStore(features, {"outputs": losses}, {"task": "x-loss"}), ridge=0.1
    )
    inverse = np.linalg.inv(features.T @ features / 30 + 0.1 * np.eye(4))
    want = np.array([f @ inverse @ f for f in features])
    np.testing.assert_allclose(scan.scores["self-influence"], want, rtol=1e-10)
    np.testing.assert_array_equal(scan.scores["loss"], losses)
    by = scan.suspicious(5, by="self-influence")
    np.testing.assert_array_equal(by, np.argsort(-want)[:5])
    np.testing.assert_array_equal(scan.suspicious(by="loss"), np.argsort(-losses))
    held_out = left_out.held_out_loss(losses, features)
    assert scan.detector == "loss, held out"
    np.testing.assert_array_equal(scan.suspicious(), np.argsort(-held_out))


def test_planted_outliers_are_found(rng):
    features = rng.standard_normal((200, 6))
    wrong = np.zeros(200, bool)
    wrong[[3, 50, 120]] = True
    features[wrong] *= 8
    found = ng.scan_labels(features, ridge=0.0).detection(wrong)
    assert found["self-influence"]["auroc"] > 0.99
    assert found["self-influence"]["recall_at_20"] == 1.0
    assert "loss" not in found


def test_margin_features_are_refused(rng):
    store = ng.MemoryStore(
        rng.standard_normal((5, 2)), metadata={"task": "classification-margin"}
    )
    with pytest.raises(DataError, match="loss features"):
        ng.scan_labels(store)


def test_unknown_detector_is_named(rng):
    scan = ng.scan_labels(rng.standard_normal((5, 2)))
    with pytest.raises(ArgumentError, match="this scan has self-influence"):
        scan.suspicious(by="luck")


def linear(params, x):
    return x @ params["w"]


@pytest.fixture(scope="module")
def learned():
    """Two blobs a class, a linear model fitted by hand, and eight wrong labels."""
    rng = np.random.default_rng(5)
    centres = np.array([[3.0, 0.0, 1.0], [-2.0, 2.0, 1.0], [-2.0, -2.0, 1.0]])
    truth = np.arange(120) % 3
    x = (centres[truth] + 0.5 * rng.standard_normal((120, 3))).astype(np.float32)
    y = truth.astype(np.int32)
    y[:8] = (y[:8] + 1) % 3
    return x, y, truth


def fit(x, y):
    """Multinomial logistic regression by gradient descent."""
    w, onehot = np.zeros((3, 3)), np.eye(3)[y]
    for _ in range(60):
        logits = x @ w
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        w -= 0.3 * x.T @ (p - onehot) / len(x)
    return {"w": w.astype(np.float32)}


def log_softmax(logits):
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_a_scan_of_a_model_by_the_printed_formulas(learned):
    x, y, truth = learned
    params, early = fit(x, y), {"w": 0.3 * fit(x, y)["w"]}
    scan = ng.scan_labels(
        linear, params, (x, y), checkpoints=[early], ridge=0.01, readouts=()
    )
    rows = np.arange(120)
    logp = np.stack([log_softmax(x @ p["w"]) for p in (early, params)])
    np.testing.assert_allclose(
        scan.scores["loss"], -logp[:, rows, y].mean(axis=0), rtol=1e-4, atol=1e-5
    )
    p = np.exp(logp)
    error = np.linalg.norm(p - np.eye(3)[y], axis=2).mean(axis=0)
    np.testing.assert_allclose(scan.scores["EL2N"], error, rtol=1e-4, atol=1e-5)
    # Loss gradients of a linear model: x (p - onehot)^T, at the last checkpoint.
    phi = np.einsum("nd,nc->ndc", x, p[1] - np.eye(3)[y]).reshape(120, 9)
    inverse = np.linalg.inv(phi.T @ phi / 120 + 0.01 * np.eye(9))
    influence = np.einsum("nk,kl,nl->n", phi, inverse, phi)
    np.testing.assert_allclose(scan.scores["self-influence"], influence, rtol=1e-3)
    mean_loss = -np.log(np.exp(logp).mean(axis=0)[rows, y])
    np.testing.assert_allclose(
        scan.scores["loss, mean prediction"], mean_loss, rtol=1e-4, atol=1e-5
    )
    assert set(scan.suspicious(8)) == set(range(8))
    mean = p.mean(axis=0)
    mean[rows, y] = -1
    np.testing.assert_array_equal(scan.suggestion.labels, mean.argmax(axis=1))
    np.testing.assert_array_equal(scan.suggestion.labels[:8], truth[:8])
    np.testing.assert_allclose(scan.suggestion.confidence, mean.max(axis=1), atol=1e-5)


def test_the_order_is_by_the_defaults_of_the_detectors(learned):
    """Whatever they are: the scan only avoids passes over the same features."""
    x, y, _ = learned
    params, early = fit(x, y), {"w": 0.3 * fit(x, y)["w"]}
    logits = np.stack([x @ p["w"] for p in (early, params)])
    task = ng.tasks.classification(linear, output="loss")
    store = ng.featurize(task, params, (x, y), ng.projectors.Identity())
    losses = store.column("outputs")
    squares = np.square(x)

    def readout(params, x):
        return x * x

    for some in ([], [readout]):
        arrays = [squares for _ in some]
        one = detectors.one_checkpoint(losses, store, logits[1], y, arrays)
        several = detectors.several_checkpoints(logits, y, arrays)
        for options, want in (
            ({}, one),
            ({"checkpoints": [early]}, several),
        ):
            scan = ng.scan_labels(linear, params, (x, y), readouts=some, **options)
            got = scan.scores[scan.detector]
            np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-4)
            assert next(iter(scan.scores)) == scan.detector
        both = ng.scan_labels(store, labels=y, logits=logits, readouts=arrays)
        np.testing.assert_allclose(both.scores[both.detector], several, rtol=1e-4)
    held = ng.scan_labels(linear, params, (x, y), fit="closed form")
    want = detectors.out_of_sample(left_out.leave_one_out(np.float64(x), y), y)
    np.testing.assert_allclose(held.scores[held.detector], want, rtol=1e-6)


def test_logits_come_from_the_pass_that_makes_the_gradients(learned, monkeypatch):
    """No second forward pass but for other checkpoints."""
    x, y, _ = learned
    params = {"w": fit(x, y)["w"][:, [0, 1, 2, 0]]}
    early = {"w": 0.3 * params["w"]}
    asked = []

    def predictor(apply):
        return lambda params, x: asked.append(params) or np.asarray(apply(params, x))

    monkeypatch.setattr(predictions, "predictor", predictor)
    for layers in (None, "w"):
        scan = ng.scan_labels(
            linear, params, (x, y), readouts=(), batch_size=50, layers=layers
        )
        logp = log_softmax(x @ params["w"])[np.arange(120), y]
        np.testing.assert_allclose(scan.scores["loss"], -logp, rtol=1e-4, atol=1e-5)
    assert not asked
    ng.scan_labels(linear, params, (x, y), checkpoints=[early], readouts=())
    assert len(asked) == 1
    assert asked[0] is early
    every = ng.scan_labels(
        linear,
        params,
        (x, y),
        checkpoints=[early],
        readouts=(),
        every_influence=True,
    )
    assert len(asked) == 1
    losses = [-log_softmax(x @ p["w"])[np.arange(120), y] for p in (early, params)]
    np.testing.assert_allclose(
        every.scores["loss"], np.mean(losses, axis=0), rtol=1e-4, atol=1e-5
    )


def test_a_store_does_not_change_when_logits_are_recorded(learned, tmp_path):
    x, y, _ = learned
    params, seen = fit(x, y), []
    sketch = ng.projectors.CountSketch(dim=5)
    for name, task, record in (
        ("plain", tasks.classification(linear, output="loss"), None),
        ("recorded", tasks.recorded_loss(linear), seen.append),
    ):
        ng.featurize(
            task,
            params,
            (x, y),
            sketch,
            store=tmp_path / name,
            batch_size=50,
            record=record,
        )
    plain, recorded = (ng.DiskStore(tmp_path / n) for n in ("plain", "recorded"))
    assert plain.digest() == recorded.digest()
    assert plain.metadata == recorded.metadata
    want = x @ params["w"]
    np.testing.assert_allclose(np.concatenate(seen), want, rtol=1e-5, atol=1e-6)


def test_support_by_brute_force(learned):
    x, y, _ = learned
    params = fit(x, y)
    scan = ng.scan_labels(linear, params, (x, y), ridge=0.01)
    p = np.exp(log_softmax(x @ params["w"]))
    phi = np.einsum("nd,nc->ndc", x, p - np.eye(3)[y]).reshape(120, 9)
    inverse = np.linalg.inv(phi.T @ phi / 120 + 0.01 * np.eye(9))
    other = np.einsum("nd,nc->ndc", x, p - np.eye(3)[scan.suggestion.labels])
    for suggested, left, label in (
        (False, phi, y),
        (True, other.reshape(120, 9), scan.suggestion.labels),
    ):
        found = scan.support([0, 7, 50], k=4, suggested=suggested)
        for place, t in enumerate((0, 7, 50)):
            scores = phi @ inverse @ left[t]
            allowed = (y == label[t]) & (np.arange(120) != t) & (scores > 0)
            want = sorted(np.flatnonzero(allowed), key=lambda i: -scores[i])[:4]
            got = [i for i in found.indices[place] if i >= 0]
            assert got == want
            np.testing.assert_allclose(
                found.scores[place, : len(want)], scores[want], rtol=1e-3
            )


def test_suspects_carry_everything_that_is_known(learned):
    x, y, truth = learned
    scan = ng.scan_labels(linear, fit(x, y), (x, y))
    first = scan.suspects(8, eps=0.01)
    assert [one.rank for one in first] == list(range(1, 9))
    ranks = scan.certify(0.01).ranks()
    for one in first:
        assert one.given == y[one.index]
        assert one.suggested == truth[one.index]
        assert one.confidence > 0.5 > one.given_probability
        assert (one.lowest, one.highest) == tuple(ranks[one.index])
        assert all(y[i] == one.suggested for i in one.supports_suggested)
        assert len(one.supports_suggested) == 3
    assert scan.suspects(1)[0].lowest is None


def test_cross_fitting_never_shows_a_model_its_own_label(learned):
    x, y, _ = learned
    seen = []

    def fitted(x_part, y_part):
        seen.append({row.tobytes() for row in x_part})
        return fit(x_part, y_part)

    scan = ng.scan_labels(linear, fit(x, y), (x, y), fit=fitted, folds=4)
    assert len(seen) == 4
    # Every example is left out exactly once, and its score is of that model.
    left = np.array([[row.tobytes() not in part for part in seen] for row in x])
    np.testing.assert_array_equal(left.sum(axis=1), 1)
    i = 5
    rest = ~left[:, left[i].argmax()]
    logp = log_softmax(x[i : i + 1] @ fit(x[rest], y[rest])["w"])
    np.testing.assert_allclose(scan.scores["loss"][i], -logp[0, y[i]], rtol=1e-4)
    closed = ng.scan_labels(linear, fit(x, y), (x, y), fit="closed form")
    assert set(closed.suspicious(8)) == set(range(8))


def test_stores_of_several_checkpoints(rng):
    features = rng.standard_normal((2, 30, 4))
    losses = rng.random((2, 30))
    stores = [
        ng.MemoryStore(f, {"outputs": one}, {"task": "x-loss"})
        for f, one in zip(features, losses, strict=True)
    ]
    scan = ng.scan_labels(stores, ridge=0.1, labels=np.zeros(30, int))
    np.testing.assert_allclose(scan.scores["loss"], losses.mean(axis=0))
    assert scan.detector == "loss"
    alone = [ng.scan_labels(one, ridge=0.1).scores["self-influence"] for one in stores]
    ranks = np.mean([np.argsort(np.argsort(one)) / 29 for one in alone], axis=0)
    np.testing.assert_allclose(scan.scores["self-influence"], ranks)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"params": {}}, ArgumentError, "params= needs a model"),
        ({"fit": fit}, ArgumentError, "fit= needs a model"),
        ({"labels": [0, 1]}, DataError, "labels has dtype int64 and shape"),
        ({"labels": np.full(20, -1)}, DataError, "holds -1 at 0"),
        ({"logits": np.zeros((20, 3))}, ArgumentError, "needs labels="),
        (
            {"logits": np.zeros((9, 3)), "labels": np.zeros(20, int)},
            DataError,
            "logits has shape",
        ),
    ],
)
def test_arguments_that_do_not_fit_features(rng, arguments, error, words):
    with pytest.raises(error, match=words):
        ng.scan_labels(rng.standard_normal((20, 3)), **arguments)


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        (None, {}, ArgumentError, "needs its parameters and data"),
        ([1], {}, ArgumentError, "takes arrays"),
        ((np.zeros((3, 3)), np.zeros(2, int)), {}, DataError, "labels has dtype"),
        ("ok", {"labels": [1]}, ArgumentError, "labels and logits belong"),
        ("ok", {"checkpoints": {}}, ArgumentError, "checkpoints is a dict"),
        ("ok", {"fit": "open form"}, ArgumentError, "fit='open form'"),
    ],
)
def test_arguments_that_do_not_fit_a_model(learned, data, options, error, words):
    x, y, _ = learned
    if isinstance(data, str):
        data = (x, y)
    with pytest.raises(error, match=words):
        ng.scan_labels(linear, fit(x, y), data, **options)
