"""What an attack found, in values, in words and as a store.

A verdict and an attack bound the same statement from two sides: it is proven under the
threat, or broken by data that are proven to be inside it, or neither is known.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.moving_attack import MovedCounterexample
from natgeo.certify.threats import Add, Delete, Moving, Replace, Wasserstein2
from natgeo.certify.verdict import CERTIFIED, REFUTED, UNDECIDED, Verdict
from natgeo.certify.witness import Counterexample
from natgeo.display import at_least, at_most, short
from natgeo.errors import DataError
from natgeo.geometry.natural import NaturalGeometry
from natgeo.store.disk import DiskStore
from natgeo.store.writer import DiskWriter
from natgeo.types import Threat

_ROWS = 4096
Found = Counterexample | DataCounterexample
# What a cost is, by the name of the threat.
_COSTS = {
    "Wasserstein2": "order-2 natural distance {cost}",
    "Euclidean2": "order-2 distance {cost} in feature units",
    "Wasserstein1": "order-1 natural distance {cost}",
    "WassersteinInfinity": "no example and no target moves further than {cost}",
    "Delete": "{cost} examples deleted",
    "Add": "{cost} examples added",
    "Replace": "{cost} examples replaced",
}


def values(found: Found, verdict: Verdict, threat: Threat) -> dict[str, Any]:
    """The outcome of an attack as plain values.

    Args:
        found: from `natgeo.refute` under the threat.
        verdict: from `decide` under the same threat.
        threat: what may happen.

    Returns:
        `status` is `refuted` if the data that were found are proven to flip the claim
        and to be `inside` the threat, else what the verdict says. `certified_radius`
        is the order-2 natural radius up to which the claim is proven while its points
        stay where they are.

    Raises:
        DataError: if nothing can be proven about the perturbed data.
    """
    if not math.isfinite(found.cost):
        raise DataError(
            "The covariance is too ill-conditioned for a proven cost of any attack. "
            "Use a larger ridge."
        )
    inside = is_inside(found, threat)
    return {
        "claim": found.claim,
        "threat": threat.describe(),
        "status": REFUTED if found.flips and inside else verdict.status,
        "reason": "" if found.flips and inside else verdict.reason,
        "certified_radius": verdict.radius,
        "cost": found.cost,
        "cost_in_words": _cost(found, threat),
        "inside": inside,
        "flips": found.flips,
        "gap_before": found.gap_before,
        "gap_after": found.gap_after,
    }


def is_inside(found: Found, threat: Threat) -> bool:
    """Whether the data of an attack are proven to be inside the threat."""
    if isinstance(found, Counterexample):
        return isinstance(threat, Wasserstein2) and found.cost <= threat.eps
    return found.inside


def _cost(found: Found, threat: Any) -> str:
    base = threat.threat if type(threat) is Moving else threat
    words = _COSTS[type(base).__name__]
    if isinstance(base, (Delete, Add, Replace)):
        return words.format(cost=int(found.cost))
    return words.format(cost=at_most(found.cost))


def in_words(outcome: Mapping[str, Any]) -> str:
    """The same, to be read."""
    radius, place = outcome["certified_radius"], outcome["inside"]
    flip = (
        "The flip is proven, rounding included"
        if outcome["flips"]
        else "The flip is not proven: the attack found no way to break the claim"
    )
    where = "inside the threat" if place else "not proven to be inside the threat"
    end = {
        REFUTED: "Refuted: the claim breaks inside the threat.",
        CERTIFIED: "Certified: nothing inside the threat can break it.",
        UNDECIDED: f"Undecided: {outcome['reason']}.",
    }
    return "\n".join(
        [
            f"Claim: {outcome['claim']}.",
            f"Threat: {outcome['threat']}.",
            f"Certified up to order-2 radius {at_least(radius)} while its points stay.",
            f"The attack: {outcome['cost_in_words']}, {where}; the gap goes from "
            f"{short(outcome['gap_before'])} to {short(outcome['gap_after'])}.",
            f"{flip}.",
            end[outcome["status"]],
        ]
    )


def save(
    found: Found,
    geometry: NaturalGeometry,
    threat: Threat,
    path: str | os.PathLike,
) -> tuple[DiskStore, float]:
    """Writes the perturbed training features as a store that can be used again.

    Deleted examples are left out and new ones come last, with zeros in every column.
    Columns and metadata are otherwise those of the stored features, so the same targets
    fit. The claim that was attacked is about the points as they are evaluated there,
    with the covariance of this store and the ridge that is returned: the stored ridge,
    times N / N' where the number of examples changes (a factor that all scores share).

    Args:
        found: from `natgeo.refute`.
        geometry: of the stored features.
        threat: what was attacked.
        path: the new folder.

    Returns:
        The store, and the ridge that belongs to it.

    Raises:
        StoreError: if the folder is in use or cannot be written.
    """
    train: Any = geometry.train
    kept, new = _edit(found, threat, train.shape[0])
    metadata = {**train.metadata, "displaced_from": train.digest()}
    with DiskWriter(path, metadata, shard_rows=_ROWS) as writer:
        for rows, columns in _blocks(found, train, kept, new):
            writer.append(rows, columns)
        store = writer.close()
    size = train.shape[0] / (len(kept) + len(new))
    return store, geometry.ridge * size


def save_points(
    found: MovedCounterexample, geometry: NaturalGeometry, path: str | os.PathLike
) -> list[str]:
    """Writes the moved points of a claim as a store; which point each of its rows is.

    Raises:
        StoreError: if the folder is in use or cannot be written.
    """
    train: Any = geometry.train
    names = [f"{kind} {index}" for kind, index in found.points]
    metadata = {**train.metadata, "moved_points": names}
    with DiskWriter(path, metadata, shard_rows=_ROWS) as writer:
        writer.append(np.array(list(found.points.values())))
        writer.close()
    return names


def _edit(found: Found, threat: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the stored places are kept, and the rows that come after them."""
    base = threat.threat if isinstance(threat, Moving) else threat
    kept, rows = np.arange(size), perturbed(found)
    if isinstance(base, Delete) and isinstance(found, DataCounterexample):
        kept = np.delete(kept, found.changed)
    # After an addition rows of zeros fill up; they are no examples.
    added = int(found.cost) if isinstance(base, Add) else 0
    return kept, rows[size : size + added]


def perturbed(found: Found) -> np.ndarray:
    """The perturbed training features, [N', K], float64."""
    return found.displaced if isinstance(found, Counterexample) else found.rows


def _blocks(
    found: Found, train: Any, kept: np.ndarray, new: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    rows = perturbed(found)
    columns = {name: np.asarray(train.column(name)) for name in train.columns}
    for start in range(0, len(kept), _ROWS):
        part = kept[start : start + _ROWS]
        yield (
            rows[part],
            {name: np.asarray(of[part], np.float64) for name, of in columns.items()},
        )
    if len(new):
        yield new, {name: np.zeros(len(new)) for name in columns}
