"""Removal, growth and choice, on models whose truth is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

import natgeo as ng
from natgeo import evaluate
from natgeo.errors import ArgumentError

N, M, S = 30, 8, 40


@pytest.fixture(scope="module")
def world():
    """Outputs that are sums of effects: what scores say of them is exact."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(M, N))
    weights = evaluate.half_subsets(N, S, seed=0)
    return effects, (weights @ effects.T, weights)


def additive(effects):
    def train(weights):
        return np.asarray(weights, np.float64) @ effects.T, weights

    return train


def test_removal_loses_what_the_scores_say(world):
    effects, _ = world
    got = evaluate.removal_curve(
        effects, additive(effects), counts=[1, 5], targets=[2, 0, 7], draws=2, seed=4
    )
    ordered = -np.sort(-effects[[2, 0, 7]], axis=1)
    np.testing.assert_allclose(got.drops[:, 0], ordered[:, 0])
    np.testing.assert_allclose(got.drops[:, 1], ordered[:, :5].sum(axis=1))
    rng = np.random.default_rng(4)
    for place, size in enumerate([1, 5]):
        lots = [rng.permutation(N)[:size] for _ in range(2)]
        want = np.mean([effects[[2, 0, 7]][:, lot].sum(axis=1) for lot in lots], axis=0)
        np.testing.assert_allclose(got.random[:, place], want)
    gap = (got.drops - got.random).mean(axis=0)
    assert (got.low <= gap).all()
    assert (gap <= got.high).all()
    assert (got.low > 0).all()
    # Scores that know nothing remove like chance.
    random = np.random.default_rng(5).normal(size=effects.shape)
    lost = evaluate.removal_curve(
        random, additive(effects), counts=[5], targets=range(M), draws=10
    )
    assert lost.low[0] < 0 < lost.high[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": []}, "at least one of each"),
        ({"counts": [0]}, "counts of at least 1"),
        ({"counts": [N]}, "out of range"),
        ({"targets": [M]}, "out of range"),
        ({"draws": 0}, "draws=0"),
        ({"level": 2}, "level=2"),
    ],
)
def test_bad_removals_are_refused(world, change, words):
    arguments = {"counts": [1], "targets": [0]} | change
    with pytest.raises(ArgumentError, match=words):
        evaluate.removal_curve(world[0], additive(world[0]), **arguments)


@pytest.fixture(scope="module")
def members():
    """Noisy checkpoints of one linear world, and the truth of their mean."""
    rng = np.random.default_rng(1)
    train, targets = rng.normal(size=(N, 3)), rng.normal(size=(M, 3))
    made = [
        tuple(part + 0.7 * rng.normal(size=part.shape) for part in (train, targets))
        for _ in range(6)
    ]
    effects = targets @ np.linalg.inv(train.T @ train) @ train.T
    weights = evaluate.half_subsets(N, S, seed=0)
    return made, (weights @ effects.T, weights)


def test_an_ensemble_grows_by_its_members(members):
    made, truth = members
    threat = ng.threats.Wasserstein2(0.05)
    rows = evaluate.ensemble_growth(
        made, truth, counts=[1, 6], ridge=0.1, threat=threat, pairs=200, resamples=50
    )
    assert [row.count for row in rows] == [1, 6]
    for row in rows:
        part = ng.ensemble(made[: row.count], ridge=0.1)
        want = evaluate.lds(part.scores, truth, resamples=50)
        assert (row.lds.value, row.lds.low) == (want.value, want.low)
        found = ng.certify_ensemble(part, threat).estimate(200, seed=0)
        assert row.certified == pytest.approx(found.fraction.mean())
        assert 0 < row.certified < 1
    assert rows[1].lds.minus(rows[0].lds).low > 0
    every = evaluate.ensemble_growth(made, truth, ridge=0.1, resamples=2)
    assert [row.count for row in every] == [1, 2, 3, 4, 5, 6]
    assert every[0].certified is None
    with pytest.raises(ArgumentError, match="counts=7 is more than 6"):
        evaluate.ensemble_growth(made, truth, counts=[7])


def test_the_best_candidate_comes_first_with_what_the_others_lack(world):
    effects, truth = world
    rng = np.random.default_rng(2)
    found = evaluate.choose(
        {
            "noisy": lambda: effects + rng.normal(size=effects.shape),
            "true": effects,
            "random": rng.normal(size=effects.shape),
        },
        truth,
        resamples=200,
    )
    assert [choice.name for choice in found] == ["true", "noisy", "random"]
    assert found[0].lds.value == pytest.approx(1)
    assert found[0].behind.value == 0
    assert found[1].behind.low > 0
    assert found[2].behind.value == pytest.approx(1 - found[2].lds.value)
    with pytest.raises(ArgumentError, match="candidates is empty"):
        evaluate.choose({}, truth)


def test_the_right_ridge_is_found(members):
    """Targets lie along strong directions; a small ridge lets the weak ones in."""
    rng = np.random.default_rng(3)
    scales = np.array([3, 1, 0.4] + [0.05] * 12)
    train = rng.normal(size=(N, 15)) * scales
    targets = rng.normal(size=(M, 15)) * np.array([1.0] * 3 + [0.5] * 12)
    q = train[:, :3].T @ train[:, :3] / N
    effects = targets[:, :3] @ np.linalg.inv(q) @ train[:, :3].T
    weights = evaluate.half_subsets(N, S, seed=0)
    candidates = evaluate.ridges(
        train, [0.0, 1e-2, 1e3], lambda geometry: ng.scores(geometry, targets)
    )
    found = evaluate.choose(candidates, (weights @ effects.T, weights), resamples=50)
    assert found[0].name == 1e-2
    trace = np.square(train).sum() / N
    want = ng.scores(ng.natural_geometry(train, 1e-2 * trace), targets)
    np.testing.assert_allclose(candidates[1e-2](), want, rtol=1e-9)
    with pytest.raises(ArgumentError, match="shares"):
        evaluate.ridges(train, [-1], lambda geometry: None)


def test_a_width_follows_from_the_effective_dimension():
    geometry = ng.natural_geometry(np.eye(7) * np.sqrt(7), ridge=1.0)
    assert geometry.effective_dimension == pytest.approx(3.5)
    assert evaluate.suggested_width(geometry) == 64  # 52.5
    assert evaluate.suggested_width(geometry, factor=16 / 3.5) == 16
    with pytest.raises(ArgumentError, match="factor=0"):
        evaluate.suggested_width(geometry, factor=0)
