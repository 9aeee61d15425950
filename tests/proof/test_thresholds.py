"""Thresholds of files against the printed formulas, and against the engine's own."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify.moving import add_angles
from natgeo.certify.verdict import decide
from natgeo.proof import thresholds
from natgeo.proof.claims import ExactCheck
from natgeo.proof.data import Data
from natgeo.proof.document import Claim
from natgeo.proof.exact import root_above
from tests import oracles
from tests.proof import cases

SINES = (0.0, 1e-9, 0.1, 0.5, math.sqrt(0.5), 0.9, 1.0)


def check_sums():
    """sin^2(x + y + z) from above and closely; None from a right angle on."""
    for sines in itertools.product(SINES, repeat=3):
        angle = sum(math.asin(sine) for sine in sines)
        found = thresholds.added_square([Fraction(sine) ** 2 for sine in sines])
        if angle > math.pi / 2 + 1e-6:
            assert found is None
        elif angle < math.pi / 2 - 1e-6:
            assert 0 <= float(found) - math.sin(angle) ** 2 < 1e-12 or math.isclose(
                float(found), math.sin(angle) ** 2, rel_tol=1e-14
            )
    # From above by more than rounding can hide.
    square = Fraction(1, 3)
    found = thresholds.added_square([square, square])
    assert found >= 4 * square * (1 - square)


def check_ridge():
    """T from above, and not by much."""
    for eps, share in itertools.product(
        (1e-9, 0.01, 0.3, 0.9), (0.0, 1e-9, 0.2, 1.0, 2.0)
    ):
        exact = oracles.ridge_threshold(eps, Fraction(share))
        found = root_above(thresholds.ridge_square(Fraction(eps), Fraction(share)))
        assert exact * (1 - Fraction(1, 2**200)) <= found
        assert found <= exact * (1 + Fraction(1, 2**50)) + Fraction(1, 2**60)


def exact_check(order):
    """A checker of the data of some rankings, without a file."""
    rows = dict(enumerate(np.asarray(order.targets)))

    class Certificate:
        rows = order.geometry.train.shape[0]
        width = order.geometry.width
        ridge = order.geometry.ridge
        floor = order.geometry.ridge

    return ExactCheck(Certificate(), Data(order.geometry.train, rows))


def check_reach():
    """How far both sides of every kind of statement move, by their coefficients."""
    order = cases.rankings(3, ridge=1.0)
    order.geometry.weights[:4] *= -1  # signs must not cancel
    check = exact_check(order)
    check._data.__dict__["weights"] = order.geometry.weights
    threat = {"kind": "moving", "eps": 0.0, "target": 0.25, "examples": 0.125}

    class Side:
        def turn_square(self, distance):
            return distance

    for statement in cases.statements(order):
        claim = Claim(statement.about, threat, (0, 0))
        found = check._turns(claim, Side(), Side())
        for side, got in zip((statement.u, statement.v), found, strict=True):
            want = 0.25 * side.of_targets + 0.125 * side.of_examples
            if side.of_examples and side is statement.v and "above" in statement.about:
                want = wanted(order, statement, want)
            assert float(got) == pytest.approx(want, rel=1e-9)


def wanted(order, statement, otherwise):
    """With the weights as they are now, which the statement was not made from."""
    about = statement.about
    if about["kind"] not in ("pair", "group"):
        return otherwise
    named = (
        np.atleast_1d(about["above"]).tolist() + np.atleast_1d(about["below"]).tolist()
    )
    return 0.125 * sum(abs(float(order.geometry.weights[i])) for i in named)


CHECKS = (check_sums, check_ridge, check_reach)


@pytest.mark.parametrize("check", CHECKS)
def test_it_holds(check):
    check()


def test_angles_add_as_in_the_engine():
    for first, second in itertools.product(SINES, SINES):
        ours = thresholds.added_square([Fraction(first) ** 2, Fraction(second) ** 2])
        theirs = add_angles(first, second)
        if ours is None:
            assert theirs == math.inf
        else:
            assert math.sqrt(ours) == pytest.approx(theirs, rel=1e-9, abs=1e-15)


MOVED = (
    ng.threats.Moving(ng.threats.Wasserstein2(0.01), target=0.02, examples=0.1),
    ng.threats.Moving(ng.threats.Wasserstein2(0.0), target=0.0, examples=0.3),
    ng.threats.WassersteinInfinity(0.03),
    ng.threats.Euclidean2(0.01),
)


@pytest.mark.parametrize("threat", MOVED, ids=repr)
def test_files_hold_what_the_engine_certifies(tmp_path, threat):
    """Every certified statement goes into a file; nothing is lost on the way."""
    order = cases.rankings(4, ridge=0.02)
    claims = [
        (one, threat)
        for one in cases.statements(order)
        if decide(order.proof, one, threat).status == "certified"
    ]
    report = ng.write_certificate(tmp_path / "c", order, claims)
    assert report.status == "valid"
    assert len(report.findings) == len(claims) > 3
