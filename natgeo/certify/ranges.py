"""How far a score can go: proven ends of u^T M v over a whole threat.

With s = u.v and n = |u| |v| in natural coordinates, a threat bounds the form from below
by a function that rises with s and falls with n (`Threat.least`, with the proof). So

    low = least(s from below, n from above)
    high = -least(-s from below, n from above)

since u^T M (-v) = -u^T M v, and no cosine has to be formed. Rounding enters twice, as
in `rounding`: the computed rows are off by `errors`, and

    |s - (Ru).(Rv)| <= eta / (1 - eta) |Ru| |Rv|,    n <= |Ru| |Rv| / (1 - eta).

Where u moves by a and v by b as well (`moving.Moving`), s changes by at most
a |v| + b |u| + a b and n grows to at most (|u| + a)(|v| + b); the threat to the
covariance bounds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.certify.bounds import gamma, upward
from natgeo.certify.moving import Moving
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import Statement
from natgeo.errors import ArgumentError
from natgeo.types import Threat

Side = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Forms:
    """Enclosures of forms u.v on the stored data, [P].

    Attributes:
        low: lower bounds of s = u^T Q^-1 v.
        high: upper bounds of s.
        norms: upper bounds of n, the product of the natural norms of u and v.
    """

    low: np.ndarray
    high: np.ndarray
    norms: np.ndarray


def enclose(proof: Proof, left: NaturalRows, right: NaturalRows) -> Forms:
    """Encloses the forms of one natural row u against natural rows v, [P].

    Args:
        proof: the rounding proof of the geometry.
        left: exactly one row.
        right: P rows.
    """
    return unwhitened(proof, whitened(left, right))


def whitened(left: NaturalRows, right: NaturalRows) -> Forms:
    """Encloses (Ru).(Rv) and |Ru| |Rv| for one row u and rows v, [P]."""
    with np.errstate(over="ignore", invalid="ignore"):
        products = right.rows @ left.rows[0]
        lost = upward(
            gamma(len(left.rows[0])) * left.norms * right.norms
            + left.errors * right.norms
            + left.true_norms * right.errors
        )
        return Forms(
            np.nextafter(products - lost, -np.inf),
            np.nextafter(products + lost, np.inf),
            upward(left.true_norms * right.true_norms),
        )


def unwhitened(proof: Proof, forms: Forms) -> Forms:
    """Encloses u^T Q^-1 v and |u| |v| from enclosures of (Ru).(Rv) and |Ru| |Rv|."""
    if not proof.holds:
        unknown = np.full(np.shape(forms.low), np.inf)
        return Forms(-unknown, unknown, unknown)
    with np.errstate(over="ignore", invalid="ignore"):
        room = upward(proof.eta / (1 - proof.eta) * forms.norms)
        return Forms(
            np.nextafter(forms.low - room, -np.inf),
            np.nextafter(forms.high + room, np.inf),
            upward(forms.norms / (1 - proof.eta)),
        )


def forms_of(proof: Proof, statement: Statement) -> Forms:
    """The enclosure of one statement's form, [1]."""
    with np.errstate(over="ignore", invalid="ignore"):
        u, v = (
            proof.whiten(side.vector[None], side.formation)
            for side in (statement.u, statement.v)
        )
    return enclose(proof, u, v)


def span(proof: Proof, forms: Forms, threat: Threat) -> np.ndarray:
    """Proven [low, high] of every form over the threat, [P, 2].

    Raises:
        ArgumentError: if the threat cannot bound a score.
    """
    both = np.concatenate([forms.low, -forms.high])
    ends = least_of(threat)(proof, both, np.tile(forms.norms, 2))
    return np.stack([ends[: len(forms.low)], -ends[len(forms.low) :]], axis=-1)


def score_range(
    proof: Proof, statement: Statement, threat: Threat
) -> tuple[float, float]:
    """Proven ends of a statement's form u^T M v over the threat, rounding included.

    For the proponent statement the form is the score r_i w_t . w_i itself; for a pair
    it is the gap between two scores. The statement is certified if `low` is positive.
    Infinite ends mean that nothing is proven.

    Args:
        proof: the rounding proof of the geometry, for instance `Rankings.proof`.
        statement: from `natgeo.certify.statements`.
        threat: from `natgeo.certify.threats`.

    Raises:
        ArgumentError: if the threat cannot bound a score.
    """
    forms = forms_of(proof, statement)
    if isinstance(threat, Moving):
        forms = _displaced(proof, forms, statement, threat)
        threat = threat.threat
    ((low, high),) = span(proof, forms, threat)
    return float(low), float(high)


def score_ranges(proof: Proof, target: np.ndarray, threat: Threat) -> np.ndarray:
    """Proven ends of every score of one target over the threat, [N, 2].

    Args:
        proof: the rounding proof of the geometry.
        target: float64 features of the target, [1, K].
        threat: what may happen to the training distribution.

    Raises:
        ArgumentError: if the threat cannot bound a score.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        left = proof.whiten(target)
    forms = enclose(proof, left, proof.weighted)
    if isinstance(threat, Moving):
        reach = upward(np.abs(proof.geometry.weights) * threat.examples)
        forms = displaced(
            proof,
            forms,
            (left.true_norms, np.array([threat.target])),
            (proof.weighted.true_norms, reach),
        )
        threat = threat.threat
    return span(proof, forms, threat)


def displaced(proof: Proof, forms: Forms, left: Side, right: Side) -> Forms:
    """Encloses forms [P] whose sides move.

    Args:
        proof: the rounding proof of the geometry.
        forms: enclosures before the move.
        left: |Ru| from above and how far u moves in natural distance, [1] or [P] each.
        right: the same for v.
    """
    if not proof.holds:
        return forms
    stretch = upward(1 / np.sqrt(1 - proof.eta))
    (u, a), (v, b) = ((upward(side[0] * stretch), side[1]) for side in (left, right))
    with np.errstate(over="ignore", invalid="ignore"):
        room = upward(a * v + b * u + a * b)
        return Forms(
            np.nextafter(forms.low - room, -np.inf),
            np.nextafter(forms.high + room, np.inf),
            upward((u + a) * (v + b)),
        )


def _displaced(
    proof: Proof, forms: Forms, statement: Statement, threat: Moving
) -> Forms:
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = (
            (
                proof.whiten(side.vector[None], side.formation).true_norms,
                np.array([threat.moves(side)]),
            )
            for side in (statement.u, statement.v)
        )
    return displaced(proof, forms, left, right)


def least_of(threat: Threat) -> Any:
    """The method of a threat that bounds forms from below.

    Raises:
        ArgumentError: if it has none.
    """
    least = getattr(threat, "least", None)
    if least is None and isinstance(threat, Moving):
        raise ArgumentError(
            "How far points that move take a score depends on the statement: ask for "
            "score_range or Rankings.score_ranges. An ensemble has no such range, as "
            "one move is a different one in the metric of every checkpoint: certify "
            "each checkpoint, or use a threat to the distribution alone."
        )
    if least is None:
        raise ArgumentError(
            f"{type(threat).__name__} bounds signs, not scores: it has no method "
            f"least(proof, scores, norms). Use another of natgeo.threats, or add one."
        )
    return least
