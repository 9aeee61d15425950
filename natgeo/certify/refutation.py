"""One way in for every attack: any statement, any threat.

Each threat has its search; all of them return data, never a belief: an explicit
perturbed training set (and moved points, where points move) whose membership in the
threat (`inside`, `cost`) and whose effect (`flips`) are proven, rounding included. A
statement is refuted by data that both flip it and lie inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo.certify import attacks, euclidean_attack, infinity_attack, moving_attack
from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.rounding import Proof
from natgeo.certify.statements import Statement
from natgeo.certify.threats import (
    Add,
    Delete,
    Euclidean2,
    Moving,
    Replace,
    Wasserstein1,
    Wasserstein2,
    WassersteinInfinity,
)
from natgeo.certify.verdict import UNDECIDED, Verdict, decide
from natgeo.certify.witness import Counterexample, counterexample
from natgeo.errors import ArgumentError, DataError
from natgeo.types import Threat

_KNOWN = (Wasserstein2, Euclidean2, Wasserstein1, Delete, Add, Replace)


def refute(
    proof: Proof, statement: Statement, threat: Threat
) -> Counterexample | DataCounterexample:
    """Searches for data inside a threat that break a statement, and proves what it did.

    Under `Wasserstein2` and `Euclidean2` it is the cheapest displacement found,
    wherever it lies: at zero ridge, under `Wasserstein2`, just outside the certified
    radius. Under every other threat it is the strongest change found inside.

    Args:
        proof: the rounding proof of the stored features, `Rankings.proof`.
        statement: any of `natgeo.statements`, true of the stored features.
        threat: any of `natgeo.threats`.

    Returns:
        A `Counterexample` under `Wasserstein2`, else a `DataCounterexample`, which
        knows the moved points too (`MovedCounterexample`) where points move.

    Raises:
        ArgumentError: for a threat without an attack.
        DataError: if the statement is not true of the stored features to begin with, or
            float64 holds no covariance of any perturbed data.
    """
    _require_attack(threat)
    _require_truth(proof, statement)
    radius = decide(proof, statement, Wasserstein2(0.0)).radius
    if isinstance(threat, Wasserstein2):
        return counterexample(proof, statement, radius)
    found = _found(proof, statement, threat, radius)
    if found is None:
        raise DataError(
            f"No attack can be shown on the claim that {statement.claim}: float64 "
            f"holds no covariance of the perturbed data, or the statement does not "
            f"name its points. Use a larger ridge, or a smaller threat."
        )
    return found


def decide_or_refute(proof: Proof, statement: Statement, threat: Threat) -> Verdict:
    """The verdict on a statement; where there is no proof, after an attack on it.

    Args:
        proof: the rounding proof of the stored features.
        statement: from `natgeo.statements`.
        threat: from `natgeo.threats`; one without an attack is never refuted.
    """
    verdict = decide(proof, statement, threat)
    if verdict.status != UNDECIDED or not verdict.cosine > 0:
        return verdict
    if isinstance(threat, Wasserstein2):
        witness = counterexample(proof, statement, verdict.radius)
        inside = witness.cost <= threat.eps
        return verdict.refuted_by(witness) if witness.flips and inside else verdict
    found = _found(proof, statement, threat, verdict.radius)
    if found is not None and found.flips and found.inside:
        return verdict.refuted_by(found)
    return verdict


def _found(
    proof: Proof, statement: Statement, threat: Any, radius: float
) -> DataCounterexample | None:
    """What the search of a threat has to show; None if nothing."""
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if isinstance(threat, WassersteinInfinity):
                return infinity_attack.attack(proof, statement, threat)
            if isinstance(threat, Moving):
                return moving_attack.attack(proof, statement, threat)
            if isinstance(threat, Euclidean2):
                return euclidean_attack.attack(proof, statement, threat, radius)
            return attacks.attack(proof, statement, threat)
    except (DataError, np.linalg.LinAlgError):
        return None  # no perturbed data, so no proof of anything


def _require_attack(threat: Threat) -> None:
    base: Any = threat.threat if isinstance(threat, Moving) else threat
    if not isinstance(base, _KNOWN):
        names = ", ".join(kind.__name__ for kind in _KNOWN)
        raise ArgumentError(
            f"There is no attack under {base!r}. There is one under {names}, "
            f"WassersteinInfinity, and under Moving beside any of these."
        )


def _require_truth(proof: Proof, statement: Statement) -> None:
    u, v = (
        proof.geometry.whitener @ side.vector for side in (statement.u, statement.v)
    )
    if not float(u @ v) > 0:
        raise DataError(
            f"There is nothing to refute: it is not true of the stored data that "
            f"{statement.claim}."
        )
