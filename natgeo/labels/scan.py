"""Self-influence as a detector of wrong labels, beside the plain loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.evaluate import detection
from natgeo.geometry.natural import (
    NaturalGeometry,
    natural_geometry,
    self_influence,
)


@dataclass(frozen=True, eq=False)
class LabelScan:
    """Suspicion scores of every training example; larger is more suspicious.

    Attributes:
        scores: detector name -> [N]; always `self-influence`, and `loss` if the store
            of features has the losses.
        geometry: the natural geometry of the loss features.
    """

    scores: dict[str, np.ndarray]
    geometry: NaturalGeometry

    def suspicious(
        self, count: int | None = None, by: str = "self-influence"
    ) -> np.ndarray:
        """Indices of the most suspicious examples, worst first.

        Args:
            count: how many; None for all.
            by: a detector of `scores`.

        Raises:
            ArgumentError: for a detector that this scan does not have.
        """
        if by not in self.scores:
            raise ArgumentError(f"by={by!r}: this scan has {', '.join(self.scores)}.")
        order = np.argsort(-self.scores[by], kind="stable")
        return order if count is None else order[: checks.count("count", count)]

    def detection(self, wrong: Any) -> dict[str, dict[str, float]]:
        """AUROC and recall in the top 20 % of each detector, when the truth is known.

        Args:
            wrong: which labels are wrong, [N] booleans.
        """
        return {
            name: {
                "auroc": detection.auroc(values, wrong),
                "recall_at_20": detection.recall_at(values, wrong, 0.2),
            }
            for name, values in self.scores.items()
        }


def scan_labels(features: Any, ridge: float | None = None) -> LabelScan:
    """Scores every training example by how suspicious its label is.

    SI_i = norm(w_i)^2 on *loss* features: their gradient carries the residual 1 - p of
    the given label, so an example that the model fits badly and that few others support
    has a large one. Margin features do not carry the residual and are refused.

    Args:
        features: store from `featurize` with `tasks.classification(apply,
            output="loss")`, or a plain [N, K] array of loss features.
        ridge: as in `natural_geometry`.

    Raises:
        DataError: if the store says that its features are not loss features.
    """
    geometry = natural_geometry(features, ridge)
    task = geometry.train.metadata.get("task")
    if task is not None and not str(task).endswith("loss"):
        raise DataError(
            f"These features were made for the task {task!r}; label noise shows in "
            f"loss features. Featurize again with "
            f"tasks.classification(apply, output='loss')."
        )
    scores = {"self-influence": self_influence(geometry)}
    losses = geometry.train.column("outputs")
    if losses is not None:
        scores["loss"] = np.asarray(losses, np.float64)
    return LabelScan(scores, geometry)
