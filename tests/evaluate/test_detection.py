"""Detection metrics against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.evaluate import detection


def by_counting(scores, truth):
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[truth]
        for n in scores[~truth]
    ]
    return float(np.mean(wins))


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_auroc_counts_pairs(rng, levels):
    scores = rng.integers(0, levels, 60).astype(float)
    truth = rng.random(60) < 0.3
    want = by_counting(scores, truth)
    assert detection.auroc(scores, truth) == pytest.approx(want, abs=1e-12)
    assert detection.auroc(-scores, truth) == pytest.approx(1 - want, abs=1e-12)


def test_recall_counts_the_top(rng):
    scores, truth = rng.permutation(50).astype(float), rng.random(50) < 0.2
    top = np.argsort(-scores)[:10]
    want = truth[top].sum() / truth.sum()
    assert detection.recall_at(scores, truth, 0.2) == pytest.approx(want)
    assert detection.recall_at(scores, truth, 1.0) == 1.0


def test_recall_of_ties_is_an_expectation():
    truth = np.array([True, False, False, False])
    assert detection.recall_at(np.zeros(4), truth, 0.5) == pytest.approx(0.5)


def test_recall_curve_rises_to_one(rng):
    curve = detection.recall_curve(rng.random(40), rng.random(40) < 0.4, points=11)
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert (np.diff(curve[:, 1]) >= 0).all()


@pytest.mark.parametrize(
    ("scores", "truth", "says"),
    [
        ([1.0, 2.0], [True, True], "both kinds"),
        ([1.0, 2.0], [False, False], "both kinds"),
        ([1.0, 2.0], [1, 0], "boolean"),
        ([1.0, 2.0], [True], "boolean"),
        ([1.0, float("nan")], [True, False], "row 1"),
    ],
)
def test_bad_input_is_named(scores, truth, says):
    with pytest.raises(DataError, match=says):
        detection.auroc(scores, np.array(truth))


def test_share_must_be_a_share():
    with pytest.raises(ArgumentError, match="share=0"):
        detection.recall_at([1.0, 2.0], [True, False], 0.0)
