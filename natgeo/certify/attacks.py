"""Attacks under the threats on single examples and of order 1.

Each attack is greedy on the bilinear form in natural coordinates. With a = M u and
b = M v, a change of M^-1 by D / N changes the form by -a^T D b / N to first order:
deleting w gains (a.w)(b.w), adding w loses it, and the best new w of norm R lies along
the bisector of a and b. Nothing found here is believed: the perturbed training set is
built, its membership in the threat is proven, and so is the flip.

The sums of `Delete` and `Add` are divided by the stored N. To keep that exact, deleted
examples become rows of zeros, and after an addition rows of zeros fill the set up to
2^s N, with the ridge divided by 2^s: only powers of two, no rounding.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import upward
from natgeo.certify.points import travel
from natgeo.certify.rounding import Proof, prove
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Add, Delete, Replace, Wasserstein1
from natgeo.certify.verdict import gap_is_negative
from natgeo.display import short
from natgeo.errors import DataError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from natgeo.types import Threat

# How far inside a support or a budget a search stays, so that rounding does too: the
# next one where the last was not enough.
_MARGINS = (1e-9, 1e-6, 1e-3)
_TRANSPORTS = 64


@dataclass(frozen=True, eq=False)
class DataCounterexample:
    """A perturbed training set inside a threat, and what it does to a statement.

    Attributes:
        claim: the statement in words.
        threat: the threat in words.
        rows: the perturbed features, [N', K], float64; a deleted one is all zeros.
        changed: indices of the stored examples that were deleted, replaced or moved.
        gap_before: u^T Q^-1 v on the stored features.
        gap_after: the same with the perturbed sum of outer products over N.
        inside: whether it is proven to be inside the threat.
        flips: whether gap_after < 0 is proven, rounding included.
        cost: proven upper bound of what it costs in the units of the threat: examples,
            order-1 natural distance, order-2 distance in feature units, or the longest
            natural move of any example or target.
    """

    claim: str
    threat: str
    rows: np.ndarray
    changed: np.ndarray
    gap_before: float
    gap_after: float
    inside: bool
    flips: bool
    cost: float

    def __repr__(self) -> str:
        outcome = "flips" if self.flips else "does not flip"
        return (
            f"{type(self).__name__}({outcome} at cost {self.cost:.6g}; gap "
            f"{short(self.gap_before)} -> {short(self.gap_after)}, {self.threat})"
        )


def attack(
    proof: Proof, statement: Statement, threat: Threat
) -> DataCounterexample | None:
    """Tries to break a statement inside a threat; None if it has nothing to show.

    That is for a threat it does not know, and where float64 holds no covariance of the
    perturbed features, as with a support of 1e200.

    Args:
        proof: the rounding proof of the stored features.
        statement: from `natgeo.certify.statements`.
        threat: `Delete`, `Add`, `Replace` or `Wasserstein1`.
    """
    if not isinstance(threat, (Delete, Add, Replace, Wasserstein1)):
        return None
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _attacked(proof, statement, threat)
    except (DataError, np.linalg.LinAlgError):
        return None  # no perturbed training set, so no proof of anything


def _attacked(
    proof: Proof, statement: Statement, threat: Delete | Add | Replace | Wasserstein1
) -> DataCounterexample:
    for margin in _MARGINS:
        search = _searched(proof, statement, threat, (1 - margin) / proof.stretch)
        found = _checked(proof, statement, threat, search)
        if found.inside:
            break
    return found


def _searched(
    proof: Proof,
    statement: Statement,
    threat: Delete | Add | Replace | Wasserstein1,
    share: float,
) -> _Search:
    """The search after its last step, with a share of the support and the budget."""
    search = _Search(proof, statement)
    if isinstance(threat, Wasserstein1):
        search.transport(share * threat.eps, share * threat.support)
        return search
    for _ in range(threat.points):
        before = search.state()
        if isinstance(threat, Delete):
            search.delete()
        elif isinstance(threat, Add):
            search.add(share * threat.support)
        else:
            search.replace(share * threat.support)
        if search.value() >= before.value():  # it only did harm: stop there
            return before
    return search


class _Search:
    """A training set in natural coordinates that is changed step by step."""

    def __init__(self, proof: Proof, statement: Statement):
        geometry = proof.geometry
        self.natural = np.array(geometry.natural)
        self.added: list[np.ndarray] = []
        self.changed: list[int] = []
        # M^-1, which is the identity for the stored data.
        self._inverse = np.eye(geometry.width)
        self._u = geometry.whitener @ statement.u.vector
        self._v = geometry.whitener @ statement.v.vector

    def state(self) -> _Search:
        """A copy that later steps do not change."""
        kept = copy.copy(self)
        kept.natural, kept.added = self.natural.copy(), list(self.added)
        kept.changed = list(self.changed)
        return kept

    def value(self) -> float:
        """u^T M v now."""
        a, _, _ = self._sides()
        return float(a @ self._v)

    def delete(self) -> None:
        """Takes out the example that the form needs most."""
        a, b, m = self._sides()
        gain = (self.natural @ a) * (self.natural @ b)
        lever = np.einsum("nk,nk->n", self.natural @ m, self.natural)
        left = len(self.natural) - lever
        # A place counts once; without the last of a direction there is no covariance.
        usable = left > 1e-3 * len(self.natural)
        usable[self.changed] = False
        gain = np.where(usable, gain / np.where(usable, left, 1), np.inf)
        if not usable.any():
            return
        worst = int(np.argmin(gain))
        self._put(worst, np.zeros_like(a))

    def add(self, support: float) -> None:
        """Adds the point of that norm along the bisector."""
        new = self._worst_point(support)
        self.added.append(new)
        self._inverse = self._inverse + np.outer(new, new) / len(self.natural)

    def replace(self, support: float) -> None:
        """A deletion, and in its place an addition."""
        before = len(self.changed)
        self.delete()
        if len(self.changed) == before:
            return
        self._put(self.changed.pop(), self._worst_point(support))

    def transport(self, eps: float, support: float) -> None:
        """Moves examples, the most rewarding first, while the order-1 budget lasts."""
        budget = eps * len(self.natural)
        squares = np.einsum("nk,nk->n", self.natural, self.natural)
        for _ in range(_TRANSPORTS):
            a, b, _ = self._sides()
            grow, shrink = _bisector(a, b), _bisector(a, -b)
            wa, wb, up, down = (self.natural @ np.stack([a, b, grow, shrink], 1)).T
            # To the end of the support along one bisector, or off the other.
            far = support * (support - 2 * np.abs(up)) + squares
            lengths = np.stack([np.sqrt(np.maximum(far, 0)), np.abs(down)])
            ends = np.full_like(wa, support * support * (grow @ a) * (grow @ b))
            off = (wa - down * (shrink @ a)) * (wb - down * (shrink @ b))
            gain = np.stack([ends, off])
            rate = np.full_like(gain, -np.inf)
            np.divide(gain - wa * wb, lengths, out=rate, where=lengths > 1e-9)
            kind, place = np.unravel_index(int(np.argmax(rate)), rate.shape)
            if not rate[kind, place] > 0 or budget <= 0:
                return
            row = self.natural[place]
            side = 1.0 if up[place] >= 0 else -1.0
            goals = (support * side * grow, row - down[place] * shrink)
            share = min(1.0, budget / lengths[kind, place])
            self._put(int(place), row + share * (goals[kind] - row))
            squares[place] = self.natural[place] @ self.natural[place]
            budget -= share * lengths[kind, place]

    def _worst_point(self, support: float) -> np.ndarray:
        a, b, _ = self._sides()
        return support * _bisector(a, b)

    def _put(self, place: int, new: np.ndarray) -> None:
        """Puts another point in the place of an example."""
        old = self.natural[place]
        change = np.outer(new, new) - np.outer(old, old)
        self._inverse = self._inverse + change / len(self.natural)
        self.natural[place] = new
        self.changed.append(place)

    def _sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m = np.linalg.inv(self._inverse)
        return m @ self._u, m @ self._v, m


def _checked(
    proof: Proof,
    statement: Statement,
    threat: Delete | Add | Replace | Wasserstein1,
    search: _Search,
) -> DataCounterexample:
    """Builds the perturbed training set and proves everything from its numbers."""
    geometry = proof.geometry
    rows = np.concatenate([np.float64(b) for b in geometry.train.blocks(4096)])
    changed = np.unique(np.array(search.changed, np.intp))
    stored = rows[changed].copy()
    rows[changed] = search.natural[changed] @ geometry.factor.T
    ridge = geometry.ridge
    allowed: float
    if isinstance(threat, Wasserstein1):
        moves = travel(proof, rows[changed] - stored)
        cost, allowed = float(upward(moves.sum() / len(rows))), threat.eps
        inside = _within(proof, rows[changed], threat.support) and (
            threat.kappa(proof) < math.inf or _within(proof, rows, threat.support)
        )
    elif isinstance(threat, Add):
        new = np.array(search.added).reshape(-1, geometry.width) @ geometry.factor.T
        cost, allowed = float(len(new)), threat.points
        inside = _within(proof, new, threat.support)
        rows, ridge = _filled(rows, new, ridge)
    else:
        cost, allowed = float(len(changed)), threat.points
        inside = isinstance(threat, Delete) or _within(
            proof, rows[changed], threat.support
        )
    after = natural_geometry(MemoryStore(rows), ridge)
    u, v = statement.u.vector, statement.v.vector
    # Rows of zeros that fill up divide the covariance by a power of two.
    factor = len(geometry.natural) / len(rows)
    return DataCounterexample(
        claim=statement.claim,
        threat=threat.describe(),
        rows=rows,
        changed=changed,
        gap_before=float(u @ np.linalg.solve(geometry.covariance, v)),
        gap_after=float(u @ np.linalg.solve(after.covariance, v)) * factor,
        inside=inside and cost <= allowed,
        flips=gap_is_negative(prove(after), statement),
        cost=cost,
    )


def _filled(
    rows: np.ndarray, new: np.ndarray, ridge: float
) -> tuple[np.ndarray, float]:
    """All rows, filled up with zeros to 2^s N, and the ridge divided by 2^s."""
    power = 1
    while len(rows) * power < len(rows) + len(new):
        power *= 2
    empty = np.zeros((len(rows) * (power - 1) - len(new), rows.shape[1]))
    return np.concatenate([rows, new, empty]), ridge / power


def _within(proof: Proof, rows: np.ndarray, support: float) -> bool:
    """Whether every row is proven to have a natural norm of at most `support`."""
    norms = upward(proof.whiten(rows).true_norms * proof.stretch)
    return bool((norms <= support).all())


def _bisector(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The unit vector between a and b; a itself if they are opposite."""
    first, second = a / np.linalg.norm(a), b / np.linalg.norm(b)
    middle = first + second
    length = float(np.linalg.norm(middle))
    return middle / length if length > 1e-12 else first
