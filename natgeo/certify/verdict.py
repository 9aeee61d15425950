"""The verdict on one statement: certified, refuted or undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from natgeo.certify import ridge
from natgeo.certify.bounds import gamma, upward
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.display import at_least, at_most
from natgeo.types import Threat

CERTIFIED, REFUTED, UNDECIDED = "certified", "refuted", "undecided"


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is proven about one statement under one threat.

    Attributes:
        status: `certified` (proven for every distribution of the threat), `refuted` (a
            distribution inside the threat that breaks it is attached and re-checked) or
            `undecided` (no proof found; not evidence that the order is fragile).
        radius: the order-2 natural radius up to which the statement is proven, by the
            better of the closed form and the bound under a ridge.
        cosine: proven lower bound of the natural cosine, 0 if none.
        claim: the statement in words.
        threat: the threat in words.
        reason: why it is undecided, or empty.
        eta: proven bound of the whitening error, ||R Q R^T - I||.
        counterexample: a `Counterexample` if refuted, else None.
    """

    status: str
    radius: float
    cosine: float
    claim: str
    threat: str
    reason: str
    eta: float
    counterexample: Any = None

    def __bool__(self) -> bool:
        raise TypeError(
            "A verdict has three values: compare verdict.status with 'certified', "
            "'refuted' or 'undecided'."
        )

    def refuted_by(self, counterexample: Any) -> Verdict:
        """The same verdict with a re-checked counterexample inside the threat."""
        return replace(self, status=REFUTED, reason="", counterexample=counterexample)


def decide(proof: Proof, statement: Statement, threat: Threat) -> Verdict:
    """Proves a statement under a threat, or says why it cannot.

    Args:
        proof: the rounding proof of the geometry.
        statement: from `natgeo.certify.statements`.
        threat: from `natgeo.certify.threats`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        cosine, reason = _cosine(proof, statement)
        turned = getattr(threat, "kappa_for", None)  # depends on the statement
        kappa = float(turned(proof, statement) if turned else threat.kappa(proof))
        needed, radius = _limit_and_radius(proof, statement, threat, cosine)
        # "is True" because anything else, NaN included, must not certify.
        certified = (cosine > min(kappa, needed)) is True and cosine > 0
    if certified:
        reason = ""
    elif not reason:
        reason = (
            _beyond(threat)
            if math.isinf(kappa)
            else f"no proof found under this threat; proven up to order-2 natural "
            f"radius {at_least(radius)}"
        )
    return Verdict(
        status=CERTIFIED if certified else UNDECIDED,
        radius=radius,
        cosine=cosine,
        claim=statement.claim,
        threat=threat.describe(),
        reason=reason,
        eta=proof.eta,
    )


def _beyond(threat: Threat) -> str:
    """Why an infinite kappa certifies nothing."""
    if isinstance(threat, Wasserstein2):
        return "a radius of 1 or more cannot be certified by this theorem"
    return (
        "this threat is beyond its theorem: it is too large, or the stored features "
        "do not satisfy what it assumes"
    )


def gap_is_negative(proof: Proof, statement: Statement) -> bool:
    """Whether u^T Q^-1 v < 0 is proven for the data of `proof` as they are."""
    if not proof.holds:
        return False
    u, v = _whitened(proof, statement)
    lowest, norms = _lower_bound(-u.rows[0], v.rows[0], u, v)
    distortion = upward(proof.eta / (1 - proof.eta) * norms)
    return (lowest > distortion) is True


def _cosine(proof: Proof, statement: Statement) -> tuple[float, str]:
    """Proven lower bound of the natural cosine, and why there is none."""
    if not proof.holds:
        return 0.0, (
            f"the covariance is too ill-conditioned to be proven positive definite in "
            f"float64 (eta={at_most(proof.eta)}); use a larger ridge"
        )
    u, v = _whitened(proof, statement)
    if not statement.u.vector.any() or not statement.v.vector.any():
        return 0.0, "the two sides are equal: a tie is never certified"
    lowest, norms = _lower_bound(u.rows[0], v.rows[0], u, v)
    if not lowest > 0:
        return 0.0, "the stored scores do not prove this order even without a threat"
    whitened = lowest / norms * (1 - 2.0**-50)
    cosine = whitened - float(upward(proof.eta * (1 + whitened)))
    # The final subtraction rounds by at most one unit in the last place.
    cosine = float(np.nextafter(cosine, -1))
    if not cosine > 0:
        return 0.0, f"the margin is below the rounding error (eta={at_most(proof.eta)})"
    return min(cosine, 1.0), ""


def _limit_and_radius(
    proof: Proof, statement: Statement, threat: Threat, cosine: float
) -> tuple[float, float]:
    """What the bound under a ridge asks of the cosine, and the best proven radius."""
    radius = Wasserstein2.radius(cosine)
    if not (cosine > 0 and proof.geometry.ridge > 0):
        return math.inf, radius
    share = _share(proof, statement)
    radius = max(radius, ridge.radius(cosine, share))
    if not isinstance(threat, Wasserstein2):
        return math.inf, radius
    needed = ridge.threshold(threat.eps, share)
    return needed, max(radius, threat.eps) if cosine > needed else radius


def _share(proof: Proof, statement: Statement) -> float:
    """What the bound under a ridge needs to know: a_u^2 + a_v^2, from above."""
    both = [ridge.shares(proof, rows)[0] for rows in _whitened(proof, statement)]
    return float(upward(both[0] + both[1]))


def _whitened(proof: Proof, statement: Statement) -> tuple[NaturalRows, NaturalRows]:
    return (
        proof.whiten(statement.u.vector[None], statement.u.formation),
        proof.whiten(statement.v.vector[None], statement.v.formation),
    )


def _lower_bound(
    left: np.ndarray, right: np.ndarray, u: NaturalRows, v: NaturalRows
) -> tuple[float, float]:
    """A lower bound of (Ru).(Rv) and an upper bound of norm(Ru) norm(Rv)."""
    product = float(left @ right)
    un, vn = float(u.norms[0]), float(v.norms[0])
    ue, ve = float(u.errors[0]), float(v.errors[0])
    lost = float(upward(gamma(len(left)) * un * vn + ue * vn + un * ve + ue * ve))
    lowest = float(np.nextafter(product - lost, -np.inf))
    return lowest, float(upward((un + ue) * (vn + ve)))
