"""Choosing ridge, width and layers: by LDS on a small budget, or by dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError
from natgeo.evaluate.agreement import Agreement
from natgeo.evaluate.truth import lds
from natgeo.geometry.natural import NaturalGeometry, natural_geometry


@dataclass(frozen=True, eq=False)
class Choice:
    """One candidate and what it is worth.

    Attributes:
        name: of the candidate.
        lds: its linear datamodeling score.
        behind: how far it lies behind the best one; an interval that holds 0 means
            that the truth at hand cannot tell them apart.
    """

    name: Any
    lds: Agreement
    behind: Agreement


def choose(
    candidates: Mapping[Any, Any],
    retrained: Any,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Choice]:
    """Orders candidates by their LDS, the best first.

    Fifty retrained halves and twenty targets tell large differences apart. The best of
    many looks better than it is: judge it again on other halves and targets.

    Args:
        candidates: scores [M, N] by name, or functions of no argument that return them
            (called one after another, so that only one is in memory).
        retrained: the truth, as for `lds`.
        resamples: as for `lds`.
        seed: as for `lds`.

    Raises:
        ArgumentError: if there is no candidate.
        DataError: if scores and truth do not fit.
    """
    if not candidates:
        raise ArgumentError("candidates is empty: name at least one.")
    found = {
        name: lds(
            made() if callable(made) else made,
            retrained,
            resamples=resamples,
            seed=seed,
        )
        for name, made in candidates.items()
    }
    order = sorted(found, key=lambda name: -found[name].value)
    best = found[order[0]]
    return [Choice(name, found[name], best.minus(found[name])) for name in order]


def ridges(
    train: Any, shares: Any, score: Callable[[NaturalGeometry], Any]
) -> dict[float, Callable[[], Any]]:
    """Candidates for `choose` that differ by their ridge.

    Args:
        train: training features, a store or [N, K].
        shares: ridges as shares of the trace of the covariance, so that they mean the
            same at every width.
        score: scores of a geometry, such as `lambda g: natgeo.scores(g, targets)`.

    Raises:
        ArgumentError: for shares that are not numbers, or negative.
    """
    rows = np.asarray(train, np.float64)
    trace = float(np.square(rows).sum(axis=1).mean())

    def candidate(share: float) -> Callable[[], Any]:
        return lambda: score(natural_geometry(train, share * trace))

    return {
        float(share): candidate(checks.nonnegative("shares", share)) for share in shares
    }


def suggested_width(geometry: NaturalGeometry, factor: float = 15.0) -> int:
    """A projected dimension K from the effective dimension at this ridge.

    K = factor x d_eff, rounded up to a power of two. The effective dimension of wide
    features hardly depends on K at a fixed ridge, so that one featurization with a
    generous K is enough. Rules of thumb say 10 to 20 times; `benchmarks.lds` says what
    that is worth.

    Raises:
        ArgumentError: for a factor that is not positive.
    """
    if not checks.nonnegative("factor", factor) > 0:
        raise ArgumentError(f"factor={factor!r} must be above 0.")
    wanted = int(np.ceil(factor * geometry.effective_dimension))
    return 1 << max(0, wanted - 1).bit_length()
