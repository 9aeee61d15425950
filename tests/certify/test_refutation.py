"""Every attack under every threat on every statement, re-checked in exact rationals.

What a counterexample says of itself (its cost, that it is inside, that it flips) is
computed again from its rows and points by the definitions of the threats, without
natgeo. Truth may be larger than what is claimed, never smaller.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import (
    attacks,
    infinity_attack,
    moving_attack,
    statements,
)
from natgeo.certify.points import points_of
from natgeo.certify.refutation import decide_or_refute
from natgeo.certify.rounding import prove
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import (
    Add,
    Delete,
    Euclidean2,
    Moving,
    Replace,
    Wasserstein1,
    Wasserstein2,
    WassersteinInfinity,
)
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError, DataError
from tests import oracles
from tests.certify.test_moving import KINDS, N, kinds, problem

SUPPORT = 6.0  # beyond the longest natural norm of any `problem`


def made(size: float) -> dict:
    """A threat of each kind; larger with `size`."""
    few = max(1, round(4 * size))
    return {
        "w2": Wasserstein2(0.3 * size),
        "w1": Wasserstein1(0.25 * size, SUPPORT),
        "euclidean2": Euclidean2(0.25 * size),
        "delete": Delete(few),
        "add": Add(2 * few, SUPPORT),
        "replace": Replace(few, SUPPORT),
        "winf": WassersteinInfinity(0.2 * size),
        "moving": Moving(Wasserstein2(0.15 * size), 0.1 * size, 0.2 * size),
        "moving, delete": Moving(Delete(few), 0.2 * size, 0.1 * size),
        "moving, raw": Moving(Euclidean2(0.1 * size), 0.1 * size, 0.1 * size),
    }


# ------------------------------------------------------- the definitions, exactly


class World:
    """Stored data, and what is exactly true of a perturbed one."""

    def __init__(self, train, targets, ridge):
        self.train, self.targets = oracles.fractions(train), oracles.fractions(targets)
        self.ridge = Fraction(ridge)
        self.inverse = inverse(oracles.exact_covariance(train, ridge))

    def square(self, before, after) -> Fraction:
        """Squared natural distance."""
        step = [b - a for a, b in zip(before, after, strict=True)]
        return self.length(step) if any(step) else Fraction(0)

    def length(self, row) -> Fraction:
        """Squared natural norm."""
        return oracles.dot(row, oracles.product(self.inverse, row))

    def squares(self, rows):
        """Squared natural distance of every training example to its new place."""
        return [self.square(a, b) for a, b in zip(self.train, rows, strict=True)]

    def allows(self, threat, found, rows) -> bool:
        """Whether a threat that moves no points allows these training features."""
        n, extra = len(self.train), rows[len(self.train) :]
        if isinstance(threat, Add):
            new = [row for row in extra if any(row)]
            return (
                rows[:n] == self.train
                and len(new) <= threat.points
                and self.short(new, threat)
            )
        assert not extra
        if isinstance(threat, Wasserstein2):
            return sum(self.squares(rows)) <= n * Fraction(threat.eps) ** 2
        if isinstance(threat, Euclidean2):
            return raw_square(self.train, rows) <= n * Fraction(threat.eps) ** 2
        if isinstance(threat, Wasserstein1):
            length = sum(oracles.exact_root(x) for x in self.squares(rows))
            return length <= n * Fraction(threat.eps) and self.short(rows, threat)
        other = [i for i in range(n) if rows[i] != self.train[i]]
        if isinstance(threat, Delete):
            gone = not any(any(rows[i]) for i in other)
            return gone and len(other) <= threat.points
        assert isinstance(threat, Replace)
        return len(other) <= threat.points and self.short(
            [rows[i] for i in other], threat
        )

    def short(self, rows, threat) -> bool:
        """Whether no natural norm is above the support."""
        square = Fraction(threat.support) ** 2
        return all(self.length(row) <= square for row in rows)

    def stored(self, name):
        kind, index = name
        return (self.targets if kind == "target" else self.train)[index]

    def is_inside(self, threat, found) -> bool:
        """Whether a counterexample is inside its threat."""
        rows = rows_of(found)
        if not isinstance(threat, Moving):
            return self.allows(threat, found, rows)
        points = {x: oracles.fractions(row) for x, row in found.points.items()}
        for name, row in points.items():
            far = threat.target if name[0] == "target" else threat.examples
            if self.square(self.stored(name), row) > Fraction(far) ** 2:
                return False
        if not isinstance(threat, WassersteinInfinity):
            return self.allows(threat.threat, found, rows)
        # The examples of the claim move with the training set.
        together = all(
            rows[i] == row for (k, i), row in points.items() if k != "target"
        )
        eps = Fraction(threat.target) ** 2
        return together and max(self.squares(rows)) <= eps

    def form(self, found, terms) -> Fraction:
        """u^T Q'^-1 v of the perturbed data, sums divided by the stored N."""
        rows, k = rows_of(found), len(self.train[0])
        q = [
            [
                sum(row[a] * row[b] for row in rows) / len(self.train)
                + (self.ridge if a == b else 0)
                for b in range(k)
            ]
            for a in range(k)
        ]
        sides = [self.side(found, side) for side in terms]
        return oracles.exact_form(q, *sides)

    def side(self, found, terms):
        """A side by hand: its points where the counterexample left them."""
        moved = getattr(found, "points", {})
        total = [Fraction(0)] * len(self.train[0])
        for kind, part in zip(("target", "example"), terms, strict=True):
            for factor, index in part:
                name = (kind, index)
                row = (
                    oracles.fractions(moved[name])
                    if name in moved
                    else self.stored(name)
                )
                total = [
                    t + Fraction(float(factor)) * x
                    for t, x in zip(total, row, strict=True)
                ]
        return total


def inverse(matrix):
    """Exact inverse of a symmetric matrix."""
    size = range(len(matrix))
    return [oracles.exact_solve(matrix, [Fraction(a == b) for b in size]) for a in size]


def rows_of(found):
    return oracles.fractions(getattr(found, "rows", getattr(found, "displaced", None)))


def raw_square(before, after) -> Fraction:
    return sum(
        ((b - a) ** 2)
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old, new, strict=True)
    )


def cheapest_threat(threat, cost):
    """The same kind of threat with just the claimed cost."""
    if isinstance(threat, WassersteinInfinity):
        return WassersteinInfinity(cost)
    if isinstance(threat, Moving):
        return dataclasses.replace(threat, threat=cheapest_threat(threat.threat, cost))
    if isinstance(threat, (Delete, Add, Replace)):
        return dataclasses.replace(threat, points=int(cost))
    return dataclasses.replace(threat, eps=cost)


def true_ones(seed, ridge):
    """Every kind of statement, or its opposite if it is not true, with its terms."""
    _, weights, targets, geometry, proof = problem(seed, ridge)
    for kind, (statement, u, v) in kinds(geometry, targets, weights).items():
        if decide(proof, statement, Wasserstein2(0.0)).status != "certified":
            statement = turned(statement)
            v = tuple([(-factor, index) for factor, index in part] for part in v)
        yield kind, statement, (u, v)


def turned(statement: Statement) -> Statement:
    """The opposite claim."""
    v = statement.v
    opposite = dataclasses.replace(
        v,
        vector=-v.vector,
        terms=tuple((-factor, index) for factor, index in v.terms),
    )
    return Statement("not so", statement.u, opposite)


def check(world, proof, statement, terms, threat):
    """One attack: nothing that it claims is more than the truth. What it claims."""
    found = ng.refute(proof, statement, threat)
    inside = getattr(found, "inside", None)
    if inside is None:
        inside = found.cost <= threat.eps
    assert not inside or world.is_inside(threat, found)
    if math.isfinite(found.cost) and found.cost > 0:
        assert world.is_inside(cheapest_threat(threat, found.cost), found) or (
            isinstance(threat, (Wasserstein1, Add, Replace, Moving)) and not inside
        )
    form = world.form(found, terms)
    assert not found.flips or form < 0
    # And nothing less, where the rounding terms are small.
    clear = abs(form) > 1e-9 * abs(found.gap_before)
    assert found.flips or form >= 0 or not clear or proof.eta > 1e-9
    # Compared with the size of what cancels in it.
    assert found.gap_after == pytest.approx(
        float(form), rel=1e-5, abs=1e-6 * abs(found.gap_before)
    )
    status = decide(proof, statement, threat).status
    assert not (status == "certified" and inside and form <= 0)
    return inside, found.flips, status


def census(seeds, ridges=(0.0, 0.2), sizes=(0.02, 1.0), names=()):
    """Every threat on every statement: how often each pair of them was broken."""
    broken: dict = {}
    for seed in seeds:
        for ridge in ridges:
            train, _, targets, _, proof = problem(seed, ridge)
            world = World(train, targets, ridge)
            for kind, statement, terms in true_ones(seed, ridge):
                for size in sizes:
                    for name, threat in made(size).items():
                        if names and name not in names:
                            continue
                        inside, flips, _ = check(world, proof, statement, terms, threat)
                        key = (name, kind)
                        broken[key] = broken.get(key, 0) + (inside and flips)
    return broken


def check_in_exact_arithmetic():
    broken = census([1], ridges=(0.1,), sizes=(1.0,))
    assert len(broken) == 10 * len(KINDS)
    assert sum(broken.values()) > 30


def check_some(*names):
    """A smaller census, of some threats alone."""
    census([1], sizes=(0.02, 1.0), names=names)


def test_every_attack_is_what_it_says_in_exact_arithmetic():
    check_in_exact_arithmetic()


@pytest.mark.slow
def test_every_threat_breaks_every_kind_of_statement():
    broken = census(range(6))
    assert not [key for key, count in broken.items() if not count]


# ------------------------------------------------ attacks that are not believed

SEARCHES = ("w1", "add", "replace", "winf", "moving", "moving, delete", "moving, raw")


def check_overshoot():
    """Searches that leave their threat by a tenth: not one is inside, or refutes."""
    train, _, targets, _, proof = problem(1, 0.0)
    world, flips = World(train, targets, 0.0), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "_MARGINS", (-0.1,))
        for module in (infinity_attack, moving_attack):
            patch.setattr(module, "_INSIDE", 1.1)
        for kind, statement, terms in list(true_ones(1, 0.0))[::3]:
            for name in SEARCHES:
                threat = made(1.0)[name]
                inside, flipped, _ = check(world, proof, statement, terms, threat)
                assert not inside, (kind, name)
                flips += flipped
                verdict = decide_or_refute(proof, statement, threat)
                assert verdict.status != "refuted"
    assert flips > 4


def test_what_leaves_the_threat_refutes_nothing():
    check_overshoot()


def check_with_a_wrong_whitener():
    """Eta near 0.1: the metric of R is not that of Q, and the costs must know it."""
    train, _, targets, geometry, _ = problem(1, 0.0)
    world, inside = World(train, targets, 0.0), 0
    proof = prove(dataclasses.replace(geometry, whitener=0.95 * geometry.whitener))
    assert 0.05 < proof.eta < 1
    for _, statement, terms in list(true_ones(1, 0.0))[1::2]:
        for name in ("w1", "add", "replace", "winf", "moving"):
            threat = made(1.0)[name]
            inside += check(world, proof, statement, terms, threat)[0]
    assert inside > 10


def test_costs_with_a_wrong_whitener_are_still_bounds():
    check_with_a_wrong_whitener()


def check_support():
    """With a whitener that is too small, whitened norms are smaller than true ones."""
    train, _, _, geometry, proof = problem(1, 0.0)
    wrong = prove(dataclasses.replace(geometry, whitener=0.95 * geometry.whitener))
    row, inverse = train[:1], np.linalg.inv(geometry.covariance)
    length = math.sqrt(row[0] @ inverse @ row[0])
    assert attacks._within(proof, row, 1.0001 * length)
    assert not attacks._within(proof, row, 0.9999 * length)
    assert not attacks._within(wrong, row, 0.9999 * length)


def test_a_support_is_measured_in_the_true_metric():
    check_support()


def check_count_of_changes():
    """More deletions than the threat allows are not inside it."""
    _, _, targets, geometry, proof = problem(1, 0.0)
    statement = statements.pair(geometry, targets, target=0, above=1, below=2)
    search = attacks._Search(proof, statement)
    search.delete()
    search.delete()
    for points, inside in ((1, False), (2, True)):
        found = attacks._checked(proof, statement, Delete(points), search)
        assert (found.inside, found.cost) == (inside, 2.0)


def test_the_number_of_changes_is_counted():
    check_count_of_changes()


def check_longest_move():
    """The target alone moves, or one example alone: either is the cost."""
    train, _, targets, geometry, proof = problem(1, 0.0)
    statement = statements.pair(geometry, targets, target=0, above=1, below=2)
    points, inverse = points_of(statement), np.linalg.inv(geometry.covariance)
    far, rows = points.features.copy(), train.copy()
    far[points.places < 0, 0] += 0.1
    rows[7, 0] += 0.2
    for moved, there, size in (
        (train, far, 0.1),
        (rows, points.features, 0.2),
        (rows, far, 0.2),
    ):
        cost = infinity_attack._cost(proof, points, moved, there)
        length = size * math.sqrt(inverse[0, 0])
        assert length < cost < length * (1 + 1e-9)


def test_the_order_infinity_cost_is_the_longest_move_of_anything():
    check_longest_move()


# --------------------------------------------------------------- hard problems


@pytest.mark.parametrize(("scale", "size"), [(1e-7, 1e-9), (1e7, 50.0), (1.0, 9.0)])
def test_hard_problems_never_make_a_false_refutation(scale, size):
    """Stretched by 1e5 along one axis, scaled, with tiny and huge threats."""
    rng = np.random.default_rng(3)
    train = rng.normal(size=(8, 2)) * [1.0, 1e-5] * scale
    targets = rng.normal(size=(1, 2)) * [1.0, 1e-5] * scale
    geometry = ng.natural_geometry(train, 0.0)
    world, proof = World(train, targets, 0.0), prove(geometry)
    statement = statements.pair(geometry, targets, target=0, above=1, below=2)
    terms = ([(1, 0)], []), ([], [(1, 1), (-1, 2)])
    if decide(proof, statement, Wasserstein2(0.0)).status != "certified":
        statement, terms = turned(statement), (terms[0], ([], [(-1, 1), (1, 2)]))
    refuted = 0
    for threat in made(size).values():
        verdict = decide_or_refute(proof, statement, threat)
        if verdict.status == "refuted":
            refuted += 1
            assert world.is_inside(threat, verdict.counterexample)
            assert world.form(verdict.counterexample, terms) < 0
    assert (refuted > 0) == (size > 1)


def check_both_groups(name):
    train, weights, targets, geometry, proof = problem(2, 0.0)
    claim = {"target": 0, "above": [1, 4], "below": [4]}
    statement = statements.group(geometry, targets, **claim)
    terms = ([(1, 0)], []), ([], [(weights[1], 1)])
    if decide(proof, statement, Wasserstein2(0.0)).status != "certified":
        statement = statements.group(
            geometry, targets, target=0, above=[4], below=[1, 4]
        )
        terms = ([(1, 0)], []), ([], [(-weights[1], 1)])
    threat = made(1.0)[name]
    check(World(train, targets, 0.0), proof, statement, terms, threat)
    found = ng.refute(proof, statement, threat)
    assert ("example", 4) in found.points
    side = weights[1] * found.points["example", 1]
    assert np.abs(found.right) == pytest.approx(np.abs(side))


@pytest.mark.parametrize("name", ["winf", "moving"])
def test_an_example_in_both_groups_moves_once_and_cancels(name):
    check_both_groups(name)


def check_between_proof_and_attack():
    """Under a ridge the best attack lies further out than the proof."""
    _, statement, _ = next(true_ones(0, 0.2))
    *_, proof = problem(0, 0.2)
    found = ng.refute(proof, statement, Wasserstein2(0.1))
    assert found.flips
    assert found.cost > 1.01 * found.radius
    for eps, status in (
        (found.radius, "certified"),
        (0.5 * (found.cost + found.radius), "undecided"),
        (found.cost, "refuted"),
    ):
        assert decide_or_refute(proof, statement, Wasserstein2(eps)).status == status


def test_between_proof_and_attack_nothing_is_known():
    check_between_proof_and_attack()


def test_the_order_infinity_attack_is_stronger_than_any_random_move():
    rng = np.random.default_rng(5)
    train, weights, targets, geometry, proof = problem(4, 0.1)
    natural, root = geometry.natural, geometry.factor
    for i, j in ((0, 1), (2, 3), (5, 4)):
        statement = statements.pair(geometry, targets, target=0, above=i, below=j)
        if decide(proof, statement, Wasserstein2(0.0)).status != "certified":
            i, j = j, i
            statement = statements.pair(geometry, targets, target=0, above=i, below=j)
        found = ng.refute(proof, statement, WassersteinInfinity(0.1))
        steps = rng.normal(size=(300, N + 1, 3))
        steps *= 0.1 / np.linalg.norm(steps, axis=2, keepdims=True)
        steps = steps @ root.T
        rows, target = train + steps[:, :N], targets[0] + steps[:, N]
        q = rows.transpose(0, 2, 1) @ rows / N + 0.1 * np.eye(3)
        v = weights[i] * rows[:, i] - weights[j] * rows[:, j]
        values = np.einsum("nk,nk->n", target, np.linalg.solve(q, v[..., None])[..., 0])
        drop = found.gap_before - found.gap_after
        assert drop > 1.3 * (found.gap_before - values.min()) > 0
    assert np.linalg.norm(natural, axis=1).max() < SUPPORT


# -------------------------------------------------------------------- refusals


@dataclasses.dataclass(frozen=True)
class Fire:
    """A threat that somebody else wrote."""

    def kappa(self, proof):
        return 2.0

    def describe(self):
        return "fire"


def test_what_cannot_be_attacked_is_refused_with_a_way_out():
    *_, proof = problem(2, 0.0)
    _, statement, _ = next(true_ones(2, 0.0))
    for threat in (Fire(), Moving(Fire(), 0.1, 0.1)):
        with pytest.raises(ArgumentError, match="Fire"):
            ng.refute(proof, statement, threat)
        assert decide_or_refute(proof, statement, threat).status == "undecided"
    bare = Statement("bare", Combination(np.ones(3), 0.0), Combination(np.ones(3), 0.0))
    for threat in (WassersteinInfinity(0.1), Moving(Wasserstein2(0.1), 0.1, 0.1)):
        with pytest.raises(DataError, match="does not name its points"):
            ng.refute(proof, bare, threat)
        with pytest.raises(DataError, match="nothing to refute"):
            ng.refute(proof, turned(statement), threat)


def test_rankings_take_a_statement_instead_of_a_pair():
    _, _, targets, geometry, _ = problem(1, 0.0)
    order = ng.certify_rankings(geometry, targets, WassersteinInfinity(0.3))
    for _, statement, _ in true_ones(1, 0.0):
        verdict = order.verdict(statement, attack=True)
        assert verdict.claim == statement.claim
        found = order.refute(statement)
        assert (verdict.status == "refuted") == (found.flips and found.inside)
    for wrong in ({}, {"statement": statement, "target": 0}, {"target": 0, "above": 1}):
        for ask in (order.verdict, order.refute):
            with pytest.raises(ArgumentError, match="target"):
                ask(**wrong)
