"""Threats under which the evaluated points move as well (certificates.md, section 5).

Let the reachable covariances turn a right angle by at most K, sin K = kappa, and let u
and v turn by at most a and b. Angles add, so u'^T M v' > 0 for all of them if

    theta + a + b + K < pi/2,    that is    c = cos theta > sin(K + a + b).

A point that moves a natural distance d from u turns by at most asin(d / |u|), d < |u|.
No angle is computed: sin(x + y) = sin x cos y + cos x sin y rises with both sines as
long as x + y <= pi/2, which is sin^2 x + sin^2 y <= 1 and is decided in rationals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import numpy as np

from natgeo import checks
from natgeo.certify.bounds import norm_from_below, upward
from natgeo.certify.rounding import Proof
from natgeo.certify.statements import Combination, Statement
from natgeo.display import given
from natgeo.errors import ArgumentError
from natgeo.types import Threat


@dataclass(frozen=True)
class Moving:
    """A threat to the covariance while the points of the statement move too.

    Certified if theta + asin(d_u / |u|) + asin(d_v / |v|) + K < pi/2 with sin K the
    kappa of the threat; for the order-2 ball K = 2 asin(eps / sqrt 2). How far u and v
    move follows from the statement: each of its points moves on its own, so d is the
    sum over its terms of |coefficient| times what that point may move. That is
    d_u = target and d_v = (|r_i| + |r_j|) examples for a pair, |r_i| examples for a
    proponent, the sum of |r| examples for groups, d_u = 2 target for two targets, and
    2 examples on both sides for self-influence. Residual weights stay as they are.

    It depends on the statement, so it has no kappa of its own. Verdicts, counts, ranks,
    top-k sets and score ranges of `Rankings` know it, at the cost of a float64 sweep
    without a screen; ensembles do not, since one move is a different one in the metric
    of every checkpoint. All that is certified holds at once, for one displaced world.
    The bound under a ridge is not used.

    Args:
        threat: what happens to the training distribution.
        target: how far each target may move, in natural distance.
        examples: how far each training example that the statement names may move.

    Raises:
        ArgumentError: for a distance that is negative, not finite or not a number.
    """

    threat: Threat
    target: float
    examples: float

    def __post_init__(self) -> None:
        for name in ("target", "examples"):
            value = checks.nonnegative(name, getattr(self, name))
            object.__setattr__(self, name, value)

    def kappa(self, proof: Proof) -> NoReturn:
        """Refused: no number serves all statements.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(
            "When evaluated points move, what is certified depends on the statement, "
            "not on its cosine alone: use kappa_for(proof, statement), or verdicts and "
            "counts of certify_rankings."
        )

    def kappa_for(self, proof: Proof, statement: Statement) -> float:
        """An upper bound of sin(K + a + b); infinite if the angles reach pi/2."""
        sine = float(self.threat.kappa(proof))
        for side in (statement.u, statement.v):
            sine = add_angles(sine, self._turn(proof, side))
        return sine

    def moves(self, side: Combination) -> float:
        """Upper bound of how far one side of a statement can move."""
        parts = [
            coefficients * distance
            for coefficients, distance in (
                (side.of_targets, self.target),
                (side.of_examples, self.examples),
            )
            if distance > 0
        ]
        return float(upward(math.fsum(parts))) if parts else 0.0

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"{self.threat.describe()}, while every target may move by natural "
            f"distance {given(self.target)} and every training example that the claim "
            f"names by {given(self.examples)}"
        )

    def _turn(self, proof: Proof, side: Combination) -> float:
        """Upper bound of the sine of the angle by which one side can turn."""
        moves = self.moves(side)
        if moves == 0:
            return 0.0
        if not proof.holds:
            return math.inf
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            whitened = proof.whiten(side.vector[None], side.formation)
            # |u|^2 = u^T Q^-1 u >= |Ru|^2 / (1 + eta), see rounding.py.
            long = norm_from_below(whitened.rows[0]) - whitened.errors[0]
            stretch = upward(np.sqrt(1 + proof.eta))
            turn = float(upward(np.float64(moves) * stretch / long))
        return turn if long > 0 and turn < 1 else math.inf


def add_angles(first: float, second: float) -> float:
    """Upper bound of sin(x + y) from sin x and sin y; infinite from x + y = pi/2 on."""
    if not (0 <= first < 1 and 0 <= second < 1):
        return math.inf
    squares = Fraction(first) ** 2 + Fraction(second) ** 2
    if squares >= 1:
        return math.inf
    if 0 in (first, second):
        return max(first, second)
    # 1 - s^2 = (1 - s)(1 + s) has no cancellation: four roundings at most.
    cosines = [math.sqrt((1 - s) * (1 + s)) for s in (first, second)]
    return float(upward(first * cosines[1] + second * cosines[0]))
