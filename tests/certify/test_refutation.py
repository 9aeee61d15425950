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
    euclidean_attack,
    infinity_attack,
    moving_attack,
    statements,
)
from natgeo.certify.points import points_of
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
        self.q = oracles.exact_covariance(train, ridge)
        self.inverse = np.linalg.inv(oracles.covariance(train, ridge))

    def square(self, before, after) -> Fraction:
        """Squared natural distance."""
        step = [b - a for a, b in zip(before, after, strict=True)]
        return oracles.exact_form(self.q, step, step) if any(step) else Fraction(0)

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
        return all(oracles.exact_form(self.q, row, row) <= square for row in rows)

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
        together = all(rows[i] == row for (k, i), row in points.items() if k != "target")
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
    train, weights, targets, geometry, proof = problem(seed, ridge)
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
    # Compared with the size of what cancels in it.
    assert found.gap_after == pytest.approx(
        float(form), rel=1e-5, abs=1e-6 * abs(found.gap_before)
    )
    status = decide(proof, statement, threat).status
    assert not (status == "certified" and inside and form <= 0)
    return inside, found.flips, status


def census(seeds, ridges=(0.0, 0.2), sizes=(0.02, 1.0), names=None):
    """Every threat on every statement: how often each pair of them was broken."""
    broken: dict = {}
    for seed in seeds:
        for ridge in ridges:
            train, _, targets, _, proof = problem(seed, ridge)
            world = World(train, targets, ridge)
            for kind, statement, terms in true_ones(seed, ridge):
                for size in sizes:
                    for name, threat in made(size).items():
                        if names is not None and name not in names:
                            continue
                        inside, flips, _ = check(world, proof, statement, terms, threat)
                        key = (name, kind)
                        broken[key] = broken.get(key, 0) + (inside and flips)
    return broken


def test_every_attack_is_what_it_says_in_exact_arithmetic():
    broken = census([1], sizes=(1.0,))
    assert len(broken) == 10 * len(KINDS)
    assert sum(broken.values()) > 60


@pytest.mark.slow
def test_every_threat_breaks_every_kind_of_statement():
    broken = census(range(6))
    assert not [key for key, count in broken.items() if not count]
