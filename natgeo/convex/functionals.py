"""Smooth functionals of the parameters of a convex model, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.convex.losses import Multinomial
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets, targets
from natgeo.errors import ArgumentError, DataError


@dataclass(frozen=True, eq=False)
class Functional:
    """A number that depends smoothly on the coefficients.

    Attributes:
        name: what it is, in words.
        value: at the optimum.
        gradient: in the coefficients, [p, q].
    """

    name: str
    value: float
    gradient: np.ndarray


def accuracy(model: ConvexModel, x: Any, y: Any) -> Functional:
    """Mean probability of the right class, a smooth stand-in for the accuracy.

    Args:
        model: a classifier.
        x: [M, d] table rows.
        y: [M] their labels.
    """
    if model.classes is None:
        raise ArgumentError("accuracy is for classes; this model has squared loss.")
    rows = targets(model, x, y, output="prediction")
    return _mean("mean probability of the right class", rows, np.ones(len(rows)))


def gap(model: ConvexModel, x: Any, group: Any, *, label: Any = None) -> Functional:
    """Mean predicted score of one group minus that of the other: a fairness gap.

    Args:
        model: a fitted model.
        x: [M, d] table rows.
        group: [M] booleans; True for the group that counts positively.
        label: the class whose probability is the score; None for the last class of a
            classifier. Squared loss predicts one number and takes none.

    Raises:
        DataError: if a group is empty or `group` does not fit x.
    """
    member = np.asarray(group)
    if member.dtype != bool or member.ndim != 1 or member.all() or not member.any():
        raise DataError(
            f"group of dtype {member.dtype} and shape {member.shape} must be one "
            f"boolean a row, with rows in both groups."
        )
    y = None
    if model.classes is not None:
        y = np.repeat(model.classes[-1] if label is None else label, len(member))
    rows = targets(model, x, y, output="prediction")
    if len(rows) != len(member):
        raise DataError(f"group has {len(member)} entries for {len(rows)} rows of x.")
    share = np.where(member, 1 / member.sum(), -1 / (~member).sum())
    return _mean("gap between the mean scores of two groups", rows, share * len(rows))


def coefficient(
    model: ConvexModel, column: int | str, *, label: Any = None
) -> Functional:
    """One coefficient, in units of the predictor per unit of the table's column.

    Args:
        model: a fitted model.
        column: its name or index.
        label: the class, for several classes: its logit (logits sum to zero).
    """
    names = model.scaling.names
    name = names[column] if isinstance(column, int) and column < len(names) else column
    if name not in names:
        raise ArgumentError(f"column={column!r} is none of the {len(names)} columns.")
    j = names.index(str(name))
    if isinstance(model.loss, Multinomial):
        if label is None:
            raise ArgumentError("Several classes: say which one with label=.")
        outputs = model.loss.basis[int(model.codes([label])[0])]
    else:
        outputs = np.ones(1)
    gradient = np.zeros(model.shape)
    gradient[j] = outputs / model.scaling.spread[j]
    value = float(np.sum(gradient * model.coefficients))
    return Functional(f"coefficient of {name}", value, gradient)


def smooth(
    model: ConvexModel, function: Callable[[Any], Any], name: str = "functional"
) -> Functional:
    """Any functional that JAX can differentiate, in float64.

    Args:
        model: a fitted model.
        function: from the coefficients [p, q], in units of the design, to a scalar;
            arrays that it closes over should be float64 NumPy arrays.
        name: what it is, in words.

    Raises:
        DataError: if its value or its gradient is not finite.
    """
    # Only here: convex models are NumPy, and may be used without JAX.
    import jax

    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(function)(
            jax.numpy.asarray(model.coefficients)
        )
        found = Functional(name, float(value), np.asarray(gradient, np.float64))
    if not (np.isfinite(found.value) and np.isfinite(found.gradient).all()):
        raise DataError(f"{name} or its gradient is not finite at the optimum.")
    return found


def _mean(name: str, rows: Targets, shares: np.ndarray) -> Functional:
    """The mean of shares times outputs, with its gradient."""
    weights = shares / len(rows)
    gradient = rows.rows.T @ (weights[:, None] * rows.first())
    return Functional(name, float(weights @ rows.values()), gradient)
