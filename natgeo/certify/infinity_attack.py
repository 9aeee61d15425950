"""An attack inside the order-infinity ball: everything moves a little, together.

Every training example moves by at most eps, the examples that the statement names move
with the training set (they are its rows), and so does every target. In natural
coordinates, with a = M u and b = M v, the gradient of u^T M v is

    -(1/N) (a (b.w_k) + b (a.w_k)) + right_k a + left_k b     in example k,
    left_p b + right_p a                                      in target p,

and the best step to first order takes each of them eps along its own gradient. From
there it goes on, always towards the best corner of the ball for the present gradient
(Frank and Wolfe's method), as long as the form falls. Nothing found here is believed:
the longest move, the moved sides and the flip are proven from the displaced rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from natgeo.certify.moving_attack import MovedCounterexample
from natgeo.certify.points import Points, points_of, travel
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.statements import Statement
from natgeo.certify.threats import WassersteinInfinity
from natgeo.certify.verdict import gap_is_negative
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore

_INSIDE = 1 - 1e-9  # of eps, so that rounding stays inside
_ROUNDS, _HALVINGS = 24, 5
_ENOUGH = 1e-3  # of the form: a round that gains less is the last


def attack(
    proof: Proof, statement: Statement, threat: WassersteinInfinity
) -> MovedCounterexample | None:
    """Tries to break a statement inside the ball; None for one without known points.

    Args:
        proof: the rounding proof of the stored features.
        statement: from `natgeo.certify.statements`.
        threat: the ball.

    Raises:
        DataError: where float64 holds no covariance of the displaced features.
    """
    points = points_of(statement)
    if points is None:
        return None
    found = _Search(proof, points).run(threat.target * _INSIDE)
    rows, moved = _built(proof, points, found, 1.0)
    cost = _cost(proof, points, rows, moved)
    if threat.target < cost < math.inf:  # rounding took it outside: a little shorter
        rows, moved = _built(proof, points, found, threat.target / cost * _INSIDE)
        cost = _cost(proof, points, rows, moved)
    return _checked(proof, statement, threat, points, (rows, moved, cost))


@dataclass(frozen=True, eq=False)
class _World:
    """A training set and the targets of a statement, in natural coordinates.

    Attributes:
        rows: training examples, [N, K].
        targets: the targets, [T, K].
    """

    rows: np.ndarray
    targets: np.ndarray

    def towards(self, other: _World, share: float) -> _World:
        """A share of the way to another world; a ball holds all of the way."""
        return _World(
            self.rows + share * (other.rows - self.rows),
            self.targets + share * (other.targets - self.targets),
        )


class _Search:
    """The form u^T M v of a world, and the way down."""

    def __init__(self, proof: Proof, points: Points):
        geometry = proof.geometry
        self._left, self._right = points.left, points.right
        self._place = points.places
        targets = points.features[points.places < 0] @ geometry.whitener.T
        self.stored = _World(geometry.natural, targets)
        self._rest = np.eye(geometry.width) - self._moment(self.stored)

    def run(self, eps: float) -> _World:
        """The world with the least form that was found within eps of the stored one."""
        now = self.stored
        value = first = self._value(now)
        for _ in range(_ROUNDS):
            corner, share = self._corner(now, eps), 1.0
            for _ in range(_HALVINGS):
                tried = now.towards(corner, share)
                lower = self._value(tried)
                if lower < value:
                    break
                share /= 2
            if not lower < value:
                break
            gain, now, value = value - lower, tried, lower
            if gain < _ENOUGH * abs(first):
                break
        return now

    def _value(self, world: _World) -> float:
        (u, _), (_, b) = self._sides(world)
        return float(u @ b)

    def _corner(self, world: _World, eps: float) -> _World:
        """Where the ball reaches furthest against the gradient."""
        _, (a, b) = self._sides(world)
        rows = np.outer(world.rows @ b, a) + np.outer(world.rows @ a, b)
        rows /= -len(world.rows)
        own = np.outer(self._left, b) + np.outer(self._right, a)
        named = self._place >= 0
        rows[self._place[named]] += own[named]
        return _World(
            self.stored.rows - eps * _directions(rows),
            self.stored.targets - eps * _directions(own[~named]),
        )

    def _sides(self, world: _World) -> tuple[np.ndarray, np.ndarray]:
        """Both sides u and v, and M u and M v, [2, K] each."""
        named = self._place >= 0
        points = np.empty((len(self._place), world.rows.shape[1]))
        points[named] = world.rows[self._place[named]]
        points[~named] = world.targets
        sides = np.stack([self._left @ points, self._right @ points])
        inverse = self._rest + self._moment(world)
        return sides, np.linalg.solve(inverse, sides.T).T

    @staticmethod
    def _moment(world: _World) -> np.ndarray:
        return np.asarray(world.rows.T @ world.rows / len(world.rows))


def _directions(rows: np.ndarray) -> np.ndarray:
    """Every row divided by its length; rows of zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _built(
    proof: Proof, points: Points, found: _World, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Raw training features [N, K] and points [P, K], `share` of the way there."""
    geometry = proof.geometry
    stored = np.concatenate([np.float64(b) for b in geometry.train.blocks(4096)])
    step = share * (found.rows - geometry.natural)
    rows = stored + step @ geometry.factor.T
    named = points.places >= 0
    moved = points.features.copy()
    natural = moved[~named] @ geometry.whitener.T
    moved[~named] += share * (found.targets - natural) @ geometry.factor.T
    moved[named] = rows[points.places[named]]
    return rows, moved


def _cost(proof: Proof, points: Points, rows: np.ndarray, moved: np.ndarray) -> float:
    """Upper bound of the longest natural move of any example or target."""
    # np.maximum keeps NaN, which is never inside.
    longest = travel(proof, moved - points.features).max()
    start = 0
    for block in proof.geometry.train.blocks(4096):
        stored = np.asarray(block, np.float64)
        step = rows[start : start + len(stored)] - stored
        longest = np.maximum(longest, travel(proof, step).max())
        start += len(stored)
    return float(longest)


def _checked(
    proof: Proof,
    statement: Statement,
    threat: WassersteinInfinity,
    points: Points,
    built: tuple[np.ndarray, np.ndarray, float],
) -> MovedCounterexample:
    """Recomputes everything from the displaced rows and points."""
    rows, moved, cost = built
    after = natural_geometry(MemoryStore(rows), proof.geometry.ridge)
    there = points.statement(statement.claim, moved)
    u, v = statement.u.vector, statement.v.vector
    left, right = there.u.vector, there.v.vector
    return MovedCounterexample(
        claim=statement.claim,
        threat=threat.describe(),
        rows=rows,
        changed=np.arange(len(rows)),
        gap_before=float(u @ np.linalg.solve(proof.geometry.covariance, v)),
        gap_after=float(left @ np.linalg.solve(after.covariance, right)),
        inside=cost <= threat.target,
        flips=gap_is_negative(prove(after), there),
        cost=cost,
        left=left,
        right=right,
        points=dict(zip(points.names, moved, strict=True)),
    )
