"""The label scan: self-influence by the printed formula, and refused input."""

from __future__ import annotations

import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError, DataError


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
    ranks = np.argsort(np.argsort(want)) + np.argsort(np.argsort(losses))
    both = scan.scores["loss and self-influence"]
    np.testing.assert_allclose(both, ranks / (2 * 29))
    np.testing.assert_array_equal(scan.suspicious(), np.argsort(-both, kind="stable"))


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
