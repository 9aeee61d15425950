"""A convex model at its optimum: what every influence is computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from natgeo import checks, resources
from natgeo.convex import solver
from natgeo.convex.losses import Multinomial, Squared
from natgeo.convex.risk import Risk
from natgeo.errors import ArgumentError, DataError


@dataclass(frozen=True, eq=False)
class Scaling:
    """How rows of a table become rows of the design; held fixed after the fit.

    x_design = (x_table - center) / spread, with a one appended for the intercept.

    Attributes:
        center: [d]; zeros if nothing is subtracted.
        spread: [d]; ones if nothing is divided.
        intercept: whether a column of ones is appended.
        names: names of the d columns of the table.
    """

    center: np.ndarray
    spread: np.ndarray
    intercept: bool
    names: tuple[str, ...]

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Design rows [B, p] of table rows [B, d]."""
        scaled = (np.asarray(x, np.float64) - self.center) / self.spread
        if not self.intercept:
            return scaled
        return np.hstack([scaled, np.ones((len(scaled), 1))])


@dataclass(frozen=True, eq=False)
class ConvexModel(Risk):
    """A risk with its minimiser (certificates.md, section 8).

    Attributes:
        loss, design, labels, weights, penalty: as in `Risk`; the weights of `fit` sum
            to one.
        coefficients: theta, [p, q], in units of the design: q = 1 for squared and
            logistic loss, C - 1 for C classes (`losses.Multinomial` says which).
        residual: largest gradient of a column over the scale of its rounding errors.
        scaling: from table rows to design rows.
        classes: what the integer codes stand for, [C]; None for squared loss.
    """

    coefficients: np.ndarray
    residual: float
    scaling: Scaling
    classes: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        n, p = self.design.shape
        return f"ConvexModel({self.loss.name}, N={n}, p={p}, q={self.loss.outputs})"

    @property
    def theta(self) -> np.ndarray:
        """The coefficients as one vector, [P]."""
        return self.coefficients.ravel()

    @cached_property
    def predictors(self) -> np.ndarray:
        """Linear predictors u of the training examples, [N, q]."""
        return self.design @ self.coefficients

    @cached_property
    def hessian(self) -> np.ndarray:
        """Hessian of the risk at the optimum, ridge included, [P, P].

        Raises:
            ArgumentError: if the memory does not hold it.
        """
        return self._factorized[0]

    @cached_property
    def factor(self) -> np.ndarray:
        """Lower Cholesky factor of the Hessian, [P, P]."""
        return self._factorized[1]

    @cached_property
    def _factorized(self) -> tuple[np.ndarray, np.ndarray]:
        resources.require_memory(
            24 * self.parameters**2,
            f"A Hessian of {self.parameters:,} parameters",
            "Use fewer columns, or project the features first.",
        )
        return solver.factorize(self, self.coefficients)

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Hessian^-1 times a vector [P] or the rows of a matrix [B, P]."""
        if self.parameters <= solver.DENSE:
            return linalg.cho_solve((self.factor, True), vectors.T).T
        rows = np.atleast_2d(vectors)
        solved = [solver.solve(self, self.coefficients, row) for row in rows]
        return np.stack(solved).reshape(np.shape(vectors))

    def product(self, vector: np.ndarray) -> np.ndarray:
        """Hessian times a vector [P], without the matrix."""
        direction = np.reshape(vector, self.shape)
        return self.product_at(self.coefficients, direction).ravel()

    def gradients(
        self, rows: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Gradients of the losses at the optimum, without the ridge, [B, P].

        Args:
            rows: design rows, [B, p]; None for the training examples.
            labels: their labels or codes, [B].
        """
        x, y = self._examples(rows, labels)
        first = self.loss.first(x @ self.coefficients, y)
        return (x[:, :, None] * first[:, None, :]).reshape(len(x), -1)

    def losses(
        self, rows: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Losses at the optimum, without the ridge, [B]."""
        x, y = self._examples(rows, labels)
        return self.loss.value(x @ self.coefficients, y)

    def rows(self, x: Any) -> np.ndarray:
        """Design rows [B, p] of table rows [B, d], by the scaling of the fit.

        Raises:
            DataError: if they are not finite or have another number of columns.
        """
        array = np.asarray(x)
        if array.dtype.kind in "iub":
            array = array.astype(np.float64)
        table = checks.matrix("x", array)
        if table.shape[1] != len(self.scaling.center):
            raise DataError(
                f"x has {table.shape[1]} columns, the model was fitted to "
                f"{len(self.scaling.center)}."
            )
        return self.scaling.rows(table)

    def codes(self, y: Any) -> np.ndarray:
        """Labels [B] as this model's loss reads them: numbers, or codes of classes.

        Raises:
            DataError: for a class that the model does not know.
        """
        if self.classes is None:
            values = np.asarray(y, np.float64)
            checks.finite("y", values)
            return values
        values = np.asarray(y)
        codes = np.searchsorted(self.classes, values)
        codes = np.minimum(codes, len(self.classes) - 1)
        unknown = np.flatnonzero(self.classes[codes] != values)
        if len(unknown):
            raise DataError(
                f"y[{unknown[0]}]={values[unknown[0]]!r} is none of the classes of "
                f"this model: {', '.join(map(str, self.classes[:10]))}."
            )
        return codes

    def predict(self, x: Any) -> np.ndarray:
        """Predicted number or class of table rows [B, d], [B]."""
        u = self.rows(x) @ self.coefficients
        if self.classes is None:
            return u[:, 0]
        return self.classes[np.argmax(self.probabilities(u), axis=1)]

    def probabilities(self, u: np.ndarray) -> np.ndarray:
        """Probability of every class at linear predictors [B, q], [B, C].

        Raises:
            ArgumentError: for squared loss, which has no classes.
        """
        if isinstance(self.loss, Squared):
            raise ArgumentError("A model with squared loss has no probabilities.")
        return self.loss.probabilities(u)

    def refit(
        self,
        *,
        design: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        penalty: np.ndarray | None = None,
        start: np.ndarray | None = None,
    ) -> ConvexModel:
        """Real retraining on other data, from the present optimum.

        The ridge and the scaling stay what they are, and the weights are taken as they
        come: with one of them set to zero the others keep theirs, which is what leaving
        a row out does to a sum of losses with a fixed ridge.

        Args:
            design: [N', p]; None keeps it.
            labels: [N'], numbers or codes; None keeps them.
            weights: [N'], not negative; None keeps them, or 1/N' for another N'.
            penalty: [p]; None keeps it.
            start: coefficients to begin from, [p, q]; None for the present ones.

        Raises:
            DataError: if the new data have no optimum (see `solver.minimize`).
        """
        new = Risk(
            self.loss,
            self.design if design is None else np.asarray(design, np.float64),
            self.labels if labels is None else np.asarray(labels, self.labels.dtype),
            self._new_weights(design, weights),
            self.penalty if penalty is None else np.asarray(penalty, np.float64),
        )
        _check_shapes(new, self.design.shape[1])
        start = self.coefficients if start is None else start
        found = solver.minimize(new, start)
        return at_optimum(new, found, self.scaling, self.classes)

    def _new_weights(
        self, design: np.ndarray | None, weights: np.ndarray | None
    ) -> np.ndarray:
        if weights is not None:
            return np.asarray(weights, np.float64)
        if design is None or len(design) == len(self.weights):
            return self.weights
        return np.full(len(design), 1 / len(design))

    def _examples(
        self, rows: np.ndarray | None, labels: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if rows is None:
            return self.design, self.labels
        if labels is None:
            raise ArgumentError("rows were given without their labels.")
        return np.atleast_2d(rows), np.atleast_1d(labels)


def at_optimum(
    risk: Risk,
    found: solver.Optimum,
    scaling: Scaling,
    classes: np.ndarray | None,
    notes: tuple[str, ...] = (),
) -> ConvexModel:
    """The model of a risk whose minimiser was found."""
    return ConvexModel(
        risk.loss,
        risk.design,
        risk.labels,
        risk.weights,
        risk.penalty,
        found.theta,
        found.residual,
        scaling,
        classes,
        notes,
    )


def _check_shapes(risk: Risk, columns: int) -> None:
    n = len(risk.design)
    checks.matrix("design", risk.design, columns)
    for name, value, size in (
        ("labels", risk.labels, n),
        ("weights", risk.weights, n),
        ("penalty", risk.penalty, columns),
    ):
        if value.shape != (size,):
            raise DataError(f"{name} has shape {value.shape}: expected ({size},).")
    checks.finite("weights", risk.weights)
    if np.min(risk.weights) < 0 or np.min(risk.penalty) < 0:
        raise DataError("Weights and penalties must not be negative.")
    if isinstance(risk.loss, Multinomial) and (
        np.min(risk.labels) < 0 or np.max(risk.labels) >= risk.loss.classes
    ):
        raise DataError(f"labels must be codes from 0 to {risk.loss.classes - 1}.")
