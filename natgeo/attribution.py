"""The shortest use: a model, its parameters and arrays in, certified rankings out.

`attribute` chooses projector, width and ridge, says what it chose and why, and hands
out the same objects as the steps it is made of, so that nobody has to start again when
they want to choose for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import jax
import numpy as np

from natgeo import checks
from natgeo.certify.ensemble import EnsembleRankings
from natgeo.certify.rankings import Rankings, certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.display import percent
from natgeo.errors import ArgumentError, DataError
from natgeo.features import batches, projectors, tasks
from natgeo.features.featurize import featurize
from natgeo.geometry import kernels
from natgeo.geometry.ensemble import Ensemble, ensemble
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.geometry.scores import scores
from natgeo.report import sections
from natgeo.report.ensemble import document as ensemble_document
from natgeo.report.page import write_report
from natgeo.types import Params, Projector, Store

_WIDEST = 2048


@dataclass(frozen=True, eq=False)
class Attribution:
    """Which training examples made a model say what it says about the targets.

    Attributes:
        geometry: the natural geometry of the training set.
        targets: the store of target features.
        choices: what was chosen and why, and the memory it takes.
    """

    geometry: NaturalGeometry
    targets: Store
    choices: Mapping[str, str]

    def __repr__(self) -> str:
        (n, k), m = self.geometry.train.shape, self.targets.shape[0]
        lines = [f"  {name}: {text}" for name, text in self.choices.items()]
        return "\n".join([f"Attribution(N={n}, M={m}, K={k})", *lines])

    @cached_property
    def scores(self) -> np.ndarray:
        """Natural W-TRAK scores, [M, N]; positive supports the target's output."""
        return scores(self.geometry, self.targets)

    def top(self, target: int, k: int = 10) -> np.ndarray:
        """Indices of the k highest-scoring training examples of a target."""
        row = self.scores[checks.index("target", target, self.targets.shape[0])]
        return np.argsort(-row, kind="stable")[: checks.count("k", k)]

    def certify(self, eps: float, *, progress: bool = False) -> Certification:
        """Certifies all rankings against the order-2 natural ball of radius eps."""
        n, m = self.geometry.train.shape[0], self.targets.shape[0]
        rankings = certify_rankings(
            self.geometry,
            self.targets,
            Wasserstein2(eps),
            progress=progress,
            kernel=kernels.for_work(n, m, len(sections.RADII)),
        )
        return Certification(self, rankings)


@dataclass(frozen=True, eq=False)
class Certification:
    """An attribution with its certificates.

    Attributes:
        attribution: the point estimates.
        rankings: the certificates; see `Rankings` for everything they answer.
    """

    attribution: Attribution
    rankings: Rankings

    def document(self, *, targets: int = 6) -> dict[str, Any]:
        """The result as plain values, with details of the first `targets` targets."""
        shown = range(min(targets, self.rankings.targets.shape[0]))
        curve = sections.curve_section(self.rankings)
        fraction = self.rankings.fraction  # known from the curve's pass over all pairs
        return sections.document(
            "attribution",
            "Certified attribution",
            summary=[
                {
                    "label": "Certified pairs",
                    "value": percent(fraction.mean()),
                    "note": f"of {self.rankings.pairs:,} pairs, mean of "
                    f"{len(fraction)} targets, {self.rankings.threat}",
                }
            ],
            guarantee=sections.guarantee_section(self.rankings),
            geometry=sections.geometry_section(self.rankings),
            curve=curve,
            targets=[
                sections.target_section(
                    self.rankings, self.attribution.scores[target], target
                )
                for target in shown
            ],
            provenance=dict(self.attribution.choices),
        )

    def report(self, path: str | os.PathLike) -> None:
        """Writes the result as one self-contained HTML page."""
        write_report(self.document(), path)


@dataclass(frozen=True, eq=False)
class EnsembleCertification(EnsembleRankings):
    """Certificates of an ensemble attribution, with a report.

    Attributes:
        choices: what was chosen for the features and why.
    """

    choices: Mapping[str, str] = field(default_factory=dict)

    def document(self, *, targets: int = 6) -> dict[str, Any]:
        """The result as plain values, with details of the first `targets` targets."""
        return ensemble_document(self, targets=targets, choices=self.choices)

    def report(self, path: str | os.PathLike) -> None:
        """Writes the result as one self-contained HTML page.

        Up to four million pairs are all looked at; beyond, their certified share is
        estimated from a sample and ranks are left out, and the page says so.

        Raises:
            StoreError: if the page cannot be written.
        """
        write_report(self.document(), path)


@dataclass(frozen=True, eq=False)
class EnsembleAttribution:
    """What several checkpoints of one model say together, by the ensemble rule.

    Attributes:
        ensemble: the natural geometry and the targets of each checkpoint.
        members: the attribution of each checkpoint alone.
    """

    ensemble: Ensemble
    members: tuple[Attribution, ...]

    def __repr__(self) -> str:
        return f"EnsembleAttribution({self.ensemble!r})"

    @property
    def scores(self) -> np.ndarray:
        """Ensemble scores, [M, N]; positive supports the target's output."""
        return self.ensemble.scores

    def top(self, target: int, k: int = 10) -> np.ndarray:
        """Indices of the k highest-scoring training examples of a target."""
        row = self.scores[checks.index("target", target, len(self.scores))]
        return np.argsort(-row, kind="stable")[: checks.count("k", k)]

    def certify(self, eps: float, *, progress: bool = False) -> EnsembleCertification:
        """Certificates against the order-2 ball of radius eps in every metric."""
        return EnsembleCertification(
            self.ensemble, Wasserstein2(eps), progress, self.members[0].choices
        )


@overload
def attribute(
    apply: Callable[[Params, Any], Any],
    params: Params,
    *,
    train: Any,
    targets: Any,
    checkpoints: None = None,
    task: tasks.Task | None = None,
    projector: Projector | None = None,
    ridge: float | None = None,
    progress: bool = False,
) -> Attribution: ...


@overload
def attribute(
    apply: Callable[[Params, Any], Any],
    params: Params,
    *,
    train: Any,
    targets: Any,
    checkpoints: Sequence[Params],
    task: tasks.Task | None = None,
    projector: Projector | None = None,
    ridge: float | None = None,
    progress: bool = False,
) -> EnsembleAttribution: ...


def attribute(
    apply: Callable[[Params, Any], Any],
    params: Params,
    *,
    train: Any,
    targets: Any,
    checkpoints: Sequence[Params] | None = None,
    task: tasks.Task | None = None,
    projector: Projector | None = None,
    ridge: float | None = None,
    progress: bool = False,
) -> Attribution | EnsembleAttribution:
    """Attributes the predictions of a classifier to its training examples.

    Args:
        apply: `apply(params, x)` -> logits, [B, classes].
        params: pytree of the trained parameters.
        train: training examples, `(x, y)` arrays or an iterable of batches.
        targets: the examples to explain, likewise.
        checkpoints: further parameters of the same model, for instance of other epochs
            or seeds: the result is then the ensemble of `params` and these. The data
            must be arrays, or an iterable that can be read again.
        task: what is attributed; default: the classification margin of `apply`.
        projector: default: a CountSketch to a quarter of N dimensions, at most 2048,
            or no projection if the model has fewer parameters than that.
        ridge: as in `natural_geometry`.
        progress: show bars on standard error for what takes over a second.

    Raises:
        ArgumentError: for parameters or arguments that cannot be used.
        DataError: for examples that cannot be used.
    """
    if checkpoints is not None:
        members = tuple(
            attribute(
                apply,
                one,
                train=train,
                targets=targets,
                task=task,
                projector=projector,
                ridge=ridge,
                progress=progress,
            )
            for one in _alike(params, checkpoints)
        )
        together = ensemble([(member.geometry, member.targets) for member in members])
        return EnsembleAttribution(together, members)
    chosen = projector or _projector(params, batches.total_rows(train))
    task = task or tasks.classification(apply)
    train_store = featurize(task, params, train, chosen, progress=progress)
    target_store = featurize(task, params, targets, chosen, progress=progress)
    geometry = natural_geometry(train_store, ridge)
    n, k = train_store.shape
    bytes_held = n * k * (train_store.dtype.itemsize + 8) + 3 * 8 * k * k
    return Attribution(
        geometry,
        target_store,
        {
            "task": task.name,
            "projector": f"{chosen} ({'yours' if projector else 'chosen'})",
            "ridge": f"{geometry.ridge:.4g} "
            + ("(chosen: mean eigenvalue / 1000)" if ridge is None else "(yours)"),
            "memory": f"{bytes_held / 2**20:.0f} MiB of features",
        },
    )


def _alike(params: Params, checkpoints: Sequence[Params]) -> list[Params]:
    """All parameters of an ensemble, after checking that they are of one model."""
    if not isinstance(checkpoints, (list, tuple)):
        raise ArgumentError(
            f"checkpoints is a {type(checkpoints).__name__}: expected a list of "
            f"parameters of the same model."
        )
    shapes = jax.tree.map(np.shape, params)
    for place, other in enumerate(checkpoints):
        if jax.tree.map(np.shape, other) != shapes:
            raise ArgumentError(
                f"checkpoints[{place}] has other parameters than params: the names or "
                f"shapes differ. Use checkpoints of the same model."
            )
    return [params, *checkpoints]


def _projector(params: Params, rows: int | None) -> Projector:
    if rows is None:
        raise DataError(
            "The number of training examples is not known from an iterable, so no "
            "width can be chosen. Pass projector=, for instance "
            "projectors.CountSketch(dim=1024)."
        )
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    dim = min(_WIDEST, max(rows // 4, 1))
    return projectors.Identity() if size <= dim else projectors.CountSketch(dim=dim)
