"""What is explained: the loss, the margin or the prediction of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.convex.model import ConvexModel
from natgeo.errors import ArgumentError, DataError

OUTPUTS = ("loss", "margin", "prediction")
# Losses below which the second derivative of a margin overflows.
_CERTAIN = 1e-150


@dataclass(frozen=True, eq=False)
class Targets:
    """Examples whose output is explained, and the derivatives of that output.

    With p the model's probability of a target's label, the outputs are functions of its
    loss l = -log p, and their derivatives follow by the chain rule:

        margin       log(p / (1 - p)) = -l - log(1 - exp(-l))
        prediction   p = exp(-l)

    For squared loss the prediction is the linear predictor itself, in units of y, and
    there is no margin.

    Attributes:
        model: the model that they are targets of.
        rows: design rows, [M, p].
        labels: numbers or codes, [M].
        output: one of `OUTPUTS`.
    """

    model: ConvexModel
    rows: np.ndarray
    labels: np.ndarray
    output: str

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ArgumentError(
                f"output={self.output!r}: expected one of {', '.join(OUTPUTS)}."
            )
        if self.output == "margin" and self.model.classes is None:
            raise ArgumentError(
                "output='margin' is for classes: with squared loss use 'prediction'."
            )
        if self.output == "margin" and np.min(self._losses()) < _CERTAIN:
            raise DataError(
                "The model gives a target's label the probability 1 to rounding: its "
                "margin has no derivative in float64. Use output='loss', or a larger "
                "ridge."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, place: int) -> Targets:
        """One of them."""
        part = slice(place, place + 1)
        return Targets(self.model, self.rows[part], self.labels[part], self.output)

    def values(self, theta: np.ndarray | None = None) -> np.ndarray:
        """The outputs, [M], at other coefficients [p, q] if they are given."""
        return self.values_at(self._predictors(theta))

    def values_at(self, u: np.ndarray) -> np.ndarray:
        """The outputs, [M], at given linear predictors [M, q]."""
        if self._linear:
            return u[:, 0]
        losses = self.model.loss.value(u, self.labels)
        if self.output == "loss":
            return losses
        if self.output == "prediction":
            return np.exp(-losses)
        return -losses - np.log(-np.expm1(-losses))

    def first(self) -> np.ndarray:
        """First derivatives of the outputs in the linear predictor, [M, q]."""
        u = self._predictors()
        if self._linear:
            return np.ones_like(u)
        return self._slopes(u)[0] * self.model.loss.first(u, self.labels)

    def second(self, a: np.ndarray) -> np.ndarray:
        """Second derivatives in the linear predictor times a, [M, q]."""
        u = self._predictors()
        if self._linear:
            return np.zeros_like(u)
        once, twice = self._slopes(u)
        first = self.model.loss.first(u, self.labels)
        along = np.sum(first * a, axis=1, keepdims=True)
        return once * self.model.loss.second(u, a) + twice * first * along

    def gradients(self) -> np.ndarray:
        """Gradients of the outputs in the coefficients, [M, P]."""
        first = self.first()
        return (self.rows[:, :, None] * first[:, None, :]).reshape(len(self), -1)

    @property
    def _linear(self) -> bool:
        return self.output == "prediction" and self.model.classes is None

    def _predictors(self, theta: np.ndarray | None = None) -> np.ndarray:
        return self.rows @ (self.model.coefficients if theta is None else theta)

    def _losses(self) -> np.ndarray:
        return self.model.loss.value(self._predictors(), self.labels)

    def _slopes(self, u: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | float]:
        """First and second derivative of the output in the loss, [M, 1]."""
        if self.output == "loss":
            return 1.0, 0.0
        losses = self.model.loss.value(u, self.labels)[:, None]
        p, other = np.exp(-losses), -np.expm1(-losses)
        if self.output == "prediction":
            return -p, p
        return -1 / other, p / other**2


def targets(
    model: ConvexModel, x: Any, y: Any = None, *, output: str = "loss"
) -> Targets:
    """Rows of a table as targets.

    Args:
        model: a fitted model.
        x: [M, d] table rows, or one row [d].
        y: their labels, [M]. None for the classes that the model predicts; a loss
            needs labels, and squared loss has no other use for them.
        output: "loss", "margin" (log odds of the label, classes only) or "prediction"
            (probability of the label, or the predicted number).

    Raises:
        ArgumentError: for an output that the model does not have, or a loss without
            labels.
        DataError: for unusable rows, or labels that the model does not know.
    """
    array = np.asarray(x)
    rows = model.rows(array[None] if array.ndim == 1 else array)
    if y is None:
        if output == "loss":
            raise ArgumentError("output='loss' needs y, the labels of the targets.")
        return Targets(model, rows, _own_labels(model, rows), output)
    labels = np.atleast_1d(model.codes(y))
    if labels.shape != (len(rows),):
        raise ArgumentError(f"y has {len(labels)} labels for {len(rows)} rows of x.")
    return Targets(model, rows, labels, output)


def training_targets(
    model: ConvexModel, indices: Any, *, output: str = "loss"
) -> Targets:
    """Training examples as targets, with their own labels.

    Args:
        model: a fitted model.
        indices: which training examples, [M].
        output: as in `targets`.
    """
    chosen = checks.indices("indices", indices, len(model.design))
    return Targets(model, model.design[chosen], model.labels[chosen], output)


def _own_labels(model: ConvexModel, rows: np.ndarray) -> np.ndarray:
    u = rows @ model.coefficients
    if model.classes is None:
        return u[:, 0]
    return np.argmax(model.probabilities(u), axis=1)
