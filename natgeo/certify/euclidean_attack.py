"""An attack on the distribution whose moves are measured in raw feature space.

The displacement is the same kind of linear map as for the natural ball, but it is
scaled to its raw cost and climbs the gradient of the raw metric: in natural coordinates
a move d has the squared length d^T G d with G = L^T L. Nothing found here is believed:
the raw cost of the displaced features and the flip are proven from their numbers.
"""

from __future__ import annotations

import numpy as np

from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.bounds import U, norm, row_norms, upward
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Euclidean2
from natgeo.certify.verdict import gap_is_negative
from natgeo.certify.witness import Attack, Displacement, cheapest, displace
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore

_PRECISION, _ROUGH = 1e-6, 1e-2
_NEAR = 1e-3  # natural units: where the search for a hint starts at the least
_LARGEST = 2.0  # natural units: no attack looks further


def attack(
    proof: Proof, statement: Statement, threat: Euclidean2, radius: float
) -> DataCounterexample:
    """The cheapest displacement found that breaks a statement, in feature units.

    Args:
        proof: the rounding proof of the stored features.
        statement: a statement that is true of the stored features.
        threat: the ball; `inside` says whether the displacement lies in it.
        radius: the order-2 natural radius up to which the statement is proven.
    """
    climb = _climb(proof, statement, radius)
    # From where natural and raw balls are certain, to where the natural move is large.
    start = radius / Euclidean2.amplification(proof) if proof.holds else 0.0
    far = _LARGEST * float(np.linalg.norm(proof.geometry.factor, 2))
    high, move = cheapest(climb, start, far, _PRECISION)
    found, factor = _checked(proof, statement, threat, move), _PRECISION
    while not found.flips and climb.value(move) < 0 and factor < 1e-2:
        # The flip was too small to prove: a little further out.
        move = climb.run(high * (1 + factor))
        found, factor = _checked(proof, statement, threat, move), 4 * factor
    return found


def strongest(
    proof: Proof, statement: Statement, threat: Euclidean2, inside: float
) -> DataCounterexample:
    """The displacement of cost `inside` times the radius that leaves the least."""
    move = _climb(proof, statement, 0.0).run(inside * threat.eps)
    return _checked(proof, statement, threat, move)


def _climb(proof: Proof, statement: Statement, radius: float) -> Attack:
    """The attack in the raw metric, which also starts from the best natural one."""
    geometry = proof.geometry
    u, v = (geometry.whitener @ side.vector for side in (statement.u, statement.v))
    climb = Attack(geometry.natural, u, v, geometry.factor.T @ geometry.factor)
    natural = Attack(geometry.natural, u, v)
    _, move = cheapest(natural, max(radius, _NEAR), _LARGEST, _ROUGH)
    climb.hints = [climb.first(), move]
    return climb


def _checked(
    proof: Proof, statement: Statement, threat: Euclidean2, move: Displacement
) -> DataCounterexample:
    """Builds the displaced data set and proves everything from its numbers."""
    geometry = proof.geometry
    displaced, moved = displace(geometry, move)
    # |displaced - stored| exactly, up to the rounding of this last subtraction.
    travel = upward(row_norms(moved) * (1 + U))
    cost = float(upward(norm(travel) / np.sqrt(len(travel))))
    after = natural_geometry(MemoryStore(displaced), geometry.ridge)
    u, v = statement.u.vector, statement.v.vector
    return DataCounterexample(
        claim=statement.claim,
        threat=threat.describe(),
        rows=displaced,
        changed=np.arange(len(displaced)),
        gap_before=float(u @ np.linalg.solve(geometry.covariance, v)),
        gap_after=float(u @ np.linalg.solve(after.covariance, v)),
        inside=cost <= threat.eps,
        flips=gap_is_negative(prove(after), statement),
        cost=cost,
    )
