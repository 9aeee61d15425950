"""The result document of an ensemble of checkpoints.

There is no one geometry and no one radius: every checkpoint has its own metric, and the
certificates assume the threat in each of them. The document says so where a single
checkpoint's would name its radius, and lists the checkpoints with what is proven of
each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from natgeo.certify import guarantee
from natgeo.certify.ensemble import EnsembleRankings
from natgeo.display import at_most, given, percent
from natgeo.report import sections

# Above this many pairs their certified share is estimated, and ranks are left out.
MOST_PAIRS = 2**22
_SAMPLE = 20_000


def document(
    rankings: EnsembleRankings,
    *,
    targets: int = 6,
    choices: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The result as plain values, with details of the first `targets` targets.

    Up to `MOST_PAIRS` pairs are all looked at; beyond, a sample of 20,000 pairs gives
    the certified share with its interval, and ranks are left out.

    Args:
        rankings: the certificates.
        targets: how many targets are shown.
        choices: what was chosen for the features, for the provenance.
        seed: of the sample.
    """
    counted = rankings.pairs <= MOST_PAIRS
    says, note = _guarantee(rankings), f"of {rankings.pairs:,} pairs"
    if counted:
        fraction = rankings.fraction
    else:
        found = rankings.estimate(_SAMPLE, seed=seed)
        fraction = found.fraction
        says += " " + guarantee.estimate_in_words(found)
        note = f"estimated from {_SAMPLE:,} {note}, seed {seed}"
    count = len(rankings.ensemble.geometries)
    checkpoints = f"{count} checkpoints" if count > 1 else "one checkpoint"
    metrics = f" in each of {count} metrics" if count > 1 else ""
    shown = range(min(targets, len(fraction)) if counted else 0)
    return sections.document(
        "attribution",
        f"Certified attribution by {checkpoints}",
        summary=[
            {
                "label": "Certified pairs",
                "value": percent(fraction.mean()),
                "note": f"{note}, mean of {len(fraction)} targets, "
                f"{rankings.threat}{metrics}",
            }
        ],
        guarantee={"says": says, "does_not_say": _limits(count)},
        geometry=_sizes(rankings),
        targets=[_target(rankings, target) for target in shown],
        provenance={**dict(choices or {}), **_checkpoints(rankings)},
    )


def _guarantee(rankings: EnsembleRankings) -> str:
    geometry = rankings.ensemble.geometries[0]
    return (
        f"For the {geometry.train.shape[0]:,} training examples, with the features of "
        f"each checkpoint as stored: a certified pair keeps the order of its ensemble "
        f"scores and a certified rank interval holds the rank, all at once, under "
        f"{rankings.describe()}. Feature maps and evaluated points are held fixed. "
        f"Rounding is included."
    )


def _limits(count: int) -> list[str]:
    if count == 1:
        return list(guarantee.LIMITS)
    return [
        f"One radius in {count} metrics is {count} assumptions: the same change of the "
        f"training data is a different distance in each of them, and nothing is said "
        f"about a change that is inside the ball of some checkpoints only.",
        *guarantee.LIMITS,
    ]


def _sizes(rankings: EnsembleRankings) -> dict[str, Any]:
    """Sizes that all checkpoints share; what they do not share is in the provenance."""
    geometries = rankings.ensemble.geometries
    return {
        "N": geometries[0].train.shape[0],
        "M": rankings.ensemble.targets[0].shape[0],
        "K": max(geometry.width for geometry in geometries),
        "eta": sections.finite(max(proof.eta for proof in rankings.proofs)),
    }


def _checkpoints(rankings: EnsembleRankings) -> dict[str, str]:
    return {
        f"checkpoint {place}": f"K = {geometry.width}, ridge {given(geometry.ridge)}, "
        f"eta {at_most(proof.eta)}, features SHA-256 {geometry.train.digest()}"
        for place, (geometry, proof) in enumerate(
            zip(rankings.ensemble.geometries, rankings.proofs, strict=True)
        )
    }


def _target(rankings: EnsembleRankings, target: int, top: int = 10) -> dict[str, Any]:
    scores, ranks = rankings.ensemble.scores[target], rankings.ranks(target)
    top = min(top, len(scores))
    inside, outside = ranks[:, 1] <= top, ranks[:, 0] > top
    return {
        "target": target,
        # No radius: it would be one number for as many metrics as checkpoints.
        "eps": None,
        "proponents": [
            {
                "index": int(i),
                "rank": rank,
                "label": None,
                "flipped": None,
                "score": float(scores[i]),
                "lowest": int(ranks[i, 0]),
                "highest": int(ranks[i, 1]),
                "thumbnail": None,
            }
            for rank, i in enumerate(np.argsort(-scores, kind="stable")[:top], start=1)
        ],
        "top_k": {
            "k": top,
            "inside": int(inside.sum()),
            "undecided": int((~inside & ~outside).sum()),
            "outside": int(outside.sum()),
        },
    }
