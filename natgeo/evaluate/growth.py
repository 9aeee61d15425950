"""What more members of an ensemble buy: checkpoints, or projections of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.ensemble import certify_ensemble
from natgeo.errors import ArgumentError
from natgeo.evaluate.agreement import Agreement
from natgeo.evaluate.truth import lds
from natgeo.geometry.ensemble import Ensemble, ensemble
from natgeo.types import Threat


@dataclass(frozen=True, eq=False)
class Grown:
    """An ensemble of the first members.

    Attributes:
        count: how many members C.
        lds: its linear datamodeling score.
        certified: estimated share of pairs that it certifies, mean over the targets;
            None if no threat was given.
    """

    count: int
    lds: Agreement
    certified: float | None


def ensemble_growth(
    members: Sequence[tuple[Any, Any]],
    retrained: Any,
    *,
    counts: Sequence[int] | None = None,
    ridge: float | None = None,
    threat: Threat | None = None,
    pairs: int = 2000,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Grown]:
    """LDS, and the certified share, of the first 1, 2, ... members.

    Differences between rows are `row.lds.minus(other.lds)`: they share resamples.

    Args:
        members: pairs (train, targets) as for `natgeo.ensemble`: checkpoints, or
            projections of one checkpoint with different seeds.
        retrained: the truth, as for `lds`.
        counts: how many members to take; default: every number.
        ridge: as for `natgeo.natural_geometry`.
        threat: what may happen to the training distribution, in every member.
        pairs: sampled pairs for the certified share.
        resamples: as for `lds`.
        seed: of the resamples and of the sampled pairs.

    Raises:
        ArgumentError: for counts that are out of range.
        DataError: if members, scores and truth do not fit.
    """
    whole = ensemble(members, ridge)
    sizes = range(1, len(members) + 1) if counts is None else counts
    rows = []
    for size in sizes:
        if checks.count("counts", size) > len(members):
            raise ArgumentError(f"counts={size} is more than {len(members)} members.")
        part = Ensemble(whole.geometries[:size], whole.targets[:size])
        found = lds(part.scores, retrained, resamples=resamples, seed=seed)
        share = None
        if threat is not None:
            made = certify_ensemble(part, threat).estimate(pairs, seed=seed)
            share = float(np.mean(made.fraction))
        rows.append(Grown(int(size), found, share))
    return rows
