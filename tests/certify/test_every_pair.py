"""Counts of a sweep are the single verdicts of all pairs, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import limits, sweep
from natgeo.certify.verdict import decide
from natgeo.geometry import kernels


def rankings(threat, *, ridge=0.0, seed=0, n=18, k=6, weighted=True, kernel=None):
    rng = np.random.default_rng(seed)
    scale = np.geomspace(1, 0.05, k)
    train = np.float32(rng.normal(size=(n, k)) * scale)
    train[3] = train[2] + np.float32(1e-5) * train[3]  # near duplicates
    train[5] = train[4]
    columns = {"weights": rng.uniform(-0.3, 1, size=n)} if weighted else {}
    geometry = ng.natural_geometry(ng.MemoryStore(train, columns), ridge)
    targets = np.float32(rng.normal(size=(3, k)) * scale)
    return ng.certify_rankings(geometry, targets, threat, kernel=kernel)


def certified_above(order, target, threat=None):
    """Whether i is certified above j, for every ordered pair, [N, N]."""
    n = order.geometry.train.shape[0]
    found = np.zeros((n, n), bool)
    for i, j in itertools.permutations(range(n), 2):
        statement = order.statement(target=target, above=i, below=j)
        verdict = decide(order.proof, statement, threat or order.threat)
        found[i, j] = verdict.status == "certified"
    return found


def check_every_pair(threat, **options):
    order = rankings(threat, **options)
    counts, shares = order.counts()[:, 0], 0
    for t in range(3):
        above = certified_above(order, t)
        assert not (above & above.T).any()
        assert counts[t] == above.sum()
        n = len(above)
        ranks = order.ranks(t)
        np.testing.assert_array_equal(ranks[:, 0], 1 + above.sum(axis=0))
        np.testing.assert_array_equal(ranks[:, 1], n - above.sum(axis=1))
        top = order.top_k(t, 5)
        np.testing.assert_array_equal(top.inside, np.flatnonzero(ranks[:, 1] <= 5))
        np.testing.assert_array_equal(top.outside, np.flatnonzero(ranks[:, 0] > 5))
        shares += above.sum()
    np.testing.assert_array_equal(order.fraction, counts / order.pairs)
    assert (order.fraction_by_norms <= order.fraction).all()
    return shares


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.05, 1.0])
@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_a_ball_counts_its_single_verdicts(ridge, eps):
    assert check_every_pair(ng.threats.Wasserstein2(eps), ridge=ridge) > 50


def test_the_bound_under_a_ridge_is_what_is_counted():
    """Counted pairs that the closed form alone does not prove."""
    order = rankings(ng.threats.Wasserstein2(0.1), ridge=1.0)
    kappa = order.threat.kappa()
    more = 0
    for t in range(3):
        for i, j in np.argwhere(certified_above(order, t)):
            statement = order.statement(target=t, above=int(i), below=int(j))
            cosine = decide(order.proof, statement, order.threat).cosine
            more += cosine <= kappa
    assert more > 10


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_every_kernel_and_a_sample_count_the_same(ridge):
    threat = ng.threats.Wasserstein2(0.07)
    counts = [
        rankings(threat, ridge=ridge, n=300, seed=1, kernel=kernel).counts()
        for kernel in (None, kernels.xla)
    ]
    np.testing.assert_array_equal(*counts)
    order = rankings(threat, ridge=ridge, n=40, seed=1)
    drawn = order.estimate(4000, seed=3, level=0.999)
    assert (drawn.low <= order.fraction).all()
    assert (order.fraction <= drawn.high).all()


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_certified_pairs_are_the_single_verdicts(ridge):
    order = rankings(ng.threats.Wasserstein2(0.1), ridge=ridge)
    pairs = ng.certified_pairs(order, 1, range(18))
    found = np.zeros((18, 18), bool)
    found[pairs[:, 1], pairs[:, 2]] = True
    np.testing.assert_array_equal(found, certified_above(order, 1))


MOVING = {
    "points alone": ng.threats.Moving(ng.threats.Wasserstein2(0.0), 0.02, 0.05),
    "everything": ng.threats.WassersteinInfinity(0.02),
    "the target": ng.threats.Moving(ng.threats.Wasserstein2(0.05), 0.3, 0.0),
    "beside a deletion": ng.threats.Moving(ng.threats.Delete(1), 0.01, 0.01),
    "nothing": ng.threats.Moving(ng.threats.Wasserstein2(0.05), 0.0, 0.0),
    "far": ng.threats.Moving(ng.threats.Wasserstein2(0.1), 0.2, 0.3),
}


def check_moving():
    """One feature: every cosine is 1, and only the angles of the moves matter."""
    threat = ng.threats.Moving(ng.threats.Wasserstein2(0.3), 0.2, 0.3)
    assert check_every_pair(threat, k=1) > 10
    check_every_pair(MOVING["everything"], ridge=0.2)


def test_points_that_move_along_one_line():
    check_moving()


@pytest.mark.parametrize("threat", MOVING.values(), ids=MOVING)
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_points_that_move_count_their_single_verdicts(threat, ridge):
    assert check_every_pair(threat, ridge=ridge) > 10


def test_a_target_that_can_vanish_and_an_eps_of_one_certify_nothing():
    for threat in (
        ng.threats.Moving(ng.threats.Wasserstein2(0.0), 1e9, 0.0),
        ng.threats.Moving(ng.threats.Wasserstein2(0.0), 0.0, 1e9),
        ng.threats.WassersteinInfinity(1.0),
    ):
        assert check_every_pair(threat) == 0


def test_nothing_that_moves_by_nothing_is_the_ball_without_a_ridge():
    still = rankings(MOVING["nothing"])
    ball = rankings(ng.threats.Wasserstein2(0.05))
    np.testing.assert_array_equal(still.counts(), ball.counts())


def test_points_that_move_are_counted_at_each_kappa():
    """Lengths depend on the kappa: a sweep over two of them is two sweeps."""
    order, moves = rankings(MOVING["everything"]), limits.Moves(0.05, 0.02)
    scored = order._every_pair._scored(np.arange(3))
    kappas = [0.02, 0.3]
    found = sweep.count_certified(order.proof, scored, kappas, moves=moves)
    for place, kappa in enumerate(kappas):
        alone = sweep.count_certified(order.proof, scored, [kappa], moves=moves)
        np.testing.assert_array_equal(found[:, [place]], alone)
    assert (found[:, 1] < found[:, 0]).all()


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_points_that_move_are_sampled_and_swept_in_parts(ridge):
    order = rankings(MOVING["everything"], ridge=ridge, n=40)
    parts = sum(order.counts(part=(p, 3)) for p in range(3))
    np.testing.assert_array_equal(parts, order.counts())
    drawn = order.estimate(4000, seed=3, level=0.999)
    assert (drawn.low <= order.fraction).all()
    assert (order.fraction <= drawn.high).all()
    assert order.workload().pairs == order.pairs
