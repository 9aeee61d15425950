"""Greedy attacks under every data threat: they find flips and never beat a proof."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import attacks
from natgeo.certify.rounding import prove
from natgeo.certify.statements import pair
from natgeo.certify.threats import Add, Delete, Replace, Wasserstein1, Wasserstein2
from natgeo.certify.verdict import decide
from tests import oracles

N, K = 24, 3
SUPPORT = 2.5


def threats(geometry):
    longest = 1.01 * np.linalg.norm(geometry.natural, axis=1).max()
    more = 3 if geometry.ridge else 1  # a ridge makes everything sturdier
    return [
        Delete(1 + more),
        Add(2 * more, SUPPORT),
        Add(30, 1.0),
        Replace(1 + more, SUPPORT),
        Wasserstein1(0.03 * more, longest),
    ]


NAMES = ["delete", "add", "add many", "replace", "order 1"]


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["no ridge", "ridge"])
def problem(request):
    rng = np.random.default_rng(11)
    train, target = rng.standard_normal((N, K)), rng.standard_normal((1, K))
    geometry = ng.natural_geometry(train, ridge=request.param)
    return train, target, geometry, prove(geometry)


def check_membership(train, geometry, threat, found):
    """The perturbed set is inside the threat, by the printed definitions."""
    root = np.linalg.cholesky(oracles.covariance(train, geometry.ridge))
    natural = np.linalg.solve(root, found.rows.T).T
    norms = np.linalg.norm(natural, axis=1)
    step = np.linalg.solve(root, (found.rows[:N] - train).T).T
    moved = np.flatnonzero(np.abs(step).max(axis=1) > 1e-12)
    assert set(moved) <= set(found.changed.tolist())
    if isinstance(threat, Wasserstein1):
        assert np.linalg.norm(step, axis=1).mean() <= threat.eps
        assert norms.max() <= threat.support
    elif isinstance(threat, Add):
        assert len(moved) == 0
        assert (norms[N:] > 0).sum() <= threat.points
        assert norms[N:].max() <= threat.support
    else:
        assert len(moved) <= threat.points
        if isinstance(threat, Delete):
            assert (found.rows[moved] == 0).all()
        elif len(moved):
            assert norms[moved].max() <= threat.support


@pytest.mark.parametrize("number", range(5), ids=NAMES)
def test_attacks_flip_only_what_is_not_certified(problem, number):
    train, target, geometry, proof = problem
    threat = threats(geometry)[number]
    flipped = certified = 0
    for i, j in itertools.permutations(range(0, N, 3), 2):
        statement = pair(geometry, target, target=0, above=i, below=j)
        verdict = decide(proof, statement, threat)
        if not verdict.cosine > 0:
            continue
        found = attacks.attack(proof, statement, threat)
        assert found.inside
        check_membership(train, geometry, threat, found)
        second = found.rows.T @ found.rows / N + geometry.ridge * np.eye(K)
        after = target[0] @ np.linalg.solve(second, train[i] - train[j])
        assert found.gap_after == pytest.approx(after, rel=1e-6, abs=1e-9)
        assert found.gap_after <= found.gap_before * (1 + 1e-9)
        if found.flips:
            assert after < 0
            flipped += 1
        if verdict.status == "certified":
            certified += 1
            assert not found.flips
    assert flipped > 0
    assert certified > 0


def test_a_verdict_can_be_refuted_under_every_threat(problem):
    _, target, geometry, _ = problem
    for threat in threats(geometry):
        order = ng.certify_rankings(geometry, target, threat)
        statuses = {
            order.verdict(target=0, above=i, below=j, attack=True).status
            for i, j in itertools.permutations(range(0, N, 3), 2)
        }
        assert {"certified", "refuted"} <= statuses


def test_one_greedy_deletion_is_the_best_of_all(problem):
    train, target, geometry, proof = problem
    useful = 0
    for i, j in itertools.combinations(range(0, N, 3), 2):
        statement = pair(geometry, target, target=0, above=i, below=j)
        if not decide(proof, statement, Delete(1)).cosine > 0:
            continue
        q = train.T @ train / N + geometry.ridge * np.eye(K)
        values = [target[0] @ np.linalg.solve(q, train[i] - train[j])]
        for gone in range(N):
            kept = np.delete(train, gone, axis=0)
            q = kept.T @ kept / N + geometry.ridge * np.eye(K)
            values.append(target[0] @ np.linalg.solve(q, train[i] - train[j]))
        best = attacks.attack(proof, statement, Delete(1))
        assert best.gap_after == pytest.approx(min(values), rel=1e-7, abs=1e-9)
        useful += min(values) < 0.999 * values[0]
    assert useful > 5


def test_what_would_leave_no_covariance_is_not_deleted():
    """The only example along one axis has all the leverage there."""
    train = np.concatenate([np.eye(2)[[1]], np.eye(2)[[0] * 5] * [[2.0, 0.0]]])
    geometry = ng.natural_geometry(train, ridge=0.0)
    order = ng.certify_rankings(geometry, np.array([[1.0, 0.2]]), Delete(4))
    verdict = order.verdict(target=0, above=1, below=0, attack=True)
    assert verdict.status in ("undecided", "refuted")
    order = ng.certify_rankings(geometry, np.array([[1.0, 0.2]]), Replace(6, 3.0))
    assert order.verdict(target=0, above=1, below=0, attack=True).status


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(
    "threat",
    [
        Add(1, 1e200),
        Add(3, 1e9),
        Replace(1, 1e200),
        Replace(1, 1e9),
        Wasserstein1(0.4, 1e200),
    ],
)
def test_an_attack_beyond_float64_leaves_the_pair_undecided(threat, ridge):
    rng = np.random.default_rng(0)
    train, target = rng.normal(size=(40, 5)), rng.normal(size=(1, 5))
    order = ng.certify_rankings(ng.natural_geometry(train, ridge), target, threat)
    scores = train @ np.linalg.solve(oracles.covariance(train, ridge), target[0])
    best = np.argsort(-scores)
    name = {"target": 0, "above": int(best[0]), "below": int(best[9])}
    assert order.verdict(**name, attack=True).status in ("undecided", "refuted")


def test_zeros_fill_up_without_rounding():
    rows, ridge = attacks._filled(np.ones((3, 2)), np.ones((4, 2)), 0.3)
    assert rows.shape == (12, 2)
    assert ridge == 0.3 / 4
    rows, ridge = attacks._filled(np.ones((3, 2)), np.ones((0, 2)), 0.3)
    assert (len(rows), ridge) == (3, 0.3)


def test_other_threats_are_left_to_other_attacks(problem):
    _, target, geometry, proof = problem
    statement = pair(geometry, target, target=0, above=0, below=1)
    assert attacks.attack(proof, statement, Wasserstein2(0.1)) is None
