"""Counterexamples: an explicit perturbed training set in which a statement is false.

The closed-form witness moves every training feature by one linear map in natural
coordinates and costs exactly eps when the ridge is zero (certificates.md, section 3).
With a ridge the same map is the start of an attack that climbs the gradient inside the
ball; each step keeps the displacement of rank two, so a step costs two K x K products
with vectors. Nothing found here is believed: the displaced features are built, their
covariance is recomputed, and the flip is proven with the error terms of the verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import U, norm, row_norms, upward
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.statements import Statement
from natgeo.certify.verdict import gap_is_negative
from natgeo.errors import DataError
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.store.memory import MemoryStore

_LARGEST = 2.0  # no attack looks further than this radius
_STEPS = 60
_SWAP = np.eye(4)[[2, 3, 0, 1]]


@dataclass(frozen=True, eq=False)
class Displacement:
    """The map w -> w + X (Y^T w) of natural features, of rank at most two.

    Attributes:
        left: X, [K, 2].
        right: Y, [K, 2].
    """

    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A perturbed training set and what it does to a statement.

    Attributes:
        claim: the statement in words.
        cost: proven upper bound of the order-2 natural Wasserstein distance between the
            stored and the displaced training features.
        radius: the certified radius it was searched from.
        gap_before: u^T Q^-1 v on the stored features (positive: the claim holds).
        gap_after: the same with the covariance of the displaced features.
        flips: whether gap_after < 0 is proven, with rounding included.
        displaced: the displaced training features, [N, K], float64.
    """

    claim: str
    cost: float
    radius: float
    gap_before: float
    gap_after: float
    flips: bool
    displaced: np.ndarray

    def __repr__(self) -> str:
        outcome = "flips" if self.flips else "does not flip"
        return (
            f"Counterexample({outcome} at cost {self.cost:.6g}, certified to "
            f"{self.radius:.6g}; gap {self.gap_before:.3g} -> {self.gap_after:.3g})"
        )


def counterexample(
    proof: Proof, statement: Statement, radius: float, *, precision: float = 1e-6
) -> Counterexample:
    """Searches for the cheapest perturbed training set that breaks a statement.

    With zero ridge the result costs `radius` up to `precision`, which proves that the
    radius cannot be improved. With a ridge the search bisects over the radius of the
    attack, and what it finds is an upper bound of the true breaking radius.

    Args:
        proof: the rounding proof of the stored features.
        statement: a statement that is true of the stored features.
        radius: its certified radius; the search starts just outside.
        precision: relative distance outside the radius, and of the bisection.

    Raises:
        DataError: if the statement is not true of the stored features to begin with.
    """
    geometry = proof.geometry
    u = geometry.whitener @ statement.u.vector
    v = geometry.whitener @ statement.v.vector
    if not float(u @ v) > 0:
        raise DataError(
            f"There is nothing to refute: it is not true of the stored data that "
            f"{statement.claim}."
        )
    attack = Attack(geometry.natural, u, v)
    high, found = cheapest(attack, radius, _LARGEST, precision)
    best = _checked(proof, statement, radius, found)
    # The flip may be too small to prove: step outwards until it is, at most 1 %.
    factor = precision
    while not best.flips and best.gap_after < 0.1 * best.gap_before and factor < 1e-2:
        best = _checked(proof, statement, radius, attack.run(high * (1 + factor)))
        factor *= 4
    return best


def cheapest(
    attack: Attack, radius: float, largest: float, precision: float
) -> tuple[float, Displacement]:
    """The least cost at which an attack breaks its form, and how; by bisection.

    Args:
        attack: the attack.
        radius: where to start.
        largest: the cost at which to give up; the attack then breaks nothing.
        precision: relative distance outside the radius, and of the bisection.
    """
    low, high = radius, max(radius, 1e-300) * (1 + precision)
    found = attack.run(high)
    while attack.value(found) >= 0 and high < largest:
        low, high = high, min(largest, high + 2 * (high - low))
        found = attack.run(high)
    while attack.value(found) < 0 and high - low > max(precision, 1e-12) * high:
        middle = (low + high) / 2
        tried = attack.run(middle)
        low, high, found = (
            (low, middle, tried) if attack.value(tried) < 0 else (middle, high, found)
        )
    return high, found


def strongest(proof: Proof, statement: Statement, eps: float) -> Counterexample:
    """The displacement of cost eps that leaves the least of a statement's form.

    Args:
        proof: the rounding proof of the stored features.
        statement: it need not be true of the stored features.
        eps: cost.
    """
    u = proof.geometry.whitener @ statement.u.vector
    v = proof.geometry.whitener @ statement.v.vector
    found = Attack(proof.geometry.natural, u, v).run(eps)
    return _checked(proof, statement, eps, found)


def closed_form(u: np.ndarray, v: np.ndarray, eps: float) -> Displacement:
    """The optimal displacement at zero ridge (certificates.md, section 3).

    With e1, e2 the unit bisectors of u and v, t = sqrt(2 - eps^2) and
    a = pi/4 - asin(eps / sqrt 2), it scales e1 by t cos a and e2 by t sin a; its cost
    is eps. Parallel u and v have no second bisector and cannot be flipped.

    Args:
        u: natural features of one side, [K], not zero.
        v: natural features of the other side, [K], not zero.
        eps: cost, in [0, sqrt 2).
    """
    eps = min(eps, 1.4)
    first = u / np.linalg.norm(u) + v / np.linalg.norm(v)
    second = u / np.linalg.norm(u) - v / np.linalg.norm(v)
    basis = np.stack([_unit(first), _unit(second)], axis=1)
    t, a = math.sqrt(2 - eps * eps), math.pi / 4 - math.asin(eps / math.sqrt(2))
    return Displacement(basis * [t * math.cos(a) - 1, t * math.sin(a) - 1], basis)


class Attack:
    """Gradient attack on u^T M v over displacements of cost at most eps.

    With A the second moment of the data in natural coordinates and T = I + X Y^T,

        M^-1 = T A T^T + (I - A),    cost^2 = tr((T - I) A (T - I)^T)

    and the gradient of u^T M v in the metric of A is -(a b^T + b a^T) T with a = M u,
    b = M v: the best displacement to first order is again of rank two. At zero ridge
    A = I and the closed form is a fixed point. With another metric G of moves, the
    cost is tr(G (T - I) A (T - I)^T) and the gradient G^-1 times as much.

    Args:
        natural: natural features, [N, K].
        u: natural features of one side, [K].
        v: natural features of the other side, [K].
        metric: G, [K, K], positive definite; the identity unless given.
    """

    def __init__(
        self,
        natural: np.ndarray,
        u: np.ndarray,
        v: np.ndarray,
        metric: np.ndarray | None = None,
    ):
        self._second = natural.T @ natural / len(natural)
        self._u, self._v, self._metric = u, v, metric
        self.hints: list[Displacement] = []  # where else to start

    def first(self) -> Displacement:
        """The steepest displacement of the stored data, of no particular cost."""
        nothing = np.zeros((len(self._u), 2))
        return self._step(Displacement(nothing, nothing))

    def run(self, eps: float) -> Displacement:
        """The best displacement found with cost eps."""
        starts = [closed_form(self._u, self._v, eps), *self.hints]
        best = min((self._scale(start, eps) for start in starts), key=self.value)
        lowest, now = self.value(best), best
        for _ in range(_STEPS):
            now = self._scale(self._step(now), eps)
            value = self.value(now)
            if value < lowest - 1e-9 * abs(lowest):
                best, lowest = now, value
            else:
                break
        return best

    def value(self, move: Displacement) -> float:
        """u^T M v for the displaced data."""
        return float(self._u @ self._solve(move, self._v))

    def _step(self, move: Displacement) -> Displacement:
        a, b = self._solve(move, self._u), self._solve(move, self._v)
        left = np.stack([a, b], axis=1)
        turned = np.stack([b, a], axis=1)
        right = turned + move.right @ (move.left.T @ turned)
        if self._metric is not None:
            left = np.linalg.solve(self._metric, left)
        return Displacement(left, right)

    def _solve(self, move: Displacement, vector: np.ndarray) -> np.ndarray:
        """M vector, by the Woodbury identity on the rank-four change of M^-1."""
        x, ay = move.left, self._second @ move.right
        # M^-1 = I + [X AY] [[Y^T A Y, I], [I, 0]] [X AY]^T
        outer = np.concatenate([x, ay], axis=1)
        small = outer.T @ outer + _SWAP  # and the inverse of what is in the middle
        small[2:, 2:] -= move.right.T @ ay
        return vector - outer @ np.linalg.solve(small, outer.T @ vector)

    def _scale(self, move: Displacement, eps: float) -> Displacement:
        """The displacement with cost eps that lowers the value."""
        gram = move.right.T @ self._second @ move.right
        left = move.left if self._metric is None else self._metric @ move.left
        cost = math.sqrt(max(float(np.sum((move.left.T @ left) * gram)), 1e-300))
        options = [
            Displacement(move.left * (sign * eps / cost), move.right)
            for sign in (1.0, -1.0)
        ]
        return min(options, key=self.value)


def _checked(
    proof: Proof, statement: Statement, radius: float, move: Displacement
) -> Counterexample:
    """Builds the displaced data set and recomputes everything from it."""
    geometry = proof.geometry
    displaced, moved = displace(geometry, move)
    # |displaced - stored| exactly, up to the rounding of this last subtraction.
    travel = proof.whiten(moved, U * row_norms(moved)).true_norms
    stretch = 1 / (1 - proof.eta) if proof.holds else np.inf
    cost = float(upward(norm(travel) * np.sqrt(stretch / len(travel))))
    after = natural_geometry(MemoryStore(displaced), geometry.ridge)
    u, v = statement.u.vector, statement.v.vector
    return Counterexample(
        claim=statement.claim,
        cost=cost,
        radius=radius,
        gap_before=float(u @ np.linalg.solve(geometry.covariance, v)),
        gap_after=float(u @ np.linalg.solve(after.covariance, v)),
        flips=gap_is_negative(prove(after), statement),
        displaced=displaced,
    )


def displace(
    geometry: NaturalGeometry, move: Displacement
) -> tuple[np.ndarray, np.ndarray]:
    """The displaced training features, and by how much they differ as computed."""
    stored = np.concatenate([np.float64(b) for b in geometry.train.blocks(4096)])
    raw = (geometry.natural @ move.right) @ (geometry.factor @ move.left).T
    displaced = stored + raw
    return displaced, displaced - stored


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-12 else np.zeros_like(vector)
