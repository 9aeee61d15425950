"""Curves, fractions, ranks and top-k sets against brute force over all pairs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from natgeo.certify import every_pair
from natgeo.certify.rankings import certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles

RADII = [0.0, 0.003, 0.03, 0.1, 0.25, 0.5, 0.8, 0.97]

# (N, K, ridge): more, as many and fewer examples than coordinates.
SHAPES = [
    (1, 1, 0.5),
    (1, 4, 0.5),
    (2, 1, 0.0),
    (2, 2, 0.0),
    (2, 5, 0.1),
    (5, 1, 0.0),
    (6, 6, 0.0),
    (8, 3, 0.0),
    (12, 2, 0.3),
    (4, 7, 0.2),
    (30, 5, 0.0),
    (60, 4, 0.01),
]


def problem(n, k, ridge, *, weighted, seed=0):
    """A random case with an exact duplicate and a near duplicate where they fit."""
    rng = np.random.default_rng(seed + 100 * n + k)
    train = rng.normal(size=(n, k))
    if n > k + 2:
        train[-1] = train[0]
        train[-2] = train[1] * (1 + 2.0**-30)
    weights = rng.uniform(-0.2, 1, size=n) if weighted else None
    if weighted and n > k + 2:
        weights[-1] = weights[0]
        weights[2] = 0.0
    targets = rng.normal(size=(3, k))
    return families.Case(f"{n}x{k}", train, targets, weights, ridge, True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k", "ridge"), SHAPES)
def test_everything_equals_brute_force(n, k, ridge, weighted):
    case = problem(n, k, ridge, weighted=weighted)
    exact = oracles.Exact(case.train, ridge, case.weights)
    curve = case.rankings().curve(RADII)
    assert curve.shape == (3, len(RADII))
    for place, eps in enumerate(RADII):
        rankings = case.rankings(eps)
        assert rankings.pairs == n * (n - 1) // 2
        fraction = rankings.fraction
        np.testing.assert_array_equal(fraction, curve[:, place])
        for t, target in enumerate(case.targets):
            order = oracles.certified_pairs(exact.pairs(target), eps)
            ranks = rankings.ranks(t)
            if ridge:  # the bound under a ridge adds some, the sweep by a little less
                least = order | ridge_pairs(exact, target, 1.15 * eps)
                most = order | ridge_pairs(exact, target, eps)
                assert len(least) <= round(fraction[t] * rankings.pairs) <= len(most)
                wide, narrow = (oracles.rank_bounds(some, n) for some in (least, most))
                assert (wide[:, 0] <= ranks[:, 0]).all()
                assert (ranks[:, 0] <= narrow[:, 0]).all()
                assert (narrow[:, 1] <= ranks[:, 1]).all()
                assert (ranks[:, 1] <= wide[:, 1]).all()
                if least != most:
                    continue
                order = most
            assert round(fraction[t] * rankings.pairs) == len(order)
            np.testing.assert_array_equal(ranks, oracles.rank_bounds(order, n))
            for size in {1, 2, n // 2, n - 1, n, n + 3} - {0}:
                got = rankings.top_k(t, size)
                inside, outside, rest = oracles.top_k(order, n, size)
                assert got.inside.tolist() == inside
                assert got.outside.tolist() == outside
                assert got.undecided.tolist() == rest


def ridge_pairs(exact, target, eps):
    """(winner, loser) of every pair that the bound under a ridge proves."""
    return {
        (pair.first, pair.second) if pair.sign > 0 else (pair.second, pair.first)
        for pair in exact.pairs(target)
        if pair.sign
        and oracles.holds_with_ridge(eps, pair.square, exact.share(target, pair))
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_verdicts_and_sweep_count_the_same_pairs(weighted):
    case = problem(12, 3, 0.0, weighted=weighted)
    rankings = case.rankings(0.05)
    for t in range(3):
        certified = sum(
            rankings.verdict(target=t, above=i, below=j).status == "certified"
            for i, j in itertools.permutations(range(12), 2)
        )
        assert rankings.fraction[t] * rankings.pairs == pytest.approx(certified)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k"), [(256, 3), (257, 6), (600, 5)])
def test_several_tiles_equal_a_float64_oracle(n, k, weighted):
    rng = np.random.default_rng(n + k)
    train = rng.normal(size=(n, k)) * np.geomspace(1, 30, k)
    weights = rng.uniform(0.1, 1, size=n) if weighted else None
    # Across tiles: exact duplicates, near duplicates, one-ulp neighbours.
    half = n // 2
    train[half : half + 10] = train[:10]
    train[half + 10 : half + 20] = train[10:20] + 1e-9 * rng.normal(size=(10, k))
    # A product of two long mantissas is rounded; one ulp apart is then too close.
    train[half + 20 : half + 30] = (
        train[20:30] * (1 - 1e-8) if weighted else np.nextafter(train[20:30], np.inf)
    )
    room = 1e-5 if weighted else 1e-8
    if weighted:
        weights[half : half + 30] = weights[:30]
    targets = rng.normal(size=(2, k)) * np.geomspace(1, 30, k)
    case = families.Case("tiles", train, targets, weights, 0.0, True)
    radii = [0.0, 0.01, 0.1, 0.4]
    got = case.rankings().curve(radii) * (n * (n - 1) // 2)
    for t, target in enumerate(targets):
        c = oracles.cosines(train, target, 0.0, weights)
        upper = np.abs(c[np.triu_indices(n, 1)])
        for place, eps in enumerate(radii):
            kappa = oracles.kappa(eps)
            most = np.count_nonzero(upper > kappa * (1 - 1e-6))
            least = np.count_nonzero(upper > kappa * (1 + 3e-6) + 1e-8)
            assert least <= round(got[t, place]) <= most
            if eps == 0.0:
                assert most - least <= 2
        for eps in (0.0, 0.1):
            certain = c > oracles.kappa(eps) * (1 + 3e-6) + room
            possible = c > oracles.kappa(eps) * (1 - 1e-6)
            ranks = case.rankings(eps).ranks(t)
            for below, bound in (
                (certain, np.less_equal),
                (possible, np.greater_equal),
            ):
                # More certified pairs make the interval narrower.
                assert bound(1 + below.sum(axis=0), ranks[:, 0]).all()
                assert bound(ranks[:, 1], n - below.sum(axis=1)).all()


@pytest.mark.slow
def test_a_thousand_rows_equal_the_exact_counts():
    rng = np.random.default_rng(3)
    train = np.float32(rng.normal(size=(700, 3)))
    targets = np.float32(rng.normal(size=(1, 3)))
    case = families.Case("large", train, targets, None, 0.0, True)
    exact = oracles.Exact(train, 0.0).pairs(targets[0])
    for eps in (0.0, 0.05, 0.3):
        order = oracles.certified_pairs(exact, eps)
        rankings = case.rankings(eps)
        got = rankings.fraction[0] * rankings.pairs
        assert len(order) - 3 <= round(got) <= len(order)
        above = np.bincount([loser for _, loser in order], minlength=700)
        below = np.bincount([winner for winner, _ in order], minlength=700)
        ranks = rankings.ranks(0)
        assert (ranks[:, 0] <= 1 + above).all()
        assert (ranks[:, 1] >= 700 - below).all()
        assert np.abs(ranks[:, 0] - 1 - above).sum() <= 3


def test_a_threat_of_ones_own_may_be_a_plain_dataclass():
    @dataclasses.dataclass
    class Mine:
        def kappa(self, proof):
            return Wasserstein2(0.1).kappa(proof)

        def describe(self):
            return "mine"

    rng = np.random.default_rng(0)
    geometry = natural_geometry(rng.normal(size=(12, 3)), 0.0)
    targets = rng.normal(size=(2, 3))
    mine = certify_rankings(geometry, targets, Mine())
    plain = certify_rankings(geometry, targets, Wasserstein2(0.1))
    np.testing.assert_array_equal(mine.fraction, plain.fraction)
    np.testing.assert_array_equal(mine.curve([0.1]), plain.curve([0.1]))


def test_a_sample_of_targets_that_overflow_is_undecided_without_a_warning():
    rng = np.random.default_rng(0)
    geometry = natural_geometry(1e-10 * rng.normal(size=(12, 3)), 0.0)
    order = certify_rankings(
        geometry, 1e305 * rng.normal(size=(2, 3)), Wasserstein2(0.1)
    )
    assert (order.estimate(50).fraction == 0).all()


def test_ties_are_never_broken():
    train = np.ones((40, 1)) * np.repeat([1.0, 2.0, 3.0, 4.0], 10)[:, None]
    rankings = certify_rankings(
        natural_geometry(train, 0.0), np.ones((1, 1)), Wasserstein2(0.0)
    )
    assert rankings.fraction[0] * rankings.pairs == 600
    ranks = rankings.ranks(0)
    np.testing.assert_array_equal(ranks[:10], [[31, 40]] * 10)
    np.testing.assert_array_equal(ranks[30:], [[1, 10]] * 10)
    top = rankings.top_k(0, 15)
    assert top.inside.tolist() == list(range(30, 40))
    assert top.outside.tolist() == list(range(20))
    assert top.undecided.tolist() == list(range(20, 30))


def test_all_examples_equal_is_all_undecided():
    rankings = certify_rankings(
        natural_geometry(np.full((300, 2), 0.3), 0.1),
        np.ones((2, 2)),
        Wasserstein2(0.0),
    )
    np.testing.assert_array_equal(rankings.fraction, 0)
    np.testing.assert_array_equal(rankings.ranks(1), [[1, 300]] * 300)


def test_the_curve_falls_with_the_radius():
    rankings = families.case("random").rankings()
    curve = rankings.curve(np.linspace(0, 0.999, 50))
    assert (np.diff(curve, axis=1) <= 0).all()
    assert (curve[:, 0] > 0.9).all()
    assert (rankings.curve([1.0, 2.0]) == 0).all()


def test_many_targets_in_groups_equal_one_at_a_time(monkeypatch):
    case = problem(20, 3, 0.0, weighted=True)
    whole = case.rankings(0.05).curve(RADII)
    monkeypatch.setattr(every_pair, "_TARGETS_BYTES", 1)
    np.testing.assert_array_equal(case.rankings(0.05).curve(RADII), whole)


def test_rankings_are_the_same_with_rows_in_another_order():
    case = problem(40, 4, 0.0, weighted=False)
    order = np.random.default_rng(5).permutation(40)
    moved = families.Case(
        "moved", case.train[order], case.targets, None, case.ridge, True
    )
    for t in range(3):
        before, after = (c.rankings(0.05).ranks(t) for c in (case, moved))
        np.testing.assert_array_equal(before[order], after)


def test_power_of_two_scaling_changes_no_count():
    case = problem(40, 4, 0.25, weighted=True)
    moved = families.Case(
        "scaled",
        np.ldexp(case.train, 90),
        np.ldexp(case.targets, -70),
        np.ldexp(case.weights, 40),
        float(np.ldexp(case.ridge, 180)),
        True,
    )
    np.testing.assert_array_equal(
        case.rankings().curve(RADII), moved.rankings().curve(RADII)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_stored_dtypes_are_taken_exactly(dtype):
    rng = np.random.default_rng(6)
    train = rng.normal(size=(12, 3)).astype(dtype)
    targets = rng.normal(size=(1, 3)).astype(dtype)
    exact = oracles.Exact(train, 0.0).pairs(targets[0])
    rankings = certify_rankings(
        natural_geometry(MemoryStore(train), 0.0), targets, Wasserstein2(0.05)
    )
    assert rankings.fraction[0] * rankings.pairs == pytest.approx(
        len(oracles.certified_pairs(exact, 0.05))
    )


@pytest.mark.parametrize("radius", [-0.1, np.nan, np.inf, "0.1", True])
def test_bad_radii_are_refused(radius):
    with pytest.raises(ArgumentError):
        families.case("random").rankings().curve([0.1, radius])


@pytest.mark.parametrize("target", [-1, 3, 1.0, True])
def test_bad_targets_are_refused(target):
    rankings = families.case("random").rankings()
    with pytest.raises(ArgumentError, match="target"):
        rankings.ranks(target)
    with pytest.raises(ArgumentError, match="target"):
        rankings.top_k(target, 1)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2"])
def test_bad_sizes_are_refused(k):
    with pytest.raises(ArgumentError, match="k="):
        families.case("random").rankings().top_k(0, k)


def test_unusable_targets_are_refused():
    geometry = families.case("random").geometry()
    for bad in (np.zeros((0, geometry.width)), np.full((1, geometry.width), np.nan)):
        with pytest.raises(DataError, match="targets"):
            certify_rankings(geometry, bad, Wasserstein2(0.1))


@pytest.mark.parametrize("power", [200, 300])
def test_products_that_overflow_are_undecided_without_a_warning(power):
    train = np.random.default_rng(7).normal(size=(9, 2)) * 1e20
    weights = np.full(9, 10.0**power)
    case = families.Case("overflow", train, train[:1], weights, 0.0, False)
    rankings = case.rankings(0.0)
    assert (rankings.fraction == 0).all()
    np.testing.assert_array_equal(rankings.ranks(0), [[1, 9]] * 9)
    for i, j in itertools.permutations(range(3), 2):
        found = rankings.verdict(target=0, above=i, below=j)
        assert found.status in {"certified", "undecided"}
