"""The retraining attack: what it hands back is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo import convex
from natgeo.errors import ArgumentError
from tests.convex import cases


def natural_cost(model, moves):
    """By the printed formula: the inverse covariance of what moves, plus the ridge."""
    points, ridge = model.design[:, :-1], model.penalty[:-1]
    if model.classes is None:
        points, ridge = np.column_stack([points, model.labels]), np.append(ridge, 0)
    centred = points - model.weights @ points
    second = (centred * model.weights[:, None]).T @ centred + np.diag(ridge)
    lengths = np.einsum("nj,jk,nk->n", moves, np.linalg.inv(second), moves)
    return np.sqrt(model.weights @ lengths)


@pytest.mark.parametrize("loss", cases.LOSSES)
@pytest.mark.parametrize("upward", [False, True])
def test_the_value_is_reached_by_retraining_from_scratch(loss, upward):
    model = cases.model(loss)
    target, i = convex.training_targets(model, [3]), 8
    found = convex.attack(target, i, 0.05, upward=upward)
    assert found.before == pytest.approx(convex.influence(model, target)[0, i])
    assert (found.value > found.before) == upward
    moved = found.model
    np.testing.assert_array_equal(moved.design[:, -1], 1.0)
    moves = (moved.design - model.design)[:, :-1]
    if loss == "squared":
        moves = np.column_stack([moves, moved.labels - model.labels])
    else:
        np.testing.assert_array_equal(moved.labels, model.labels)
    assert natural_cost(model, moves) == pytest.approx(found.cost, rel=1e-6)
    assert 0.0499 < found.cost <= 0.05
    again = model.refit(
        design=moved.design, labels=moved.labels, start=np.zeros(model.shape)
    )
    # The influence by finite differences of the target's loss in the fixed example.
    values = []
    for step in (-1e-4, 1e-4):
        more = again.refit(
            design=np.vstack([moved.design, model.design[i]]),
            labels=np.append(moved.labels, model.labels[i]),
            weights=np.append(moved.weights, step if step > 0 else 0.0),
        )
        values.append(
            convex.Targets(more, target.rows, target.labels, "loss").values()[0]
        )
    slope = (values[1] - values[0]) / 1e-4
    assert slope == pytest.approx(found.value, rel=2e-2, abs=1e-4)


def test_it_goes_beyond_its_own_first_step_and_random_starts_help_to_check():
    model = cases.model("logistic", ridge=0.02)
    target = convex.training_targets(model, [3])
    once = convex.attack(target, 8, 0.2, steps=1, starts=1)
    full = convex.attack(target, 8, 0.2, steps=25, starts=3, seed=4)
    assert full.value >= once.value
    assert full.value > full.before
    same = convex.attack(target, 8, 0.2, steps=25, starts=3, seed=4)
    assert same.value == full.value


def test_a_pair_is_attacked_as_a_difference():
    model = cases.model("squared")
    target = convex.training_targets(model, [3])
    influence = convex.influence(model, target)[0]
    found = convex.attack(target, 8, 0.05, rival=20, upward=False)
    assert found.before == pytest.approx(influence[8] - influence[20])
    alone = convex.attack(target, 8, 0.05, upward=False).value
    other = convex.attack(target, 20, 0.05).value
    # The two worst cases are different data sets.
    assert alone - other < found.value < found.before


def test_nothing_moves_at_radius_zero_and_bad_arguments_are_named():
    model = cases.model("squared")
    target = convex.training_targets(model, [3])
    still = convex.attack(target, 8, 0.0)
    assert still.value == pytest.approx(still.before, rel=1e-9)
    assert still.cost == 0
    for options, words in (
        ({"radius": -1.0}, "radius"),
        ({"radius": 0.1, "rival": 60}, "rival"),
        ({"radius": 0.1, "index": 1}, "index"),
        ({"radius": 0.1, "starts": 0}, "starts"),
    ):
        with pytest.raises(ArgumentError, match=words):
            convex.attack(target, 8, **options)
