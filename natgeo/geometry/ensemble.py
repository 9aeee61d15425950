"""Several checkpoints of one model: one natural geometry each, one score for all.

The ensemble rule of TRAK (arXiv 2303.14186, section 3.2): the mean over checkpoints of
the kernels times the mean over checkpoints of the residual weights,

    tau(t, i) = (1/C sum_c w_t^c . w_i^c) (1/C sum_c r_i^c)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.natural import NaturalGeometry, as_target_store, natural_geometry
from natgeo.types import Store


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The geometries of C checkpoints, about the same N and M examples.

    Attributes:
        geometries: one natural geometry for each checkpoint.
        targets: the store of the M targets, for each checkpoint.
    """

    geometries: tuple[NaturalGeometry, ...]
    targets: tuple[Store, ...]

    def __repr__(self) -> str:
        widths = ", ".join(str(geometry.width) for geometry in self.geometries)
        n, m = self.geometries[0].train.shape[0], self.targets[0].shape[0]
        return f"Ensemble(C={len(self.geometries)}, N={n}, M={m}, K={widths})"

    @cached_property
    def weights(self) -> np.ndarray:
        """Mean residual weights over the checkpoints, correctly rounded, [N]."""
        columns = [geometry.weights for geometry in self.geometries]
        if len(columns) == 1 or not self.weighted:
            return columns[0]
        count = len(columns)
        rows = zip(*columns, strict=True)
        return np.array([float(sum(map(Fraction, row)) / count) for row in rows])

    @property
    def weighted(self) -> bool:
        """Whether the checkpoints have residual weights."""
        return self.geometries[0].train.column("weights") is not None

    @cached_property
    def scores(self) -> np.ndarray:
        """Ensemble scores of every training example for every target, [M, N].

        In the dtype of `natgeo.scores`; for display, never for a verdict.
        """
        from natgeo.geometry.scores import scores  # it imports JAX

        first, *rest = (
            scores(geometry, targets, weights=self.weights)
            for geometry, targets in zip(self.geometries, self.targets, strict=True)
        )
        return sum(rest, first) / len(self.geometries)


def ensemble(
    members: Sequence[tuple[Any, Any]], ridge: float | None = None
) -> Ensemble:
    """Builds the ensemble of several checkpoints of one model.

    Args:
        members: for each checkpoint a pair (train, targets): stores of `featurize` or
            arrays, or a `NaturalGeometry` in the place of train. Example i must be the
            same one in all of them; widths and projections may differ.
        ridge: as in `natural_geometry`, for each train that is not yet a geometry.

    Raises:
        ArgumentError: if members is not a list of pairs.
        DataError: if the numbers of examples, the tasks or the presence of residual
            weights differ, or a member is unusable.
    """
    pairs = [_pair(place, member) for place, member in enumerate(members)]
    if not pairs:
        raise ArgumentError("members is empty: give at least one (train, targets).")
    geometries = tuple(
        train if isinstance(train, NaturalGeometry) else natural_geometry(train, ridge)
        for train, _ in pairs
    )
    stores = tuple(
        as_target_store(geometry, targets)
        for geometry, (_, targets) in zip(geometries, pairs, strict=True)
    )
    for place in range(1, len(pairs)):
        _check_alike(place, geometries, stores)
    return Ensemble(geometries, stores)


def _pair(place: int, member: Any) -> tuple[Any, Any]:
    if not isinstance(member, (tuple, list)) or len(member) != 2:
        raise ArgumentError(
            f"members[{place}] is a {type(member).__name__}: expected a pair "
            f"(train, targets) for each checkpoint."
        )
    return member[0], member[1]


def _check_alike(
    place: int, geometries: tuple[NaturalGeometry, ...], stores: tuple[Store, ...]
) -> None:
    for what, ours, theirs in (
        ("training examples", geometries[0].train, geometries[place].train),
        ("targets", stores[0], stores[place]),
    ):
        if ours.shape[0] != theirs.shape[0]:
            raise DataError(
                f"members[{place}] has {theirs.shape[0]} {what}, members[0] has "
                f"{ours.shape[0]}. Use the same examples in the same order."
            )
    ours, theirs = geometries[0].train, geometries[place].train
    if (ours.column("weights") is None) != (theirs.column("weights") is None):
        raise DataError(
            f"members[{place}] and members[0] do not agree on having residual weights."
            f" Use the same task for every checkpoint."
        )
    tasks = ours.metadata.get("task"), theirs.metadata.get("task")
    if None not in tasks and tasks[0] != tasks[1]:
        raise DataError(
            f"members[{place}] has the task {tasks[1]!r}, members[0] has {tasks[0]!r}."
            f" Use the same task for every checkpoint."
        )
