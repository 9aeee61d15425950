"""Score ranges: exact values inside, attacks inside, and ends that are reached."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import ranges, statements
from natgeo.certify.data_threats import between
from natgeo.certify.rounding import NaturalRows, prove
from natgeo.certify.threats import (
    Add,
    Delete,
    Replace,
    Wasserstein1,
    Wasserstein2,
)
from natgeo.errors import ArgumentError
from tests import attacks, families, oracles
from tests.certify import test_data_threats as data
from tests.certify import test_rounding

N, K = data.N, data.K
problem = data.problem  # the fixture: train, target, geometry, proof


# ------------------------------------------------------------- rounding, exactly


def check_enclosures(case):
    """Exact forms and norms of a case against their enclosures."""
    geometry = case.geometry()
    _check_enclosures(case, prove(geometry))


def check_wrong_whiteners():
    case = families.case("random")
    geometry = case.geometry()
    for factor in (1.0 + 1e-3, 1.05, 0.97):
        wrong = test_rounding.with_whitener(geometry, factor * geometry.whitener)
        _check_enclosures(case, prove(wrong))


def _check_enclosures(case, proof):
    q = oracles.exact_covariance(case.train, case.ridge)
    train = oracles.fractions(case.train)
    weights = oracles.fractions(proof.geometry.weights)
    for row in case.targets:
        target = oracles.fractions(row)
        solved = oracles.exact_solve(q, target)
        left = proof.whiten(np.float64(row)[None])
        forms = ranges.enclose(proof, left, proof.weighted)
        size = oracles.dot(target, solved)
        for i, phi in enumerate(train):
            exact = weights[i] * oracles.dot(solved, phi)
            norm = size * weights[i] ** 2 * oracles.exact_form(q, phi, phi)
            if np.isfinite(forms.low[i]):
                assert Fraction(float(forms.low[i])) <= exact
                assert exact <= Fraction(float(forms.high[i]))
                assert norm <= Fraction(float(forms.norms[i])) ** 2


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_exact_forms_lie_inside(name):
    check_enclosures(families.case(name, weighted=True))


def test_whatever_the_whitener_is():
    check_wrong_whiteners()


def check_errors_count():
    """Rows that are off by their errors in the worst direction."""
    geometry = ng.natural_geometry(np.eye(2) * np.sqrt(2), ridge=0.0)
    proof = prove(geometry)
    u = NaturalRows(np.array([[1.0, 0.0]]), np.ones(1), np.array([0.25]))
    v = NaturalRows(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([0.5]))
    forms = ranges.enclose(proof, u, v)
    assert forms.low[0] <= 0.75 * 1.5
    assert forms.high[0] >= 1.25 * 2.5
    assert forms.norms[0] >= 1.25 * 2.5


def test_errors_of_the_rows_count():
    check_errors_count()


def check_between():
    rng = np.random.default_rng(2)
    norms = 10.0 ** rng.uniform(-3, 3, 900)
    low, high = 0.7, 1.9
    # Terms that cancel show their own rounding.
    even = (high - low) / (high + low)
    scores = norms * even * (1 + 10.0 ** rng.uniform(-15, -9, 900))
    for s, n, found in zip(
        scores, norms, between(scores, norms, low, high), strict=True
    ):
        s, n = Fraction(float(s)), Fraction(float(n))
        exact = (n + s) / 2 * Fraction(low) - (n - s) / 2 * Fraction(high)
        assert Fraction(float(found)) <= exact
        assert exact - Fraction(float(found)) <= n * Fraction(1, 10**14)


def test_bounds_between_two_eigenvalues_are_rounded_down():
    check_between()


# -------------------------------------------------------------- order 2: attacks


def check_attacks(seed, ridge, share=0.999):
    """No displacement of cost eps takes a form out of its range."""
    found = attacks.random_problem(seed, ridge, pairs=40)
    proof = prove(ng.natural_geometry(found.train, ridge))
    worst = np.minimum(
        attacks.gradient_attack(found, share, steps=60),
        attacks.random_displacements(found, share, tries=12),
    )
    best = -np.minimum(
        *(
            attack(
                attacks.Problem(
                    found.train, ridge, found.left, -found.right, found.radii, seed
                )
            )
            for attack in (
                lambda p: attacks.gradient_attack(p, share, steps=60),
                lambda p: attacks.random_displacements(p, share, tries=12),
            )
        )
    )
    for u, v, radius, low, high in zip(
        found.left, found.right, found.radii, worst, best, strict=True
    ):
        threat = Wasserstein2(share * radius)
        ends = span_of(proof, u, v, threat)
        assert ends[0] <= low <= high <= ends[1]
        # Certified, since the radius is not reached; with a ridge the radius may be
        # that of a tighter bound, which the range does not use.
        assert ends[0] > 0 or ridge


def span_of(proof, u, v, threat):
    """The range of a form of two raw vectors."""
    left, right = proof.whiten(u[None]), proof.whiten(v[None])
    return ranges.span(proof, ranges.enclose(proof, left, right), threat)[0]


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(2))
def test_attacks_stay_inside(seed, ridge):
    check_attacks(seed, ridge)


@pytest.mark.parametrize("eps", [0.02, 0.3, 0.8])
def test_both_ends_are_reached_at_zero_ridge(eps, rng):
    train = rng.normal(size=(12, 4)) @ rng.normal(size=(4, 4))
    geometry = ng.natural_geometry(train, ridge=0.0)
    proof = prove(geometry)
    q = oracles.covariance(train, 0.0)
    root = np.linalg.cholesky(q)
    angles = np.linspace(0, np.pi / 2, 4001)
    for _ in range(6):
        u, v = rng.normal(size=(2, 4))
        low, high = span_of(proof, u, v, Wasserstein2(eps))
        x, y = np.linalg.solve(root, u), np.linalg.solve(root, v)
        reached = []
        for sign in (1, -1):
            e1 = x / np.linalg.norm(x) + sign * y / np.linalg.norm(y)
            e2 = x / np.linalg.norm(x) - sign * y / np.linalg.norm(y)
            e1, e2 = e1 / np.linalg.norm(e1), e2 / np.linalg.norm(e2)
            size = np.linalg.norm(x) * np.linalg.norm(y)
            cos = sign * (x @ y) / size
            s1, s2 = 1 + eps * np.cos(angles), 1 - eps * np.sin(angles)
            best = np.argmin((1 + cos) / s1**2 - (1 - cos) / s2**2)
            bend = np.eye(4) + (s1[best] - 1) * np.outer(e1, e1)
            bend += (s2[best] - 1) * np.outer(e2, e2)
            moved = train @ (root @ bend @ np.linalg.inv(root)).T
            step = np.linalg.solve(root, (moved - train).T)
            assert np.sqrt((step**2).sum() / 12) == pytest.approx(eps, rel=1e-9)
            reached.append(u @ np.linalg.solve(moved.T @ moved / 12, v))
        assert low <= reached[0] <= low + 1e-5 * size / (1 - eps) ** 3
        assert high - 1e-5 * size / (1 - eps) ** 3 <= reached[1] <= high


def check_both_ends():
    """Each end is made from the enclosure's own end."""
    proof = prove(ng.natural_geometry(np.eye(2), ridge=0.0))
    forms = ranges.Forms(np.array([1.0]), np.array([2.0]), np.array([2.0]))
    low, high = ranges.span(proof, forms, Wasserstein2(0.0))[0]
    assert (low, high) == (pytest.approx(1.0), pytest.approx(2.0))
    assert low <= 1
    assert high >= 2


def test_both_ends_of_the_enclosure_are_used():
    check_both_ends()


def test_a_range_known_by_hand():
    """Q = I, u = v: the form is 1 / s1^2 with s1 between 1 - eps and 1 + eps."""
    geometry = ng.natural_geometry(np.eye(2) * np.sqrt(2), ridge=0.0)
    u = np.array([2.0, 0.0])
    low, high = span_of(prove(geometry), u, u, Wasserstein2(0.25))
    assert low == pytest.approx(4 / 1.25**2, rel=1e-9)
    assert high == pytest.approx(4 / 0.75**2, rel=1e-9)


# ---------------------------------------------------------- the other four threats


def scores_inside(problem, second, ends):
    """Whether the scores for another sum of outer products lie in their ranges."""
    after = data.scores_after(problem, second) * N
    slack = 1e-9 * np.abs(after)
    inside = (ends[:, 0] <= after + slack) & (after <= ends[:, 1] + slack)
    return bool(inside.all()), after


def ranges_under(problem, threat):
    _, target, geometry, _ = problem
    return ng.certify_rankings(geometry, target, threat).score_ranges(0)


@pytest.mark.parametrize("points", [1, 2])
def test_no_deletion_leaves_the_range(problem, points):
    train = problem[0]
    ends = ranges_under(problem, Delete(points))
    spread = []
    for gone in itertools.combinations(range(N), points):
        kept = np.delete(train, gone, axis=0)
        inside, after = scores_inside(problem, kept.T @ kept, ends)
        assert inside
        spread.append(after)
    assert (np.ptp(spread, axis=0) > 0.02 * (ends[:, 1] - ends[:, 0])).any()


@pytest.mark.parametrize("points", [1, 3])
def test_no_addition_leaves_the_range(problem, points, rng):
    train = problem[0]
    ends = ranges_under(problem, Add(points, 1.5))
    for new in data.spikes(problem, points, 1.5, rng, tries=200):
        assert scores_inside(problem, train.T @ train + new.T @ new, ends)[0]


def test_no_replacement_leaves_the_range(problem, rng):
    train = problem[0]
    ends = ranges_under(problem, Replace(1, 1.5))
    for new in data.spikes(problem, 1, 1.5, rng, tries=40):
        for gone in range(N):
            rows = np.concatenate([np.delete(train, gone, axis=0), new])
            assert scores_inside(problem, rows.T @ rows, ends)[0]


def test_no_transport_of_order_one_leaves_the_range(problem, rng):
    train, target, geometry, _ = problem
    natural = geometry.natural
    support = 1.01 * np.linalg.norm(natural, axis=1).max()
    ends = ranges_under(problem, Wasserstein1(0.02, support))
    t = geometry.whiten(target)[0]
    for number in range(600):
        d = natural[int(rng.integers(N))]
        sides = t / np.linalg.norm(t) + rng.choice([-1, 1]) * d / np.linalg.norm(d)
        goal = support * sides / np.linalg.norm(sides)
        source = natural[int(rng.integers(N))]
        if number % 2:  # towards the origin: the other end of the spectrum
            goal = 0 * goal
        mass = min(1 / N, 0.02 / np.linalg.norm(goal - source))
        change = mass * (np.outer(goal, goal) - np.outer(source, source))
        raw = geometry.factor @ change @ geometry.factor.T
        assert scores_inside(problem, train.T @ train + N * raw, ends)[0]


def check_agreement(problem):
    """The range of a pair is positive exactly where the pair is certified."""
    _, target, geometry, proof = problem
    longest = np.linalg.norm(geometry.natural, axis=1).max()
    for threat in (
        Wasserstein2(0.05),
        Wasserstein1(0.02, 1.01 * longest),
        Delete(2),
        Add(2, 1.5),
        Replace(1, 1.5),
    ):
        certified = data.certified_pairs(problem, threat)[0]
        for i, j in itertools.permutations(range(0, N, 3), 2):
            claim = statements.pair(geometry, target, target=0, above=i, below=j)
            low, high = ranges.score_range(proof, claim, threat)
            assert (low > 0) == ((i, j) in certified)
            assert (high < 0) == ((j, i) in certified)


def test_the_range_and_the_certificate_agree(problem):
    check_agreement(problem)


# ----------------------------------------------------------------- the public face


def test_ranges_of_a_target_are_those_of_its_scores(problem):
    _, target, geometry, _ = problem
    order = ng.certify_rankings(geometry, target, Wasserstein2(0.1))
    ends = order.score_ranges(0)
    assert ends.shape == (N, 2)
    for i in (0, 7, 23):
        single = order.score_range(target=0, example=i)
        np.testing.assert_allclose(single, ends[i], rtol=1e-11)
    tau = oracles.scores(np.asarray(geometry.train), target, geometry.ridge)[0]
    assert ((ends[:, 0] < tau) & (tau < ends[:, 1])).all()
    at_zero = ng.certify_rankings(geometry, target, Wasserstein2(0.0)).score_ranges(0)
    np.testing.assert_allclose(at_zero, np.stack([tau, tau], 1), rtol=0, atol=1e-10)


def test_weights_scale_the_range(rng):
    train = rng.normal(size=(9, 3))
    weights = np.array([2.0, -0.5, 0.0, 1, 1, 1, 1, 1, 1])
    store = ng.MemoryStore(train, {"weights": weights})
    target = rng.normal(size=(1, 3))
    ends = [
        ng.certify_rankings(
            ng.natural_geometry(x, 0.1), target, Wasserstein2(0.1)
        ).score_ranges(0)
        for x in (store, train)
    ]
    np.testing.assert_allclose(ends[0][0], 2 * ends[1][0], rtol=1e-10)
    np.testing.assert_allclose(ends[0][1], -0.5 * ends[1][1][::-1], rtol=1e-10)
    np.testing.assert_allclose(ends[0][2], 0, atol=1e-12)


def test_beyond_a_theorem_nothing_is_known(problem):
    for threat in (Wasserstein2(1.0), Delete(N), Wasserstein1(1.0, 2.0)):
        ends = ranges_under(problem, threat)
        assert (ends == [-np.inf, np.inf]).all()


def test_a_threat_without_a_bound_of_forms_is_refused(problem):
    class Mine:
        def kappa(self, proof):
            return 0.1

        def describe(self):
            return "mine"

    _, target, geometry, _ = problem
    order = ng.certify_rankings(geometry, target, Mine())
    with pytest.raises(ArgumentError, match="Mine bounds signs, not scores"):
        order.score_ranges(0)
