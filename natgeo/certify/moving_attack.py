"""Attacks that move the evaluated points together with the training distribution.

In natural coordinates u and v first turn away from each other, each as far as its
points may move; then the covariance is attacked under the threat beside it; then the
points follow the gradient of the form under the covariance that was found, and so on.
Nothing found here is believed: that every point stays within its distance, that the
training set is inside its threat and that the displaced form is negative are proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from natgeo.certify import attacks
from natgeo.certify.bounds import U, row_norms, upward
from natgeo.certify.moving import Moving
from natgeo.certify.rounding import Proof
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.witness import Counterexample, strongest
from natgeo.errors import DataError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore

_INSIDE = 1 - 1e-7  # of a distance, so that rounding stays inside
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class MovedCounterexample(attacks.DataCounterexample):
    """A displaced training set and displaced sides of a statement.

    Every target of u moves by the same vector (times the sign of its coefficient), and
    so does every example of v; the vectors add up to the displacement of the sides.

    Attributes:
        left: u after the move, raw features, [K].
        right: v after the move, [K].
    """

    left: np.ndarray
    right: np.ndarray


def attack(
    proof: Proof, statement: Statement, threat: Moving
) -> MovedCounterexample | None:
    """Tries to break a statement while its points move; None if nothing can be shown.

    That is for statements whose sides share points (self-influence), for which no
    attack is known, and where float64 holds no covariance of the displaced features.

    Args:
        proof: the rounding proof of the stored features.
        statement: from `natgeo.certify.statements`.
        threat: `Moving`. Under `WassersteinInfinity`, where the examples of a statement
            move with the training set and no example further than any other, what is
            found is in the ball that covers it and never `inside`.
    """
    apart = statement.u.of_examples == 0 and statement.v.of_targets == 0
    if not (apart and proof.holds):
        return None
    found = None
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for found in _tries(proof, statement, threat):
                if found.flips and found.inside:
                    break
    except (DataError, np.linalg.LinAlgError):
        return found
    return found


def _tries(
    proof: Proof, statement: Statement, threat: Moving
) -> Iterator[MovedCounterexample]:
    geometry = proof.geometry
    raw = statement.u.vector, statement.v.vector
    far = [_INSIDE * threat.moves(side) for side in (statement.u, statement.v)]
    u, v = (geometry.whitener @ side for side in raw)
    a = _turned(u, v, far[0])
    b = v if a @ v < 0 else _turned(v, u, far[1])  # once over is enough
    for _ in range(_ROUNDS):
        left, right = (
            side + geometry.factor @ (moved - stored)
            for side, moved, stored in zip(raw, (a, b), (u, v), strict=True)
        )
        moved = Statement(
            statement.claim, Combination(left, 0.0), Combination(right, 0.0)
        )
        found = _beside(proof, moved, threat)
        if found is None:
            return
        yield _joined(proof, statement, threat, moved, found)
        if not isinstance(found, Counterexample):
            return
        after = natural_geometry(MemoryStore(found.displaced), geometry.ridge)
        inverse = geometry.whitener @ after.covariance @ geometry.whitener.T
        m = np.linalg.inv(inverse)
        for _ in range(4):  # each follows the gradient that the other leaves
            a, b = u - far[0] * _unit(m @ b), v - far[1] * _unit(m @ a)


def _beside(
    proof: Proof, moved: Statement, threat: Moving
) -> Counterexample | attacks.DataCounterexample | None:
    """The strongest attack of the covariance on a statement that has moved."""
    base = threat.threat
    if isinstance(base, Wasserstein2):
        return strongest(proof, moved, _INSIDE * base.eps)
    return attacks.attack(proof, moved, base)


def _joined(
    proof: Proof,
    statement: Statement,
    threat: Moving,
    moved: Statement,
    found: Counterexample | attacks.DataCounterexample,
) -> MovedCounterexample:
    """What was found, with the moves of the points proven too."""
    geometry = proof.geometry
    if isinstance(found, Counterexample):
        rows, changed = found.displaced, np.arange(len(found.displaced))
        inside = isinstance(threat.threat, Wasserstein2) and (
            found.cost <= threat.threat.eps
        )
    else:
        rows, changed, inside = found.rows, found.changed, found.inside
    return MovedCounterexample(
        claim=statement.claim,
        threat=threat.describe(),
        rows=rows,
        changed=changed,
        gap_before=float(
            statement.u.vector
            @ np.linalg.solve(geometry.covariance, statement.v.vector)
        ),
        gap_after=found.gap_after,
        inside=inside
        # What is narrower than the moves of `Moving` is not what was attacked.
        and type(threat) is Moving
        and _within(proof, statement.u, moved.u, threat)
        and _within(proof, statement.v, moved.v, threat),
        flips=found.flips,
        left=moved.u.vector,
        right=moved.v.vector,
    )


def _within(
    proof: Proof, stored: Combination, moved: Combination, threat: Moving
) -> bool:
    """Whether a side is proven to have moved no further than its points may."""
    step = (moved.vector - stored.vector)[None]
    # The subtraction rounds, and the stored side is itself a little off.
    formation = U * row_norms(step) + stored.formation
    travel = proof.whiten(step, formation).true_norms[0]
    stretch = upward(1 / np.sqrt(1 - proof.eta))
    # A lower bound of what is allowed: coefficients are bounded from above.
    allowed = threat.moves(stored) * (1 - 2.0**-30)
    return bool(upward(travel * stretch) <= allowed) or not step.any()


def _turned(side: np.ndarray, other: np.ndarray, far: float) -> np.ndarray:
    """The side moved by `far`, or less, so that it turns away from the other."""
    size = float(np.linalg.norm(side))
    sine = min(far / size, 1.0) if size > 0 else 0.0
    away = side * (float(side @ other) / size**2) - other if size > 0 else -other
    turned = math.sqrt(1 - sine * sine) * side / max(size, 1e-300) + sine * _unit(away)
    return side + far * _unit(turned * size * math.sqrt(1 - sine * sine) - side)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else np.zeros_like(vector)
