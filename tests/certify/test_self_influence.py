"""The certified order by self-influence: exact rationals, brute force, an attack."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from natgeo.certify import self_influence as module
from natgeo.certify.rounding import prove
from natgeo.certify.self_influence import certify_self_influence
from natgeo.certify.statements import self_influence_pair
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError
from natgeo.geometry import natural
from natgeo.geometry.natural import natural_geometry, self_influence
from natgeo.store.writer import DiskWriter
from tests import attacks, families, oracles

EPS = 0.02


def exact_order(case, eps):
    """Pairs (i, j), i above j, that the closed form proves, in exact rationals."""
    matrix = oracles.exact_covariance(case.train, case.ridge)
    rows = [oracles.fractions(row) for row in case.train]
    solved = [oracles.exact_solve(matrix, row) for row in rows]

    def both(i, j):
        return (
            combined(rows[i], rows[j], -1),
            combined(solved[i], solved[j], -1),
            combined(rows[i], rows[j], 1),
            combined(solved[i], solved[j], 1),
        )

    found = set()
    for i, j in permutations(range(len(rows)), 2):
        u, u_solved, v, v_solved = both(i, j)
        form = oracles.dot(u, v_solved)
        size = oracles.dot(u, u_solved) * oracles.dot(v, v_solved)
        if form > 0 and oracles.holds_at(eps, form * form / size):
            found.add((i, j))
    return found


def combined(first, second, sign):
    return [a + sign * b for a, b in zip(first, second, strict=True)]


def check_counts(case, eps, *, missed):
    """Never more than is true, and at most `missed` pairs less."""
    exact = exact_order(case, eps)
    order = certify_self_influence(case.geometry(), eps)
    n = len(case.train)
    below = np.array([sum(i == k for i, _ in exact) for k in range(n)])
    above = np.array([sum(j == k for _, j in exact) for k in range(n)])
    assert (order.below <= below).all()
    assert (order.above <= above).all()
    assert order.below.sum() == order.above.sum() >= len(exact) - missed
    assert order.fraction == order.below.sum() / (n * (n - 1) / 2)
    return order, exact


def check_against_exact_rationals():
    for name in ("random", "random with ridge", "condition 1e2", "duplicates"):
        for eps in (0.0, EPS, 0.3):
            check_counts(families.case(name), eps, missed=0)


def check_hostile_families():
    for case in families.cases(1):
        check_counts(case, EPS, missed=10**9)


def check_rounding():
    """The bounds of |R phi|^2 against exact rationals, where rounding is large."""
    rng = np.random.default_rng(0)
    a, b = np.pi, np.e
    # Orthogonal to the first row of R but for a hair: the product cancels.
    train = np.outer(rng.uniform(1, 2, 40), [b, -a]) + 1e-10 * rng.normal(size=(40, 2))
    whitener = np.array([[a, b], [0, 1e-12]])
    geometry = replace(natural_geometry(train, 0.1), whitener=whitener)
    proof, values = prove(geometry), self_influence(geometry)
    ranked = module._ranked(proof, values, 0.1)
    matrix = oracles.fractions(whitener)
    for place, i in enumerate(ranked.order):
        row = oracles.product(matrix, oracles.fractions(train[i]))
        exact = oracles.dot(row, row)
        assert Fraction(ranked.low[place]) <= exact <= Fraction(ranked.high[place])


test_rounding = check_rounding
test_against_exact_rationals = check_against_exact_rationals


@pytest.mark.slow
def test_hostile_families():
    check_hostile_families()


def test_ranks_and_members_follow_from_the_exact_pairs():
    case = families.case("random")
    order, exact = check_counts(case, 0.1, missed=0)
    n = len(case.train)
    np.testing.assert_array_equal(order.ranks(), oracles.rank_bounds(exact, n))
    for k in (1, n // 5, n // 2):
        inside, outside = oracles.top_k(exact, n, k)[:2]
        found = order.top(k)
        np.testing.assert_array_equal(found.inside, sorted(inside))
        np.testing.assert_array_equal(found.outside, sorted(outside))
        assert len(found.inside) + len(found.outside) + len(found.undecided) == n


def test_it_agrees_with_single_verdicts(rng):
    """Another route to the same claim: subtracted first, then whitened."""
    geometry = natural_geometry(rng.standard_normal((25, 5)), 0.0)
    proof, eps = prove(geometry), 0.15
    order = certify_self_influence(geometry, eps)
    certified = np.zeros((25, 25), bool)
    for i, j in permutations(range(25), 2):
        statement = self_influence_pair(geometry, above=i, below=j)
        verdict = decide(proof, statement, Wasserstein2(eps))
        certified[i, j] = verdict.status == "certified"
    np.testing.assert_array_equal(order.below, certified.sum(axis=1))
    np.testing.assert_array_equal(order.above, certified.sum(axis=0))
    assert 0 < order.fraction < 1


def test_products_prove_more_than_norms(rng):
    """Parallel examples are settled by their product, at a radius norms cannot."""
    features = rng.standard_normal((40, 4))
    features[1] = 0.95 * features[0]
    order = certify_self_influence(natural_geometry(features, 0.0), 0.2)
    value, rival = order.values[:2]
    kappa = Wasserstein2(0.2).kappa()
    assert value - rival < kappa * (value + rival)
    assert order.below[0] >= 1 + order.below[1]


def test_an_attack_does_not_break_what_is_certified():
    rng = np.random.default_rng(3)
    train = rng.normal(size=(15, 4)) @ rng.normal(size=(4, 4))
    for ridge in (0.0, 0.3):
        geometry = natural_geometry(train, ridge)
        order = certify_self_influence(geometry, 0.1)
        ranks = order.ranks()
        pairs = [
            (i, j)
            for i, j in permutations(range(15), 2)
            if ranks[i, 1] < ranks[j, 0]  # certified by their intervals alone
        ]
        assert len(pairs) > 10
        left = np.array([train[i] - train[j] for i, j in pairs])
        right = np.array([train[i] + train[j] for i, j in pairs])
        problem = attacks.Problem(
            train, ridge, left, right, np.full(len(pairs), 0.1), seed=0
        )
        assert (attacks.gradient_attack(problem, 1.0, steps=60) > 0).all()
        assert (attacks.random_displacements(problem, 1.0, tries=12) > 0).all()
        found, costs = attacks.witness(problem, 1.0)
        assert (costs <= 0.1 * (1 + 1e-9)).all()
        assert (found > 0).all()
        # The attacks are strong: at three times the radius many pairs are broken.
        assert (attacks.gradient_attack(problem, 3.0, steps=60) < 0).sum() > 5


def test_tiles_and_stores_give_the_same_counts(rng, tmp_path, monkeypatch):
    features = rng.standard_normal((700, 6)).astype(np.float32)
    whole = certify_self_influence(natural_geometry(features, 0.1), EPS)
    with DiskWriter(tmp_path / "s", {}, shard_rows=128) as writer:
        writer.append(features)
        store = writer.close()
    monkeypatch.setattr(natural, "KEPT_BYTES", 0)
    monkeypatch.setattr("natgeo.certify.self_influence.KEPT_BYTES", 0)
    monkeypatch.setattr("natgeo.certify.self_influence._COLUMNS", 200)
    monkeypatch.setattr("natgeo.certify.self_influence._ROWS", 64)
    geometry = natural_geometry(store, 0.1)
    found = certify_self_influence(geometry, EPS)
    assert "natural" not in vars(geometry)
    np.testing.assert_array_equal(found.below, whole.below)
    np.testing.assert_array_equal(found.above, whole.above)


def test_nothing_is_certified_where_nothing_can_be(rng):
    features = rng.standard_normal((10, 3))
    order = certify_self_influence(natural_geometry(features, 0.1), 1.0)
    assert order.fraction == 0
    assert order.ranks().tolist() == [[1, 10]] * 10
    same = certify_self_influence(natural_geometry(np.ones((4, 1)), 0.0), 0.01)
    assert same.fraction == 0
    with pytest.raises(ArgumentError, match="eps"):
        certify_self_influence(natural_geometry(features, 0.1), -1.0)
