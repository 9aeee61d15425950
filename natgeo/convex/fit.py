"""Fitting a convex model: what is done to the table, said explicitly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.convex import solver
from natgeo.convex.losses import Logistic, Loss, Multinomial, Squared
from natgeo.convex.model import ConvexModel, Scaling, at_optimum
from natgeo.convex.risk import Risk
from natgeo.errors import ArgumentError, DataError

LOSSES = ("squared", "logistic", "multinomial")
# Integer labels with more distinct values than this are numbers, not classes.
MOST_CODES = 30
MOST_CLASSES = 1000


def fit(
    x: Any,
    y: Any,
    *,
    loss: str | None = None,
    ridge: float = 1e-3,
    intercept: bool = True,
    standardize: bool = True,
    weights: Any = None,
    names: Sequence[str] | None = None,
) -> ConvexModel:
    """Fits a linear, logistic or multinomial logistic model to machine precision.

        minimise  sum_i w_i l(theta^T x_i, y_i) + ridge/2 norm(theta)^2,   sum_i w_i = 1

    The ridge is on the columns of the design, that is, after standardisation; the
    intercept has none. `x` may be features of a frozen network: the model is then its
    last layer.

    Args:
        x: [N, d] numbers, or a data frame of them.
        y: [N]: numbers for squared loss, classes of any kind otherwise.
        loss: "squared", "logistic" or "multinomial"; None chooses by `choose_loss`.
        ridge: mu >= 0, in units of the mean loss.
        intercept: appends a column of ones, without a ridge.
        standardize: subtracts the weighted mean of every column and divides by its
            standard deviation (divisor N).
        weights: [N], positive or zero; scaled to sum to one. None for equal ones.
        names: of the d columns; None for those of a data frame, or their numbers.

    Raises:
        ArgumentError: for an unknown loss or a negative ridge.
        DataError: for text, NaN, constant columns, a single class, and data without a
            single finite optimum (separable classes or collinear columns, no ridge).

    Examples:
        >>> import numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> model = fit(x, 2 * x[:, 0] + 1, ridge=0.0, standardize=False)
        >>> model.coefficients[:, 0].round(12).tolist()
        [2.0, 1.0]
    """
    mu = checks.nonnegative("ridge", ridge)
    table, columns = as_table(x, names)
    shares = as_weights(weights, len(table))
    chosen, labels, classes = as_labels(y, len(table), loss)
    _require_classes(classes, labels, shares)
    scaling = make_scaling(table, columns, shares, intercept, standardize)
    penalty = np.full(table.shape[1] + intercept, mu)
    if intercept:
        penalty[-1] = 0.0
    risk = Risk(chosen, scaling.rows(table), labels, shares, penalty)
    return at_optimum(risk, solver.minimize(risk), scaling, classes)


def choose_loss(y: np.ndarray) -> str:
    """The loss that labels call for.

    Text and booleans are classes, and so are at most `MOST_CODES` different integers:
    two are "logistic", more "multinomial". Floating-point numbers are "squared".
    """
    classes = len(np.unique(y))
    if y.dtype.kind == "f" or (y.dtype.kind in "iu" and classes > MOST_CODES):
        return "squared"
    return "logistic" if classes == 2 else "multinomial"


def as_table(
    x: Any, names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A finite float64 [N, d] array and the names of its columns.

    Raises:
        DataError: for text (names the column), NaN or infinity, or no rows.
    """
    named = getattr(x, "columns", None) if names is None else names
    array = np.asarray(x)
    if array.ndim != 2:
        raise DataError(f"x has shape {array.shape}: expected [rows, columns].")
    columns = tuple(map(str, range(array.shape[1]) if named is None else named))
    if len(columns) != array.shape[1]:
        raise DataError(f"{len(columns)} names for {array.shape[1]} columns of x.")
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        array = _numbers(array, columns)
    return checks.matrix("x", np.asarray(array, np.float64)), columns


def as_weights(weights: Any, rows: int) -> np.ndarray:
    """Weights that sum to one, [N].

    Raises:
        DataError: if they are negative, not finite, all zero, or of another length.
    """
    if weights is None:
        return np.full(rows, 1 / rows)
    values = np.asarray(weights)
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    values = checks.column("weights", values, rows).astype(np.float64)
    if np.min(values) < 0 or not np.sum(values) > 0:
        raise DataError("weights must not be negative, and some must be positive.")
    return values / np.sum(values)


def as_labels(
    y: Any, rows: int, loss: str | None
) -> tuple[Loss, np.ndarray, np.ndarray | None]:
    """The loss, the labels as it reads them, and the classes.

    Raises:
        ArgumentError: for an unknown loss.
        DataError: for labels that do not fit the loss.
    """
    values = np.asarray(y)
    if values.shape != (rows,):
        raise DataError(
            f"y has shape {values.shape}: expected one label for each of {rows} rows."
        )
    if values.dtype.kind == "f":
        checks.finite("y", values)
    if values.dtype.kind == "O":
        values = _text_or_numbers(values)
    name = choose_loss(values) if loss is None else loss
    if name not in LOSSES:
        raise ArgumentError(f"loss={loss!r}: expected one of {', '.join(LOSSES)}.")
    if name == "squared":
        if values.dtype.kind not in "iubf":
            raise DataError("y holds text: squared loss needs numbers.")
        return Squared(), np.asarray(values, np.float64), None
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"y holds {len(classes):,} classes, at most {MOST_CLASSES:,} are fitted. "
            f"Is it an identifier? A number needs loss='squared'."
        )
    if name == "logistic" and len(classes) > 2:
        raise DataError(
            f"y holds {len(classes)} classes: logistic loss is for two. Use "
            f"loss='multinomial', or 'squared' if y is a number."
        )
    chosen: Loss = Logistic() if name == "logistic" else Multinomial(len(classes))
    return chosen, codes, classes


def make_scaling(
    table: np.ndarray,
    names: tuple[str, ...],
    weights: np.ndarray,
    intercept: bool,
    standardize: bool,
) -> Scaling:
    """The standardisation of a table, or none.

    Raises:
        DataError: for constant columns that are to be standardised.
    """
    d = table.shape[1]
    if not standardize:
        return Scaling(np.zeros(d), np.ones(d), intercept, names)
    used = table[weights > 0]
    constant = np.flatnonzero(np.all(used == used[0], axis=0))
    if len(constant):
        raise DataError(
            f"Column {names[constant[0]]!r} is constant ({len(constant)} such "
            f"columns): it cannot be standardised and tells nothing. Drop it."
        )
    center = weights @ table
    spread = np.sqrt(weights @ (table - center) ** 2)
    return Scaling(center, spread, intercept, names)


def _require_classes(
    classes: np.ndarray | None, codes: np.ndarray, weights: np.ndarray
) -> None:
    if classes is None:
        return
    if len(classes) == 1:
        raise DataError(
            f"Every label is {classes[0]!s}: a classifier needs two classes."
        )
    mass = np.bincount(codes, weights, minlength=len(classes))
    if not np.all(mass > 0):
        raise DataError(
            f"Class {classes[np.argmin(mass)]!s} has no example with a positive "
            f"weight. Drop it."
        )


def _numbers(array: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """An object or text array as float64, or an error that names the column."""
    out = np.empty(array.shape)
    for j, name in enumerate(names):
        for i, value in enumerate(array[:, j]):
            if isinstance(value, (str, bytes)):
                raise DataError(
                    f"Column {name!r} holds text ({str(value)[:40]!r} in row {i}). "
                    f"Drop it, or encode it as numbers, one column per category."
                )
            try:
                out[i, j] = float(value)
            except (TypeError, ValueError):
                raise DataError(
                    f"Column {name!r} holds {value!r} in row {i}: no number."
                ) from None
    return out


def _text_or_numbers(values: np.ndarray) -> np.ndarray:
    """Labels of Python objects as one kind: all text, or all numbers."""
    if all(isinstance(v, str) for v in values):
        return values.astype(str)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "y mixes text with other values, or has gaps: give every row a label of "
            "one kind."
        ) from None
    checks.finite("y", numbers)
    return numbers
