"""Attacks that move the evaluated points together with the training distribution.

In natural coordinates u and v first turn away from each other, each as far as its
points may move; then the covariance is attacked under the threat beside it; then the
points follow the gradient of the form under the covariance that was found, and so on.
Nothing found here is believed: that every point stays within its distance, that the
training set is inside its threat and that the displaced form is negative are proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from natgeo.certify import attacks, euclidean_attack
from natgeo.certify.moving import Moving
from natgeo.certify.points import Name, Points, points_of, travel
from natgeo.certify.rounding import Proof
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Euclidean2, Wasserstein2
from natgeo.certify.witness import Counterexample, strongest
from natgeo.errors import DataError

_INSIDE = 1 - 1e-7  # of a distance, so that rounding stays inside
_ROUNDS = 3


@dataclass(frozen=True, eq=False, repr=False)
class MovedCounterexample(attacks.DataCounterexample):
    """A displaced training set and displaced points of a statement.

    Attributes:
        left: u after the move, raw features, [K].
        right: v after the move, [K].
        points: where each point of the statement went, raw features [K] by kind
            (`target` or `example`) and index.
    """

    left: np.ndarray
    right: np.ndarray
    points: Mapping[Name, np.ndarray]


def attack(
    proof: Proof, statement: Statement, threat: Moving
) -> MovedCounterexample | None:
    """Tries to break a statement while its points move; None if nothing can be shown.

    That is for statements that do not name their points, for a threat beside them that
    has no attack, and where float64 holds no covariance of the displaced features.

    Args:
        proof: the rounding proof of the stored features.
        statement: from `natgeo.certify.statements`.
        threat: `Moving`; `WassersteinInfinity` has its own attack, and what is found
            here is never `inside` it.
    """
    points = points_of(statement)
    if points is None or not proof.holds:
        return None
    found = None
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for found in _tries(proof, statement, points, threat):
                if found.flips and found.inside:
                    break
    except (DataError, np.linalg.LinAlgError):
        return found
    return found


def _tries(
    proof: Proof, statement: Statement, points: Points, threat: Moving
) -> Iterator[MovedCounterexample]:
    geometry = proof.geometry
    far = _INSIDE * points.limits(threat.target, threat.examples)
    stored = points.features @ geometry.whitener.T
    now = _apart(points, stored, far)
    for _ in range(_ROUNDS):
        raw = _placed(proof, points, (now - stored) @ geometry.factor.T, far)
        moved = points.statement(statement.claim, raw)
        found = _beside(proof, moved, threat.threat)
        if found is None:
            return
        yield _joined(proof, statement, threat, (points, raw, moved), found)
        rows = found.displaced if isinstance(found, Counterexample) else found.rows
        # By the stored N: rows of zeros that fill up do not count.
        moment = rows.T @ rows / len(geometry.natural)
        moment = moment + geometry.ridge * np.eye(geometry.width)
        m = np.linalg.inv(geometry.whitener @ moment @ geometry.whitener.T)
        now = _followed(points, stored, now, far, m)


def _placed(
    proof: Proof, points: Points, steps: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """Raw points after their steps, shorter where rounding took one too far, [P, K]."""
    raw = points.features + steps
    reached = travel(proof, raw - points.features)
    share = np.divide(far, reached, out=np.ones_like(far), where=reached > far)
    return points.features + share[:, None] * steps


def _apart(points: Points, stored: np.ndarray, far: np.ndarray) -> np.ndarray:
    """The points moved so that the two sides turn away from each other, [P, K]."""
    if points.shared:
        return _followed(points, stored, stored, far, np.eye(stored.shape[1]))
    u, v = points.left @ stored, points.right @ stored
    reach = [float(np.abs(side) @ far) for side in (points.left, points.right)]
    a = _turned(u, v, reach[0])
    b = v if a @ v < 0 else _turned(v, u, reach[1])  # once over is enough
    now = stored.copy()
    for factors, step, length in (
        (points.left, a - u, reach[0]),
        (points.right, b - v, reach[1]),
    ):
        if length > 0:
            now += np.outer(np.sign(factors) * far / length, step)
    return now


def _followed(
    points: Points,
    stored: np.ndarray,
    now: np.ndarray,
    far: np.ndarray,
    m: np.ndarray,
) -> np.ndarray:
    """The points after they followed the gradient of u^T M v under a fixed M, [P, K].

    Each is as far as it may go, against the gradient that the others leave.
    """
    for _ in range(4):
        a, b = m @ (points.left @ now), m @ (points.right @ now)
        slope = np.outer(points.left, b) + np.outer(points.right, a)
        now = stored - far[:, None] * np.array([_unit(row) for row in slope])
    return now


def _beside(
    proof: Proof, moved: Statement, base: object
) -> Counterexample | attacks.DataCounterexample | None:
    """The strongest attack of the covariance on a statement that has moved."""
    if isinstance(base, Euclidean2):
        return euclidean_attack.strongest(proof, moved, base, _INSIDE)
    if not isinstance(base, Wasserstein2):
        return attacks.attack(proof, moved, base)  # type: ignore[arg-type]
    found = strongest(proof, moved, _INSIDE * base.eps)
    if base.eps < found.cost < math.inf:  # rounding took it outside
        found = strongest(proof, moved, _INSIDE * base.eps * (base.eps / found.cost))
    return found


def _joined(
    proof: Proof,
    statement: Statement,
    threat: Moving,
    place: tuple[Points, np.ndarray, Statement],
    found: Counterexample | attacks.DataCounterexample,
) -> MovedCounterexample:
    """What was found, with the moves of the points proven too."""
    geometry, (points, raw, moved) = proof.geometry, place
    if isinstance(found, Counterexample):
        rows, changed = found.displaced, np.arange(len(found.displaced))
        inside = isinstance(threat.threat, Wasserstein2) and (
            found.cost <= threat.threat.eps
        )
    else:
        rows, changed, inside = found.rows, found.changed, found.inside
    limits = points.limits(threat.target, threat.examples)
    within = (travel(proof, raw - points.features) <= limits).all()
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
        # What is narrower than the moves of `Moving` is not what was attacked.
        inside=bool(inside and type(threat) is Moving and within),
        flips=found.flips,
        cost=found.cost,
        left=moved.u.vector,
        right=moved.v.vector,
        points=dict(zip(points.names, raw, strict=True)),
    )


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
