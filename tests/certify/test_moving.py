"""Points that move too: the angle sum, every statement's moves, and attacks."""

from __future__ import annotations

import math

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import moving_attack, statements
from natgeo.certify.moving import Moving, add_angles
from natgeo.certify.rounding import prove
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import Delete, Wasserstein2, WassersteinInfinity
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError
from tests import attacks, oracles

N = 12


def problem(seed=0, ridge=0.0):
    """Raw features, weights, targets, the store's geometry and its proof."""
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(N, 3)) @ rng.normal(size=(3, 3))
    weights = rng.uniform(0.3, 1, N) * rng.choice([-1, 1], N)
    targets = rng.normal(size=(4, 3)) @ rng.normal(size=(3, 3))
    geometry = ng.natural_geometry(ng.MemoryStore(train, {"weights": weights}), ridge)
    return train, weights, targets, geometry, prove(geometry)


# Each statement with its terms: (coefficient, place) of the targets and examples of
# either side, written out by hand.
def kinds(geometry, targets, r):
    s = statements
    return {
        "pair": (
            s.pair(geometry, targets, target=0, above=1, below=2),
            ([(1, 0)], []),
            ([], [(r[1], 1), (-r[2], 2)]),
        ),
        "proponent": (
            s.proponent(geometry, targets, target=1, example=3),
            ([(1, 1)], []),
            ([], [(r[3], 3)]),
        ),
        "opponent": (
            s.opponent(geometry, targets, target=1, example=3),
            ([(1, 1)], []),
            ([], [(-r[3], 3)]),
        ),
        "group": (
            s.group(geometry, targets, target=2, above=[1, 4], below=[5]),
            ([(1, 2)], []),
            ([], [(r[1], 1), (r[4], 4), (-r[5], 5)]),
        ),
        "target pair": (
            s.target_pair(geometry, targets, more=0, less=3, example=6),
            ([(1, 0), (-1, 3)], []),
            ([], [(r[6], 6)]),
        ),
        "self-influence": (
            s.self_influence_pair(geometry, above=7, below=8),
            ([], [(1, 7), (-1, 8)]),
            ([], [(1, 7), (1, 8)]),
        ),
    }


KINDS = ["pair", "proponent", "opponent", "group", "target pair", "self-influence"]


def sides(train, targets, terms):
    """A side's raw vector and how far it moves per unit of target and example."""
    of_targets, of_examples = terms
    vector = sum(c * targets[t] for t, c in ((t, c) for c, t in of_targets))
    vector = vector + sum(c * train[i] for i, c in ((i, c) for c, i in of_examples))
    return (
        vector,
        sum(abs(c) for c, _ in of_targets),
        sum(abs(c) for c, _ in of_examples),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_kappa_is_the_sine_of_the_printed_sum(kind, ridge):
    train, weights, targets, geometry, proof = problem(1, ridge)
    statement, *both = kinds(geometry, targets, weights)[kind]
    inverse = np.linalg.inv(oracles.covariance(train, ridge))
    eps, rho_t, rho = 0.1, 0.03, 0.05
    total = 2 * math.asin(eps / math.sqrt(2))
    for terms in both:
        vector, t, e = sides(train, targets, terms)
        length = math.sqrt(vector @ inverse @ vector)
        total += math.asin((t * rho_t + e * rho) / length)
    found = Moving(Wasserstein2(eps), rho_t, rho).kappa_for(proof, statement)
    assert math.sin(total) * (1 - 1e-14) <= found <= math.sin(total) * (1 + 1e-8)


def check_add_angles():
    rng = np.random.default_rng(1)
    angles = rng.uniform(0, np.pi / 2, (2000, 2)) * rng.choice([1, 1e-6], (2000, 1))
    for x, y in angles.tolist():
        found = add_angles(math.sin(x), math.sin(y))
        if x + y > math.pi / 2 + 1e-9:
            assert found == math.inf
        elif x + y < math.pi / 2 - 1e-6:
            assert (
                math.sin(x + y) * (1 + 1e-13) <= found <= math.sin(x + y) * (1 + 1e-11)
            )
    assert add_angles(0.6, 0.8) == math.inf
    assert add_angles(0.0, 0.3) == 0.3
    for bad in (1.0, math.nan, math.inf, -0.1):
        assert add_angles(bad, 0.1) == add_angles(0.1, bad) == math.inf


def test_sines_add_upwards():
    check_add_angles()


# ----------------------------------------------------------------------- attacks


def turned(vector, away, distance, root):
    """The raw vector moved by a natural distance so as to turn from `away` the most."""
    x, y = (np.linalg.solve(root, z) for z in (vector, away))
    size = np.linalg.norm(x)
    across = y / np.linalg.norm(y) - (x @ y) / np.linalg.norm(y) / size**2 * x
    across /= np.linalg.norm(across)
    a = math.asin(min(distance / size, 1.0))
    # The tangent from the origin to the ball of that radius around x.
    moved = math.cos(a) * (math.cos(a) * x - math.sin(a) * size * across)
    assert np.linalg.norm(moved - x) <= distance * (1 + 1e-9) + 1e-12
    return root @ moved


def planted(train, ridge, statement, threat):
    """The form after the worst turn of both sides and the closed-form witness."""
    root = np.linalg.cholesky(oracles.covariance(train, ridge))
    u, v = statement.u.vector, statement.v.vector
    moves = [
        side.of_targets * threat.target + side.of_examples * threat.examples
        for side in (statement.u, statement.v)
    ]
    u2, v2 = turned(u, v, moves[0], root), turned(v, u, moves[1], root)
    attack = attacks.Problem(
        train, ridge, u2[None], v2[None], np.array([threat.threat.eps]), 0
    )
    values, costs = attacks.witness(attack, 1.0)
    assert costs[0] <= threat.threat.eps * (1 + 1e-9)
    worst = attacks.gradient_attack(attack, 1.0, steps=15)[0]
    return min(values[0], worst, float(u2 @ np.linalg.solve(root @ root.T, v2)))


def largest_scale(proof, statement):
    """The largest factor on all three radii that is certified, by bisection."""
    low, high = 0.0, 9.0
    for _ in range(50):
        middle = (low + high) / 2
        status = decide(proof, statement, scaled(middle)).status
        low, high = (middle, high) if status == "certified" else (low, middle)
    return low


def scaled(factor):
    return Moving(
        Wasserstein2(0.1 * factor), target=0.3 * factor, examples=0.15 * factor
    )


def check_attacks(kind, ridge):
    tried = 0
    for seed in range(6):
        train, weights, targets, geometry, proof = problem(seed, ridge)
        statement = kinds(geometry, targets, weights)[kind][0]
        if decide(proof, statement, scaled(0.0)).status != "certified":
            opposite = Combination(
                -statement.v.vector,
                statement.v.formation,
                statement.v.of_targets,
                statement.v.of_examples,
            )
            statement = Statement("not so", statement.u, opposite)
        scale = largest_scale(proof, statement)
        if not 0 < scale < 8.9:
            continue
        tried += 1
        assert planted(train, ridge, statement, scaled(0.999 * scale)) > 0
        if ridge == 0:
            assert planted(train, ridge, statement, scaled(1.05 * scale)) < 0
    assert tried >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_move_breaks_it_just_outside_and_never_inside(kind):
    check_attacks(kind, 0.0)


@pytest.mark.parametrize("kind", ["pair", "self-influence"])
def test_no_planted_move_breaks_it_with_a_ridge(kind):
    check_attacks(kind, 0.3)


def test_moving_everything_never_breaks_an_order_infinity_certificate(rng):
    """Each example, the pair's own among them, and the target move by at most eps."""
    train, weights, targets, geometry, _ = problem(3)
    eps, tried, tight = 0.08, 0, math.inf
    order = ng.certify_rankings(geometry, targets, WassersteinInfinity(eps))
    root = np.linalg.cholesky(oracles.covariance(train, 0.0))
    natural = np.linalg.solve(root, train.T).T
    for i in range(N):
        for j in range(N):
            if order.verdict(target=0, above=i, below=j).status != "certified":
                continue
            tried += 1
            u = np.linalg.solve(root, targets[0])
            v = weights[i] * natural[i] - weights[j] * natural[j]
            x, y = u / np.linalg.norm(u), v / np.linalg.norm(v)
            e1, e2 = (e / np.linalg.norm(e) for e in (x + y, x - y))
            for number in range(12):
                steps = rng.normal(size=(N, 3))
                if number < 6:  # stretch e1, squeeze e2
                    steps = np.outer(natural @ e1, e1) - np.outer(natural @ e2, e2)
                    steps *= rng.uniform(0, 1, (N, 1))
                steps *= eps / np.linalg.norm(steps, axis=1, keepdims=True)
                if number % 2:
                    steps[i] = -eps * np.sign(weights[i]) * e2 * np.sign(y @ e2) * -1
                    steps[j] = -steps[i] * np.sign(weights[i] * weights[j])
                w, t = natural + steps, u - eps * e2 * np.sign(x @ e2) * -1
                moved = w.T @ w / N
                pair = weights[i] * w[i] - weights[j] * w[j]
                value = t @ np.linalg.solve(moved, pair)
                assert value > 0
                tight = min(tight, value / (u @ v))
    assert tried > 10
    assert tight < 0.7  # the moves do matter


def check_other_moves():
    """Some example goes further than any may, or the pair's move on their own."""
    rng, tried = np.random.default_rng(0), 0
    train, targets, eps = rng.normal(size=(N, 3)), rng.normal(size=(1, 3)), 0.1
    geometry = ng.natural_geometry(ng.MemoryStore(train), 0.0)
    order = ng.certify_rankings(geometry, targets, WassersteinInfinity(eps))
    root = np.linalg.cholesky(oracles.covariance(train, 0.0))
    for i, j in ((0, 6), (3, 6), (4, 7), (5, 7)):
        statement = order.statement(target=0, above=i, below=j)
        found = moving_attack.attack(order.proof, statement, order.threat)
        steps = np.linalg.norm(np.linalg.solve(root, (found.rows - train).T), axis=0)
        apart = not np.allclose(found.right, found.rows[i] - found.rows[j])
        tried += found.flips and (steps.max() > eps or apart)
        assert not found.inside
    assert tried == 4


def test_the_attack_of_other_moves_is_never_inside_the_order_infinity_ball():
    check_other_moves()


def test_it_certifies_less_than_without_moves_and_as_much_at_zero():
    _, weights, targets, geometry, proof = problem(2)
    for kind in KINDS:
        statement = kinds(geometry, targets, weights)[kind][0]
        base = Wasserstein2(0.1)
        still = Moving(base, 0.0, 0.0).kappa_for(proof, statement)
        assert still == base.kappa()
        assert Moving(base, 0.01, 0.01).kappa_for(proof, statement) > still
        both = Moving(Delete(1), 0.01, 0.0).kappa_for(proof, statement)
        assert both >= Delete(1).kappa(proof)


def test_a_point_that_can_reach_the_origin_certifies_nothing():
    _, weights, targets, geometry, proof = problem(2)
    statement = kinds(geometry, targets, weights)["pair"][0]
    for threat in (
        Moving(Wasserstein2(0.0), 100.0, 0.0),
        Moving(Wasserstein2(0.0), 0.0, 100.0),
        Moving(Wasserstein2(1.0), 0.0, 0.0),
    ):
        assert threat.kappa_for(proof, statement) == math.inf
        assert decide(proof, statement, threat).status == "undecided"


def test_a_statement_that_does_not_say_how_it_moves_is_never_certified():
    _, _, targets, _, proof = problem(2)
    one = Combination(targets[0], 0.0)
    threat = Moving(Wasserstein2(0.0), 1e-9, 1e-9)
    assert decide(proof, Statement("same", one, one), threat).status == "undecided"
    still = Moving(Wasserstein2(0.0), 0.0, 0.0)
    assert decide(proof, Statement("same", one, one), still).status == "certified"


def test_it_says_what_moves():
    words = WassersteinInfinity(0.25).describe()
    assert "each example is moved by at most natural distance 0.25" in words
    assert "the target by as much" in words
    words = Moving(Wasserstein2(0.1), target=0.2, examples=0.3).describe()
    assert "distance 0.1 " in words
    assert "every target may move by natural distance 0.2" in words
    assert "0.3" in words
    assert WassersteinInfinity(0.25) == WassersteinInfinity(0.25)


def test_what_it_cannot_say_is_refused_with_a_way_out():
    _, _, targets, geometry, proof = problem(4)
    threat = WassersteinInfinity(0.01)
    with pytest.raises(ArgumentError, match="certify_rankings"):
        threat.kappa(proof)
    order = ng.certify_rankings(geometry, targets, threat)
    with pytest.raises(ArgumentError, match="depends on the statement"):
        ng.certified_pairs(order, 0, [0])
    member = (np.asarray(geometry.train), targets)
    twice = ng.ensemble([member, member], ridge=0.1)
    with pytest.raises(ArgumentError, match="certify each checkpoint"):
        ng.certify_ensemble(twice, threat)


def worst_forms(train, ridge, statement, threat, rng, tries=40):
    """Forms u'M v' of displaced points under displaced data, all inside the threat."""
    root = np.linalg.cholesky(oracles.covariance(train, ridge))
    u, v = statement.u.vector, statement.v.vector
    far = [
        side.of_targets * threat.target + side.of_examples * threat.examples
        for side in (statement.u, statement.v)
    ]
    for _ in range(tries):
        a, b = (
            side + distance * (root @ direction / np.linalg.norm(direction))
            for side, distance, direction in (
                (u, far[0], rng.normal(size=len(u))),
                (v, far[1], rng.normal(size=len(v))),
            )
        )
        if rng.random() < 0.5:  # along the other side, which changes the form the most
            w, x = (np.linalg.solve(root, side) for side in (u, v))
            sign = rng.choice([-1, 1])
            a = u + sign * far[0] * root @ x / np.linalg.norm(x)
            b = v + sign * far[1] * root @ w / np.linalg.norm(w)
        for sign in (1, -1):
            problem_ = attacks.Problem(
                train, ridge, a[None], sign * b[None], np.array([threat.threat.eps]), 0
            )
            values, costs = attacks.witness(problem_, 1.0)
            assert costs[0] <= threat.threat.eps * (1 + 1e-9)
            yield sign * float(values[0])


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_score_range_holds_every_displaced_form(ridge):
    rng, widths = np.random.default_rng(3), []
    for seed in range(4):
        train, weights, targets, geometry, proof = problem(seed, ridge)
        threat = Moving(Wasserstein2(0.05), target=0.05, examples=0.03)
        for kind, (statement, *_) in kinds(geometry, targets, weights).items():
            low, high = ng.score_range(proof, statement, threat)
            forms = list(worst_forms(train, ridge, statement, threat, rng))
            assert low <= min(forms), kind
            assert max(forms) <= high, kind
            widths.append((max(forms) - min(forms)) / (high - low))
            if low > 0:
                assert decide(proof, statement, threat).status == "certified"
    assert np.median(widths) > 0.5


def test_score_ranges_are_the_single_ones():
    train, _, targets, geometry, _ = problem(2)
    threat = Moving(Wasserstein2(0.05), target=0.05, examples=0.03)
    order = ng.certify_rankings(geometry, targets, threat)
    ranges = order.score_ranges(1)
    for i in range(len(train)):
        np.testing.assert_allclose(
            ranges[i], order.score_range(target=1, example=i), rtol=1e-9
        )
    still = Moving(Wasserstein2(0.05), target=0.0, examples=0.0)
    np.testing.assert_allclose(
        ng.certify_rankings(geometry, targets, still).score_ranges(1),
        ng.certify_rankings(geometry, targets, Wasserstein2(0.05)).score_ranges(1),
        rtol=1e-9,
    )


def moved_form(order, found, statement):
    """What a counterexample says, by explicit inverses."""
    ridge = order.geometry.ridge
    return found.left @ np.linalg.solve(
        oracles.covariance(found.rows, ridge), found.right
    )


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_attack_breaks_what_is_just_outside_and_nothing_inside(ridge):
    broken = tried = 0
    for seed in range(5):
        train, _, targets, geometry, proof = problem(seed, ridge)
        rankings = ng.certify_rankings(geometry, targets, scaled(0.0))
        best = np.argsort(
            -geometry.whiten(targets[:1]) @ rankings.proof.weighted.rows.T
        )
        pair = {"target": 0, "above": int(best[0, 0]), "below": int(best[0, -1])}
        statement = rankings.statement(**pair)
        scale = largest_scale(proof, statement)
        if not 0 < scale < 8.9:
            continue
        tried += 1
        for factor in (0.999, 1.5 if ridge else 1.01):
            threat = scaled(factor * scale)
            order = ng.certify_rankings(geometry, targets, threat)
            found = order.refute(**pair)
            assert found.inside
            # Everything it did, measured by the printed formulas.
            root = np.linalg.cholesky(oracles.covariance(train, ridge))
            cost = np.linalg.norm(np.linalg.solve(root, (found.rows - train).T))
            assert cost / math.sqrt(len(train)) <= threat.threat.eps * (1 + 1e-9)
            for side, moved in ((statement.u, found.left), (statement.v, found.right)):
                step = np.linalg.norm(np.linalg.solve(root, moved - side.vector))
                assert step <= threat.moves(side) * (1 + 1e-9)
            value = moved_form(order, found, statement)
            assert value == pytest.approx(found.gap_after, rel=1e-6, abs=1e-9)
            assert found.flips <= (value < 0)
            verdict = order.verdict(**pair, attack=True)
            if factor < 1:
                assert (found.flips, verdict.status) == (False, "certified")
            else:
                broken += verdict.status == "refuted"
                assert (verdict.counterexample is not None) == (
                    verdict.status == "refuted"
                )
    assert tried >= 3
    assert broken == tried or (ridge and broken > 0)


def test_the_attack_knows_other_threats_beside_and_what_it_cannot_do():
    _, weights, targets, geometry, proof = problem(1)
    made = kinds(geometry, targets, weights)
    threat = Moving(Delete(2), target=3.0, examples=3.0)
    found = moving_attack.attack(proof, made["group"][0], threat)
    assert found.inside
    assert found.flips


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Moving(Wasserstein2(0.1), -1.0, 0.0), "target=-1.0"),
        (lambda: Moving(Wasserstein2(0.1), 0.0, math.nan), "examples=nan"),
        (lambda: WassersteinInfinity("far"), "eps='far'"),
    ],
)
def test_bad_distances_are_named(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()
