"""The study of a table as a section of a result document."""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo.convex.intervals import guarantee
from natgeo.convex.study import Explained, Study
from natgeo.convex.validation import Validation


def summary(study: Study) -> list[dict[str, str]]:
    """The figures at the top of the page."""
    model = study.model
    chosen = "as given" if study.validation is None else "by cross-validation"
    return [
        {
            "label": "Training rows",
            "value": f"{len(model.design):,}",
            "note": f"{len(model.scaling.names)} columns, {model.loss.name} loss",
        },
        {
            "label": "Ridge",
            "value": f"{_ridge(study):.4g}",
            "note": f"{chosen}, on standardised columns",
        },
    ]


def convex_section(study: Study, label: str) -> dict[str, Any]:
    """What was found, as plain values.

    Args:
        study: from `natgeo.convex.study.study`.
        label: name of the label column.
    """
    model, options = study.model, study.options
    return {
        "label": label,
        "loss": model.loss.name,
        "N": len(model.design),
        "columns": len(model.scaling.names),
        "ridge": _ridge(study),
        "eps": options.eps,
        "says": _guarantee(study),
        "chosen": None
        if study.validation is None
        else f"{options.rule} of {study.validation.folds} folds",
        "validation": None
        if study.validation is None
        else _validation(study.validation),
        "targets": [_target(study, found) for found in study.explained],
        "suspects": [
            {"row": int(study.rows[i]), "score": float(s), "label": _label(study, i)}
            for i, s in zip(study.suspects, study.self_influence, strict=True)
        ],
        "notes": list(study.notes),
    }


def _guarantee(study: Study) -> str | None:
    if not study.explained:
        return None
    vacuous = sum(int(found.intervals.vacuous.sum()) for found in study.explained)
    return guarantee(study.model, study.options.eps, vacuous, "loss")


def _validation(found: Validation) -> list[dict[str, float]]:
    columns = zip(found.ridges, found.means, found.errors, strict=True)
    return [
        {"ridge": float(r), "loss": float(m), "error": float(e)} for r, m, e in columns
    ]


def _target(study: Study, found: Explained) -> dict[str, Any]:
    intervals = found.intervals
    return {
        "row": found.row,
        "label": found.label,
        "predicted": found.predicted,
        "loss": found.loss,
        "influences": [
            {
                "row": int(found.train[b]),
                "label": _label(study, int(i)),
                "influence": float(intervals.influence[b]),
                "half_width": float(intervals.half_width[b]),
                "low": _finite(intervals.low[b]),
                "high": _finite(intervals.high[b]),
                "left_out": float(found.left_out[b]),
            }
            for b, i in enumerate(intervals.train)
        ],
    }


def _ridge(study: Study) -> float:
    return float(np.max(study.model.penalty))


def _label(study: Study, index: int) -> str:
    model = study.model
    value = model.labels[index]
    return f"{value:g}" if model.classes is None else str(model.classes[value])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
