"""Counterexamples: their cost and their flip, re-checked in exact arithmetic."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import witness
from natgeo.certify.rankings import certify_rankings
from natgeo.certify.rounding import prove
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.witness import closed_form, counterexample
from natgeo.errors import DataError
from natgeo.geometry.natural import natural_geometry
from tests import families, oracles

TIGHT = ["random", "condition 1e2", "condition 1e4", "lattice", "huge", "tiny"]
RIDGED = ["random with ridge", "n < k with ridge", "rank deficient with ridge"]


def exact_cost_square(train, ridge, displaced):
    """(1/N) sum_i |phi'_i - phi_i|^2 in the metric Q^-1, exactly."""
    q = oracles.exact_covariance(train, ridge)
    total = Fraction(0)
    for row, moved in zip(
        oracles.fractions(train), oracles.fractions(displaced), strict=True
    ):
        step = [b - a for a, b in zip(row, moved, strict=True)]
        total += oracles.exact_form(q, step, step)
    return total / len(train)


def check_counterexample(train, ridge, statement, found, *, loose=None):
    """The cost is a bound of the exact one, and `flips` is the exact truth."""
    exact = exact_cost_square(train, ridge, found.displaced)
    assert Fraction(found.cost) ** 2 >= exact
    if loose is not None:
        assert Fraction(found.cost) ** 2 <= exact * Fraction(1 + loose)
    q = oracles.exact_covariance(found.displaced, ridge)
    form = oracles.exact_form(
        q,
        oracles.fractions(statement.u.vector),
        oracles.fractions(statement.v.vector),
    )
    assert not found.flips or form < 0
    return form


def proven_pairs(rankings, *, count, least=1e-6, most=0.97):
    """Some (target, above, below, radius) that natgeo proves at a positive radius."""
    n, m = rankings.geometry.train.shape[0], rankings.targets.shape[0]
    out = []
    for t, i, j in itertools.product(range(m), range(n), range(n)):
        radius = rankings.radius(target=t, above=i, below=j)
        if least < radius < most:
            out.append((t, i, j, radius))
    return out[:: max(1, len(out) // count)]


def check_refutations_at_zero_ridge(names=TIGHT, count=6):
    checked = 0
    for name in names:
        case = families.case(name)
        rankings = case.rankings()
        for t, i, j, radius in proven_pairs(rankings, count=count):
            found = rankings.refute(target=t, above=i, below=j)
            statement = rankings.statement(target=t, above=i, below=j)
            assert found.flips, name
            assert radius < found.cost <= radius * (1 + 1e-3)
            assert found.radius == radius
            form = check_counterexample(
                case.train, case.ridge, statement, found, loose=1e-6
            )
            assert form < 0
            assert found.gap_before > 0 > found.gap_after
            checked += 1
    return checked


def check_cost_with_a_wrong_whitener():
    """eta near 0.1: the metric of R is not that of Q, and the cost must know it."""
    case = families.case("random")
    geometry = case.geometry()
    for scale in (0.95, 1.04):
        proof = prove(dataclasses.replace(geometry, whitener=scale * geometry.whitener))
        assert 0.05 < proof.eta < 1
        u = np.float64(case.targets[0])
        for j in range(1, 5):
            v = np.float64(case.train[0]) - np.float64(case.train[j])
            if u @ np.linalg.solve(geometry.covariance, v) < 0:
                v = -v
            statement = Statement("", Combination(u, 0.0), Combination(v, 0.0))
            q = oracles.covariance(case.train, case.ridge)
            start = 0.999 * oracles.radius(oracles.cosine(q, u, v))
            found = counterexample(proof, statement, start)
            check_counterexample(case.train, case.ridge, statement, found)


def test_refutations_at_zero_ridge_lie_just_outside_the_radius():
    assert check_refutations_at_zero_ridge() >= 30


@pytest.mark.slow
def test_many_refutations_at_zero_ridge():
    assert check_refutations_at_zero_ridge(count=60) >= 300


@pytest.mark.parametrize("name", RIDGED)
def test_refutations_with_a_ridge_are_what_they_say(name):
    case = families.case(name)
    rankings = case.rankings()
    for t, i, j, radius in proven_pairs(rankings, count=3):
        found = rankings.refute(target=t, above=i, below=j)
        statement = rankings.statement(target=t, above=i, below=j)
        assert found.cost >= radius
        check_counterexample(case.train, case.ridge, statement, found)


def test_some_refutations_with_a_small_ridge_flip():
    rng = np.random.default_rng(41)
    train = rng.normal(size=(12, 3))
    rankings = certify_rankings(
        natural_geometry(train, 0.02), rng.normal(size=(2, 3)), Wasserstein2(0.01)
    )
    flips = 0
    for t, i, j, radius in proven_pairs(rankings, count=8, most=0.6):
        found = rankings.refute(target=t, above=i, below=j)
        statement = rankings.statement(target=t, above=i, below=j)
        form = check_counterexample(train, 0.02, statement, found)
        flips += found.flips
        assert found.cost >= radius
        assert found.flips == (form < 0)
    assert flips >= 4


def test_the_search_with_a_ridge_takes_few_attacks(monkeypatch):
    calls = []
    honest = witness.Attack.run

    def counted(self, eps):
        calls.append(eps)
        return honest(self, eps)

    monkeypatch.setattr(witness.Attack, "run", counted)
    rng = np.random.default_rng(42)
    rankings = certify_rankings(
        natural_geometry(rng.normal(size=(12, 3)), 0.5),
        rng.normal(size=(1, 3)),
        Wasserstein2(0.01),
    )
    t, i, j, _ = proven_pairs(rankings, count=1)[0]
    rankings.refute(target=t, above=i, below=j)
    assert len(calls) < 150


def test_costs_with_a_wrong_whitener_are_still_bounds():
    check_cost_with_a_wrong_whitener()


def test_the_verdict_is_refuted_just_outside_and_certified_just_inside():
    case = families.case("random")
    for t, i, j, radius in proven_pairs(case.rankings(), count=8):
        arguments = {"target": t, "above": i, "below": j, "attack": True}
        outside = case.rankings(1.001 * radius).verdict(**arguments)
        assert outside.status == "refuted"
        assert outside.reason == ""
        assert outside.counterexample.flips
        assert radius < outside.counterexample.cost <= 1.001 * radius
        check_counterexample(
            case.train,
            case.ridge,
            case.rankings().statement(target=t, above=i, below=j),
            outside.counterexample,
        )
        inside = case.rankings(0.999 * radius).verdict(**arguments)
        assert inside.status == "certified"
        assert inside.counterexample is None


def test_without_an_attack_nothing_is_refuted():
    case = families.case("random")
    t, i, j, radius = proven_pairs(case.rankings(), count=1)[0]
    found = case.rankings(1.1 * radius).verdict(target=t, above=i, below=j)
    assert found.status == "undecided"


def test_a_false_statement_has_nothing_to_refute():
    case = families.case("random")
    rankings = case.rankings()
    t, i, j, _ = proven_pairs(rankings, count=1)[0]
    with pytest.raises(DataError, match="nothing to refute"):
        rankings.refute(target=t, above=j, below=i)
    assert rankings.verdict(target=t, above=j, below=i, attack=True).status == (
        "undecided"
    )


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("eps", [0.5, 1.5])
def test_parallel_sides_cannot_be_refuted(ridge, eps):
    # K = 1: every certificate has cosine one, and no data set swaps the order.
    train = np.array([[1.0], [2.0], [-3.0]])
    rankings = certify_rankings(
        natural_geometry(train, ridge), np.ones((1, 1)), Wasserstein2(eps)
    )
    found = rankings.refute(target=0, above=1, below=0)
    assert not found.flips
    verdict = rankings.verdict(target=0, above=1, below=0, attack=True)
    assert verdict.status == ("certified" if eps < 1 else "undecided")


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6, 1e-9])
def test_nearly_parallel_sides_never_raise(noise):
    rng = np.random.default_rng(43)
    train = rng.normal(size=(20, 3))
    target = (train[0] - train[1] + noise * rng.normal(size=3))[None]
    rankings = certify_rankings(natural_geometry(train, 0.0), target, Wasserstein2(0.5))
    found = rankings.refute(target=0, above=0, below=1)
    statement = rankings.statement(target=0, above=0, below=1)
    check_counterexample(train, 0.0, statement, found)
    assert found.cost >= found.radius


@pytest.mark.parametrize("eps", [1e-6, 0.01, 0.3, 0.9])
def test_the_closed_form_costs_exactly_its_radius(eps):
    rng = np.random.default_rng(44)
    for _ in range(20):
        u, v = rng.normal(size=(2, 5))
        move = closed_form(u, v, eps)
        bend = np.eye(5) + move.left @ move.right.T
        assert np.linalg.norm(bend - np.eye(5)) == pytest.approx(eps, rel=1e-9)
        np.testing.assert_allclose(bend, bend.T, atol=1e-14)
        # It brings the pair to the sign that the theorem says.
        changed = float(u @ np.linalg.solve(bend @ bend, v))
        c = abs(u @ v) / (np.linalg.norm(u) * np.linalg.norm(v))
        if u @ v > 0:
            assert (changed < 0) == (eps > oracles.radius(c))


def test_the_gradient_attack_never_beats_a_certificate():
    for name, share in itertools.product((*TIGHT[:2], *RIDGED), (0.9, 0.9999)):
        case = families.case(name)
        rankings = case.rankings()
        geometry = rankings.geometry
        for t, i, j, radius in proven_pairs(rankings, count=6):
            statement = rankings.statement(target=t, above=i, below=j)
            attack = witness.Attack(
                geometry.natural,
                geometry.whitener @ statement.u.vector,
                geometry.whitener @ statement.v.vector,
            )
            move = attack.run(share * radius)
            bend = np.eye(geometry.width) + move.left @ move.right.T
            maps = geometry.factor @ bend @ geometry.whitener
            displaced = np.float64(case.train) @ maps.T
            form = oracles.inner(
                displaced, case.ridge, statement.u.vector, statement.v.vector
            )
            assert form > 0
            assert attack.value(move) == pytest.approx(form, rel=1e-6)
            cost = math.sqrt(exact_cost_square(case.train, case.ridge, displaced))
            assert cost == pytest.approx(share * radius, rel=1e-6)
