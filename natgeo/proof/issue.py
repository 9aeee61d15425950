"""What `natgeo certify --out` puts into a certificate, for the targets it shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from natgeo.certify.rankings import Rankings
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Moving, Wasserstein2
from natgeo.certify.verdict import CERTIFIED, decide
from natgeo.certify.witness import Counterexample, counterexample
from natgeo.errors import DataError
from natgeo.proof.certificate import certified_pairs, write_certificate
from natgeo.proof.checker import CheckReport
from natgeo.types import Threat

MOST_PAIRS = 200_000  # 2.4 MB
MOST_COUNTED = 4096  # examples; whoever checks a count goes through all their pairs


def issue_certificate(
    path: str | os.PathLike,
    rankings: Rankings,
    scores: np.ndarray,
    shown: Sequence[int],
    *,
    top: int = 10,
    provenance: Mapping[str, str] | None = None,
) -> CheckReport:
    """Writes the certificate behind the targets that a report shows.

    For every shown target: the best proponent against the one `top` places below it, at
    the radius up to which this is certified (exact form); and every certified pair that
    involves one of the `top` best, as the shown rank intervals count them, the best
    first and `MOST_PAIRS` in all (bulk form); and how many of all pairs are certified,
    up to `MOST_COUNTED` examples. Under a threat other than the order-2 ball the first
    claim is made under the threat too; where points move, lists and counts are left
    out. With ridge 0, where radii are exact, also the counterexample just outside the
    radius of the first claim.

    Args:
        path: folder to make.
        rankings: the certificates.
        scores: scores of all targets, [M, N], which choose what is claimed.
        shown: indices of targets.
        top: how many proponents are shown.
        provenance: words for people.

    Raises:
        DataError: if nothing is certified.
    """
    claims: list[tuple[Statement, Threat]] = []
    broken: list[tuple[Statement, Counterexample]] = []
    pairs = [np.zeros((0, 3), np.int32)]
    moving, ball = (isinstance(rankings.threat, t) for t in (Moving, Wasserstein2))
    for target in shown:
        order = np.argsort(-scores[target], kind="stable")
        if not moving:
            some = MOST_PAIRS // len(shown)
            pairs.append(certified_pairs(rankings, target, order[:top], most=some))
        if len(order) < 2:
            continue
        rival = min(top, len(order) - 1)
        pair = {"target": target, "above": int(order[0]), "below": int(order[rival])}
        statement = rankings.statement(**pair)
        verdict = decide(rankings.proof, statement, rankings.threat)
        if not ball and verdict.status == CERTIFIED:
            claims.append((statement, rankings.threat))
        if not verdict.radius > 0:
            continue
        claims.append((statement, Wasserstein2(verdict.radius)))
        if rankings.geometry.ridge == 0 and not broken:
            found = counterexample(rankings.proof, statement, verdict.radius)
            broken += [(statement, found)] if found.flips else []
    listed = np.concatenate(pairs)
    if not claims and not len(listed):
        raise DataError(
            f"Nothing about the shown targets is certified under "
            f"{rankings.threat.describe()}, so there is no certificate to write. Use a "
            f"smaller eps, or a larger ridge."
        )
    return write_certificate(
        path,
        rankings,
        claims,
        refutations=broken,
        pairs=listed if len(listed) else None,
        counts=() if moving or len(scores[0]) > MOST_COUNTED else shown,
        provenance=provenance,
    )
