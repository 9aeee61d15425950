"""Trees grown without the example: nothing leaks, thresholds and pairs are found."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.evaluate.detection import auroc
from natgeo.labels import forest
from natgeo.labels.detectors import loss
from natgeo.labels.left_out import skill


def test_labels_without_any_reason_are_not_predicted(rng):
    x, y = rng.normal(size=(300, 6)), rng.integers(0, 2, 300)
    assert skill(forest.left_out_votes(x, y), y) < 0.05  # its own label alone says 1


def test_labels_that_depend_on_two_columns_at_once(rng):
    x = rng.normal(size=(600, 5))
    right = (x[:, 0] > 0) ^ (x[:, 3] > 0)
    wrong = np.arange(600) % 10 == 0
    given = (right ^ wrong).astype(int)
    found = forest.left_out_votes(x, given)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    assert auroc(loss(found, given), wrong) > 0.95
    stretched = np.exp(3 * x)  # columns count by their order alone
    np.testing.assert_array_equal(forest.left_out_votes(stretched, given), found)
    np.testing.assert_array_equal(forest.left_out_votes(x, given), found)
    assert (forest.left_out_votes(x, given, seed=1) != found).any()


def test_a_cut_is_as_good_as_it_is_said_to_be(rng):
    """Gains against Gini's index counted one example at a time."""
    x = rng.integers(0, 4, (40, 3)).astype(np.float32)
    y = rng.integers(0, 3, 40)
    places = forest._Places(rng.permutation(40), np.repeat([0, 1, 2], [5, 20, 15]))
    counts = forest._counts(places, y, 3, 3)
    column, cut, gain = forest._best_cuts(x, y, places, counts, rng)
    for node in range(3):
        inside = places.example[places.node == node]
        below = x[inside, column[node]] <= cut[node]
        parts = [y[inside[below]], y[inside[~below]]]
        after = sum(
            sum(int((part == c).sum()) ** 2 for c in range(3)) / len(part)
            for part in parts
        )
        before = sum(int((y[inside] == c).sum()) ** 2 for c in range(3)) / len(inside)
        assert gain[node] == pytest.approx(after - before)
        assert gain[node] > 0


@pytest.mark.parametrize("size", [2, 3, 9])
def test_few_rows_and_columns_without_news(size):
    y = np.arange(size) % 2
    same = forest.left_out_votes(np.ones((size, 2)), y, classes=3, trees=5)
    assert same.shape == (size, 3)
    assert np.isfinite(same).all()


def test_what_is_no_table_is_refused():
    with pytest.raises(DataError, match="holds nan"):
        forest.left_out_votes(np.full((4, 2), np.nan), np.arange(4) % 2)
