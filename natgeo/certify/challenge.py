"""What an attack on a pair found, in values, in words and as a store.

A certificate and an attack bound the same number from two sides: the pair is proven up
to `certified_radius`, and broken, if the flip is proven, at `cost`.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import CERTIFIED, REFUTED, UNDECIDED
from natgeo.certify.witness import Counterexample
from natgeo.display import at_least, at_most, given, short
from natgeo.errors import DataError
from natgeo.geometry.natural import NaturalGeometry
from natgeo.store.disk import DiskStore
from natgeo.store.writer import DiskWriter

_ROWS = 4096


def values(found: Counterexample, eps: float | None = None) -> dict[str, Any]:
    """The outcome of an attack as plain values; `status` only if `eps` is given.

    Args:
        found: from `Rankings.refute`.
        eps: an order-2 radius: `refuted` if the attack provably breaks the pair inside
            it, `certified` if it is below the certified radius, else `undecided`.

    Raises:
        DataError: if nothing can be proven about the displaced features.
    """
    if not math.isfinite(found.cost):
        raise DataError(
            "The covariance is too ill-conditioned for a proven cost of any attack. "
            "Use a larger ridge."
        )
    out: dict[str, Any] = {
        "claim": found.claim,
        "certified_radius": found.radius,
        "cost": found.cost,
        "flips": found.flips,
        "gap_before": found.gap_before,
        "gap_after": found.gap_after,
    }
    if eps is not None:
        out["eps"] = Wasserstein2(eps).eps
        out["status"] = _status(found, out["eps"])
    return out


def _status(found: Counterexample, eps: float) -> str:
    if found.flips and found.cost <= eps:
        return REFUTED
    return CERTIFIED if 0 < found.radius and eps <= found.radius else UNDECIDED


def in_words(outcome: dict[str, Any]) -> str:
    """The same, to be read."""
    cost, radius = outcome["cost"], outcome["certified_radius"]
    lines = [
        f"Claim: {outcome['claim']}.",
        f"Certified up to order-2 radius {at_least(radius)}.",
        f"The attack displaces the training features at cost {at_most(cost)}: the gap "
        f"goes from {short(outcome['gap_before'])} to {short(outcome['gap_after'])}.",
        "The flip is proven, rounding included."
        if outcome["flips"]
        else "The flip is not proven: the attack found no way to break the claim.",
    ]
    if "status" in outcome:
        eps = given(outcome["eps"])
        lines.append(
            {
                REFUTED: f"Refuted: the claim breaks inside radius {eps}.",
                CERTIFIED: f"Certified: nothing inside radius {eps} can break it.",
                UNDECIDED: f"Undecided at radius {eps}: it is beyond the certified "
                f"radius, and the attack did not break the claim inside it.",
            }[outcome["status"]]
        )
    return "\n".join(lines)


def save(
    found: Counterexample, geometry: NaturalGeometry, path: str | os.PathLike
) -> DiskStore:
    """Writes the displaced training features as a store that can be used again.

    Columns and metadata are those of the stored features, so the same targets fit, and
    it can be certified, with the ridge `geometry.ridge`. Its own ranking is about the
    displaced examples; the claim that was attacked is about the stored ones, evaluated
    with the covariance of this store.

    Raises:
        StoreError: if the folder is in use or cannot be written.
    """
    train: Any = geometry.train
    columns = {name: train.column(name) for name in train.columns}
    metadata = {**train.metadata, "displaced_from": train.digest()}
    with DiskWriter(path, metadata, shard_rows=_ROWS) as writer:
        for start in range(0, len(found.displaced), _ROWS):
            part = slice(start, start + _ROWS)
            writer.append(
                found.displaced[part],
                {
                    name: np.asarray(column[part], np.float64)
                    for name, column in columns.items()
                },
            )
        return writer.close()
