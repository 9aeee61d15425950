"""Certified orders of influence against retraining attacks on the pair itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from natgeo import convex
from natgeo.errors import ArgumentError
from tests.convex import cases


def fitted():
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return convex.fit(x, y / 100, loss="squared", ridge=0.01)


@pytest.fixture(scope="module")
def ridge():
    return fitted()


def fragile_pairs(ranking, count):
    """Certified pairs whose influences are closest, as places."""
    values, found = ranking.intervals.influence, []
    order = np.argsort(-values)
    near = [
        (i, j)
        for gap in (1, 2, 3, 5, 8, 13, 21)
        for i, j in zip(order[:-gap], order[gap:], strict=True)
    ]
    for i, j in sorted(near, key=lambda pair: values[pair[0]] - values[pair[1]]):
        if ranking.verdict(above=int(i), below=int(j)).status == "certified":
            found.append((int(i), int(j)))
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("output", ["loss", "prediction"])
@pytest.mark.parametrize("eps", [0.003, 0.05])
def test_no_attack_flips_a_certified_pair(ridge, output, eps):
    target = convex.training_targets(ridge, [17], output=output)
    ranking = convex.certify_influence_ranking(target, eps, train=range(60))
    pairs = fragile_pairs(ranking, 4)
    assert pairs
    for i, j in pairs:
        found = convex.attack(target, i, eps, rival=j, upward=False)
        assert found.before > 0
        assert found.value > 0


@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_no_attack_flips_a_certified_pair_of_the_other_losses(loss):
    model = cases.model(loss, ridge=1.0)
    target = convex.training_targets(model, [4])
    ranking = convex.certify_influence_ranking(target, 0.006, train=range(25))
    assert 0.3 < ranking.fraction < 1
    for i, j in fragile_pairs(ranking, 2):
        assert convex.attack(target, i, 0.006, rival=j, upward=False).value > 0


def test_differences_certify_more_than_disjoint_intervals(ridge):
    target = convex.training_targets(ridge, [5])
    ranking = convex.certify_influence_ranking(target, 0.01)
    low, high = ranking.intervals.low, ranking.intervals.high
    disjoint = (low[:, None] > high[None]).sum() / ranking.pairs
    assert ranking.pairs == 442 * 441 // 2
    assert ranking.fraction > disjoint + 0.02
    curve = [
        convex.certify_influence_ranking(target, eps).fraction
        for eps in (0.0001, 0.001, 0.1, 1.0)
    ]
    assert curve[0] > 0.99
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == 0


def test_ranks_follow_from_the_pairs(ridge):
    target = convex.training_targets(ridge, [5])
    ranking = convex.certify_influence_ranking(target, 0.01, train=range(40))
    least, most = ranking.ranks
    rank = np.argsort(np.argsort(-ranking.intervals.influence)) + 1
    assert (least <= rank).all()
    assert (rank <= most).all()
    statuses = np.array(
        [
            [ranking.verdict(above=i, below=j).status for j in range(40)]
            for i in range(40)
        ]
    )
    certified = statuses == "certified"
    np.testing.assert_array_equal(least, 1 + certified.sum(axis=0))
    np.testing.assert_array_equal(most, 40 - certified.sum(axis=1))
    assert ranking.fraction == certified.sum() / (40 * 39 / 2)


def test_duplicates_are_ties_and_a_wrong_order_is_refuted():
    x, y = cases.data("squared")
    x, y = np.vstack([x, x[:1]]), np.append(y, y[0])
    model = convex.fit(x, y, loss="squared", ridge=0.1)
    ranking = convex.certify_influence_ranking(
        convex.training_targets(model, [3]), 0.001
    )
    assert ranking.verdict(above=0, below=60).status == "undecided"
    assert ranking.verdict(above=60, below=0).status == "undecided"
    tie = ranking.verdict(above=2, below=2)
    assert (tie.status, tie.reason) == ("undecided", "a tie")
    order = np.argsort(-ranking.intervals.influence)
    wrong = ranking.verdict(
        above=int(order[-1]), below=int(order[0]), attacked=True, steps=1
    )
    assert wrong.status == "refuted"
    assert wrong.attack.value < 0
    with pytest.raises(TypeError, match="three values"):
        bool(wrong)
    with pytest.raises(ArgumentError, match="above"):
        ranking.verdict(above=61, below=0)
    assert "keeps the order" in ranking.guarantee


def test_an_uncertain_residual_of_the_target_certifies_nothing(ridge):
    residuals = np.abs(ridge.labels - ridge.predictors[:, 0])
    target = convex.training_targets(ridge, [int(np.argmin(residuals))])
    ranking = convex.certify_influence_ranking(target, 0.01)
    assert ranking.fraction < 0.01
