"""Threats on single examples and the order-1 ball: brute force and attacks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify.rounding import prove
from natgeo.certify.statements import pair
from natgeo.certify.threats import Add, Delete, Replace, Wasserstein1
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError

N, K = 24, 3


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["no ridge", "ridge"])
def problem(request):
    rng = np.random.default_rng(5)
    train, target = rng.standard_normal((N, K)), rng.standard_normal((1, K))
    geometry = ng.natural_geometry(train, ridge=request.param)
    return train, target, geometry, prove(geometry)


def certified_pairs(problem, threat):
    """Ordered pairs (i, j) that are certified, and the share that is."""
    _, target, geometry, proof = problem
    found = [
        (i, j)
        for i, j in itertools.permutations(range(N), 2)
        if decide(
            proof, pair(geometry, target, target=0, above=i, below=j), threat
        ).status
        == "certified"
    ]
    return found, len(found) / (N * (N - 1) / 2)


def scores_after(problem, second):
    """Scores of all stored examples under another sum of outer products, [N]."""
    train, target, geometry, _ = problem
    return train @ np.linalg.solve(second + N * geometry.ridge * np.eye(K), target[0])


def holds(pairs, scores):
    i, j = np.array(pairs).T
    return bool((scores[i] > scores[j]).all())


def flips_something(before, after):
    return bool(
        (
            np.sign(np.subtract.outer(before, before))
            != np.sign(np.subtract.outer(after, after))
        ).any()
    )


@pytest.mark.parametrize("points", [1, 2])
def test_no_deletion_flips_a_certified_pair(problem, points):
    train, *_ = problem
    pairs, share = certified_pairs(problem, Delete(points))
    before, flipped = scores_after(problem, train.T @ train), False
    for gone in itertools.combinations(range(N), points):
        kept = np.delete(train, gone, axis=0)
        after = scores_after(problem, kept.T @ kept)
        assert holds(pairs, after)
        flipped |= flips_something(before, after)
    assert 0.02 < share < 1
    assert flipped  # the threat is real: other pairs do change


def spikes(problem, count, size, rng, tries=400):
    """New examples of natural norm exactly `size`: random, and the bisectors' worst."""
    _, target, geometry, _ = problem
    natural = geometry.natural
    t = geometry.whiten(target)[0]
    for _ in range(tries):
        i, j = rng.choice(N, 2, replace=False)
        d = natural[i] - natural[j]
        worst = t / np.linalg.norm(t) + rng.choice([-1, 1]) * d / np.linalg.norm(d)
        for direction in (worst, rng.standard_normal(K)):
            w = size * direction / np.linalg.norm(direction)
            yield np.tile(geometry.factor @ w, (count, 1))


@pytest.mark.parametrize("points", [1, 3])
def test_no_addition_flips_a_certified_pair(problem, points, rng):
    train, *_ = problem
    support = 1.5
    pairs, share = certified_pairs(problem, Add(points, support))
    before, flipped = scores_after(problem, train.T @ train), False
    for new in spikes(problem, points, support, rng):
        after = scores_after(problem, train.T @ train + new.T @ new)
        assert holds(pairs, after)
        flipped |= flips_something(before, after)
    assert 0.02 < share < 1
    assert flipped


def test_no_replacement_flips_a_certified_pair(problem, rng):
    train, *_ = problem
    support = 1.5
    pairs, share = certified_pairs(problem, Replace(1, support))
    for new in spikes(problem, 1, support, rng, tries=60):
        for gone in range(N):
            data = np.concatenate([np.delete(train, gone, axis=0), new])
            assert holds(pairs, scores_after(problem, data.T @ data))
    assert 0.02 < share < 1


def test_no_transport_inside_the_order_one_ball_flips_a_certified_pair(problem, rng):
    train, target, geometry, _ = problem
    natural = geometry.natural
    support = 1.01 * np.linalg.norm(natural, axis=1).max()
    eps = 0.02
    pairs, share = certified_pairs(problem, Wasserstein1(eps, support))
    before, flipped = scores_after(problem, train.T @ train), False
    t = geometry.whiten(target)[0]
    for _ in range(1500):
        # Send a part of the mass at one atom to the edge of the support, as far as the
        # budget allows: the cost is share x distance.
        i, j = rng.choice(N, 2, replace=False)
        d = natural[i] - natural[j]
        direction = t / np.linalg.norm(t) + rng.choice([-1, 1]) * d / np.linalg.norm(d)
        if rng.random() < 0.5:
            direction = rng.standard_normal(K)
        goal = support * direction / np.linalg.norm(direction)
        source = natural[int(rng.integers(N))]
        mass = min(1 / N, eps / np.linalg.norm(goal - source))
        change = mass * (np.outer(goal, goal) - np.outer(source, source))
        raw = geometry.factor @ change @ geometry.factor.T
        after = scores_after(problem, train.T @ train + N * raw)
        assert holds(pairs, after)
        flipped |= flips_something(before, after)
    assert 0.02 < share < 1
    assert flipped


def test_kappa_is_not_below_its_formula(problem):
    _, _, geometry, proof = problem
    influence = np.sort(np.square(geometry.natural).sum(axis=1))[::-1]
    for points in (0, 1, 5):
        h, a = influence[:points].sum() / N, points * 2.25 / N
        for threat, want in [
            (Delete(points), h / (2 - h)),
            (Add(points, 1.5), a / (2 + a)),
            (Replace(points, 1.5), (a + h) / (2 + a - h)),
        ]:
            if h < 1:
                assert want * (1 - 1e-14) <= threat.kappa(proof) <= want * (1 + 1e-9)
    assert Wasserstein1(0.1, 2.0).kappa() == pytest.approx(0.2 / 0.8)


def test_threats_beyond_reach_certify_nothing(problem):
    _, _, _, proof = problem
    for threat in (Delete(N), Delete(N + 5), Replace(N, 1.0), Wasserstein1(0.5, 1.0)):
        assert threat.kappa(proof) == np.inf
        assert certified_pairs(problem, threat)[0] == []


def test_a_support_that_the_data_leave_certifies_nothing(problem):
    _, target, geometry, proof = problem
    longest = np.linalg.norm(geometry.natural, axis=1).max()
    for support, finite in ((0.99 * longest, False), (1.0001 * longest, True)):
        threat = Wasserstein1(1e-6, support)
        assert np.isfinite(threat.kappa(proof)) == finite
        assert bool(certified_pairs(problem, threat)[0]) == finite
    false = Wasserstein1(1e-6, 0.99 * longest)
    verdict = decide(proof, pair(geometry, target, target=0, above=0, below=1), false)
    other = decide(proof, pair(geometry, target, target=0, above=1, below=0), false)
    assert "undecided" == verdict.status == other.status
    assert any("do not satisfy" in v.reason for v in (verdict, other))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_counts_of_a_narrow_integer_type_mean_the_same(kind, rng):
    proof = prove(ng.natural_geometry(rng.normal(size=(300, 3)), 0.01))
    assert Delete(kind(3)).kappa(proof) == Delete(3).kappa(proof)
    assert Add(kind(100), 2.0).kappa(proof) == Add(100, 2.0).kappa(proof)
    assert Replace(kind(3), 2.0).kappa(proof) == Replace(3, 2.0).kappa(proof)


def test_more_threat_is_more_kappa(problem):
    _, _, _, proof = problem
    for kind in (Delete, lambda r: Add(r, 1.0), lambda r: Replace(r, 1.0)):
        kappas = [kind(r).kappa(proof) for r in range(4)]
        assert kappas == sorted(kappas)
        assert kappas[0] == 0


def test_they_work_on_all_pairs(problem):
    _, target, geometry, _ = problem
    order = ng.certify_rankings(geometry, target, ng.threats.Delete(1))
    _, share = certified_pairs(problem, Delete(1))
    assert order.fraction[0] == pytest.approx(share)
    assert "deletion of any 1" in order.threat.describe()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Delete(-1), "points=-1"),
        (lambda: Delete(1.5), "points=1.5"),
        (lambda: Delete(True), "points=True"),
        (lambda: Add(1, -1.0), "support=-1.0"),
        (lambda: Replace(1, float("nan")), "support=nan"),
        (lambda: Wasserstein1(-0.1, 1.0), "eps=-0.1"),
        (lambda: Wasserstein1(0.1, "far"), "support='far'"),
    ],
)
def test_bad_threats_are_named(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()
