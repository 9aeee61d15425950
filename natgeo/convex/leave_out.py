"""What happens when training rows are really left out.

A row is left out by setting its weight to zero; the other weights and the ridge stay,
which is what fitting scikit-learn's `Ridge` or `LogisticRegression` without the row
does. With U = x_i (Kronecker) I, h_i the Hessian of its loss in the predictor, and
K_i = U^T H^-1 U, [q, q], one Newton step from the present optimum is

    theta_-i - theta = w_i H^-1 U (I - w_i h_i K_i)^-1 dl_i/du         [eq:loo]

by the Woodbury identity: w_i h_i K_i is the leverage of the row. For squared loss the
step is the exact answer (Sherman and Morrison 1950); otherwise its error is of second
order in the change, and `refit_without` gives the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import linalg

from natgeo import checks
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets, targets
from natgeo.errors import DataError

# Entries of H^-1 U that are held at once.
_BLOCK_ENTRIES = 2**23


def leave_one_out(
    model: ConvexModel,
    x: Any,
    y: Any = None,
    *,
    output: str = "loss",
    rows: Any = None,
) -> np.ndarray:
    """Change of every target's output when one training row is left out, [M, N].

    The output without the row minus the output with it. Exact to rounding for squared
    loss; one Newton step with leverage otherwise, evaluated without linearising the
    output.

    Args:
        model: a fitted model.
        x: [M, d] table rows; or `Targets`, and then nothing else is read.
        y: their labels, [M].
        output: "loss", "margin" or "prediction", see `targets`.
        rows: which training rows are left out, each on its own; None for all, [N].

    Raises:
        DataError: for a row that alone determines a coefficient without a ridge.
    """
    explained = x if isinstance(x, Targets) else targets(model, x, y, output=output)
    u, before = explained.rows @ model.coefficients, explained.values()
    left = np.arange(len(model.design))
    if rows is not None:
        left = checks.indices("rows", rows, len(model.design))
    out = []
    for _, changes in _blocks(model, left):
        moved = np.einsum("mp,bpq->bmq", explained.rows, changes)
        out += [explained.values_at(u + change) - before for change in moved]
    return np.stack(out, axis=1) if out else np.zeros((len(explained), 0))


def without_one(model: ConvexModel, indices: Any) -> np.ndarray:
    """Coefficients without one training row each, [B, p, q] [eq:loo].

    Args:
        model: a fitted model.
        indices: the rows that are left out, each on its own, [B].
    """
    rows = checks.indices("indices", indices, len(model.design))
    found = [changes for _, changes in _blocks(model, rows)]
    return model.coefficients + np.concatenate([np.empty((0, *model.shape)), *found])


def held_out(model: ConvexModel) -> np.ndarray:
    """Linear predictor of every training row by the model without it, [N, q] [eq:loo].

    For squared loss y minus it is the exact leave-one-out residual.
    """
    found = [
        np.einsum("bp,bpq->bq", model.design[rows], changes)
        for rows, changes in _blocks(model, np.arange(len(model.design)))
    ]
    return model.predictors + np.concatenate(found)


def without_group(model: ConvexModel, indices: Any) -> np.ndarray:
    """Coefficients without a group of training rows, [p, q].

    Exact for squared loss; else one Newton step on the risk of the rows that remain.

    Args:
        model: a fitted model.
        indices: the rows that are left out together.

    Raises:
        DataError: if what remains does not determine the coefficients.
    """
    rows = np.unique(checks.indices("indices", indices, len(model.design)))
    x, w, u = model.design[rows], model.weights[rows], model.predictors[rows]
    rest = model.hessian - model.loss.curvature(x, w, u)
    pull = w @ model.gradients(x, model.labels[rows])
    try:
        factor = linalg.cho_factor(rest, lower=True)
    except linalg.LinAlgError:
        raise DataError(
            f"Without these {len(rows)} rows the others do not determine every "
            f"coefficient. Set a larger ridge, or leave out fewer."
        ) from None
    step = linalg.cho_solve(factor, pull)
    return model.coefficients + step.reshape(model.shape)


def refit_without(model: ConvexModel, indices: Any) -> ConvexModel:
    """The model really fitted again without these training rows.

    Raises:
        DataError: if the rest has no finite optimum, say without any row of a class.
    """
    weights = model.weights.copy()
    weights[checks.indices("indices", indices, len(weights))] = 0.0
    return model.refit(weights=weights)


def _blocks(
    model: ConvexModel, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields training rows and the change of the coefficients without each."""
    inverse = linalg.cho_solve((model.factor, True), np.eye(model.parameters))
    q = model.loss.outputs
    size = max(1, _BLOCK_ENTRIES // (model.parameters * q))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, _changes(model, inverse.reshape(-1, model.shape[0], q), part)


def _changes(model: ConvexModel, inverse: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[eq:loo] for some rows, [B, p, q]."""
    x, u, w = model.design[rows], model.predictors[rows], model.weights[rows]
    q = u.shape[1]
    spread = np.einsum("bj,Pjc->bPc", x, inverse, optimize=True)
    kernel = np.einsum(
        "bj,bjdc->bdc", x, spread.reshape(len(x), *model.shape, q), optimize=True
    )
    second = np.stack([model.loss.second(u, e) for e in np.eye(q)], axis=2)
    system = np.eye(q) - w[:, None, None] * (second @ kernel)
    _require_determined(system, rows)
    first = model.loss.first(u, model.labels[rows])[:, :, None]
    answer = w[:, None, None] * np.linalg.solve(system, first)
    return (spread @ answer).reshape(len(x), *model.shape)


def _require_determined(system: np.ndarray, rows: np.ndarray) -> None:
    """Refuses rows of leverage one: without them a coefficient is undetermined."""
    least = np.linalg.det(system)
    bad = np.flatnonzero(~(least > 64 * np.finfo(float).eps))
    if len(bad):
        raise DataError(
            f"Training row {rows[bad[0]]} has leverage 1: without it a coefficient is "
            f"undetermined. Set a positive ridge."
        )
