"""A table's study: fit, choose the ridge, and list the most influential rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.convex.fit import fit
from natgeo.convex.influence import influence, self_influence
from natgeo.convex.intervals import ProvenIntervals, proven_interval
from natgeo.convex.leave_out import leave_one_out
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets
from natgeo.convex.table import Labelled
from natgeo.convex.validation import Validation, cross_validate
from natgeo.errors import ArgumentError, DataError


@dataclass(frozen=True)
class Options:
    """How a table is studied; see `natgeo convex --help`.

    Attributes:
        loss: as in `fit`.
        ridge: None for cross-validation.
        folds: of the cross-validation.
        rule: "minimum" or "one-se".
        eps: radius of the intervals.
        top: how many influential rows are listed.
        seed: of the folds.
    """

    loss: str | None = None
    ridge: float | None = None
    folds: int = 5
    rule: str = "minimum"
    eps: float = 0.01
    top: int = 10
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Explained:
    """The most influential training rows of one target, by size of their influence.

    Attributes:
        row: of the table; it was not trained on.
        label: its label, in words.
        predicted: the model's prediction, in words.
        loss: its loss.
        train: row numbers in the table, [B].
        intervals: influences on the loss, with proven and first-order ends.
        left_out: change of the loss when each row is left out, [B].
    """

    row: int
    label: str
    predicted: str
    loss: float
    train: np.ndarray
    intervals: ProvenIntervals
    left_out: np.ndarray


@dataclass(frozen=True, eq=False)
class Study:
    """What was found in a table.

    Attributes:
        model: fitted to all rows that are not explained.
        rows: row of the table of every training example, [N].
        validation: None if the ridge was given.
        options: how it was done.
        explained: one for each target.
        suspects: training examples with the largest self-influence, [B], worst first.
        self_influence: theirs, [B].
        notes: what was done to the table.
    """

    model: ConvexModel
    rows: np.ndarray
    validation: Validation | None
    options: Options
    explained: tuple[Explained, ...]
    suspects: np.ndarray
    self_influence: np.ndarray
    notes: tuple[str, ...]


def row_numbers(text: str | None, size: int) -> np.ndarray:
    """Row numbers written as "3,17", from 0; none for None.

    Raises:
        ArgumentError: for anything else, a repeated row, or a row out of range.
    """
    if text is None:
        return np.zeros(0, np.intp)
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(
            f"--rows {text!r}: expected row numbers like 3,17, counted from 0."
        ) from None
    if len(set(numbers)) < len(numbers):
        raise ArgumentError(f"--rows {text!r} names a row twice.")
    return checks.indices("--rows", numbers, size)


def study(data: Labelled, targets: np.ndarray, options: Options) -> Study:
    """Fits a table without its targets, and explains them.

    Args:
        data: the table.
        targets: rows to explain, [M]; they are not trained on.
        options: how.

    Raises:
        DataError: as `fit` and `cross_validate`.
    """
    kept = np.setdiff1d(np.arange(len(data.y)), targets)
    if not len(kept):
        raise DataError("Every row is to be explained, so none is left to train on.")
    x, y = data.x[kept], data.y[kept]
    ridge = 1e-2 if options.ridge is None else options.ridge
    model = fit(x, y, loss=options.loss, ridge=ridge, names=data.names)
    validation = None
    if options.ridge is None:
        validation = cross_validate(model, folds=options.folds, seed=options.seed)
        penalty = np.where(model.penalty > 0, validation.choose(options.rule), 0.0)
        model = model.refit(penalty=penalty)
    explained = _explain(model, data, kept, targets, options) if len(targets) else ()
    own = self_influence(model)
    suspects = np.argsort(-own, kind="stable")[: options.top]
    return Study(
        model,
        kept,
        validation,
        options,
        explained,
        suspects,
        own[suspects],
        data.notes,
    )


def _explain(
    model: ConvexModel,
    data: Labelled,
    kept: np.ndarray,
    targets: np.ndarray,
    options: Options,
) -> tuple[Explained, ...]:
    rows, codes = model.rows(data.x[targets]), model.codes(data.y[targets])
    aim = Targets(model, rows, codes, "loss")
    scores = influence(model, aim)
    losses, predicted = aim.values(), model.predict(data.x[targets])
    found = []
    for t, row in enumerate(targets):
        top = np.argsort(-np.abs(scores[t]), kind="stable")[: options.top]
        found.append(
            Explained(
                int(row),
                _words(data.y[row]),
                _words(predicted[t]),
                float(losses[t]),
                kept[top],
                proven_interval(aim, top, options.eps, index=t),
                leave_one_out(model, aim.take(t), rows=top)[0],
            )
        )
    return tuple(found)


def _words(label: Any) -> str:
    return f"{label:.6g}" if isinstance(label, np.floating) else str(label)
