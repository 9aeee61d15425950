"""Where the evidence of a scan comes from: stored features, or a model and arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.labels import detectors, left_out
from natgeo.labels.evidence import Evidence
from natgeo.labels.inputs import input_readouts, second_opinion

_WIDEST = 512


def from_features(
    source: Any,
    *,
    ridge: float | None,
    labels: Any,
    logits: Any,
    readouts: Sequence[Any] | None = None,
) -> Evidence:
    """Evidence from stores of loss features, or one [N, K] array."""
    several = isinstance(source, (list, tuple)) and all(
        hasattr(one, "blocks") for one in source
    )
    stores = list(source) if several and source else [source]
    geometries = tuple(natural_geometry(one, ridge) for one in stores)
    size = geometries[0].train.shape[0]
    for place, geometry in enumerate(geometries):
        _require_loss_features(geometry)
        if geometry.train.shape[0] != size:
            raise DataError(
                f"Store {place} holds {geometry.train.shape[0]} examples, the first "
                f"one {size}: stores of several checkpoints hold the same examples."
            )
    columns = [geometry.train.column("outputs") for geometry in geometries]
    there = [np.asarray(c, np.float64) for c in columns if c is not None]
    losses = np.stack(there) if len(there) == len(columns) else None
    said = None if labels is None else checked_labels(labels, size)
    predicted = None if logits is None else _checked_logits(logits, size)
    if predicted is not None and said is None:
        raise ArgumentError("logits= needs labels=, the given labels.")
    opinions = tuple(readouts or ())
    if opinions and predicted is None:
        raise ArgumentError("readouts= needs labels= and logits= beside the features.")
    if predicted is not None and losses is None:
        losses = np.stack([detectors.loss(one, said) for one in predicted])
    return Evidence(geometries, losses, predicted, said, readouts=opinions)


def from_model(
    apply: Callable,
    params: Any,
    data: Any,
    *,
    ridge: float | None,
    checkpoints: Sequence[Any] | None,
    layers: str | None,
    every_influence: bool,
    fit: Callable | str | None,
    folds: int,
    readouts: Sequence[Any] | None,
    opinions: Mapping[str, Any] | None,
    projector: Any,
    store: Any,
    batch_size: int | None,
    seed: int,
    progress: bool,
) -> Evidence:
    """Evidence from a model and arrays: features are computed, and predictions made."""
    from natgeo.features.featurize import featurize
    from natgeo.labels.predictions import predictor

    if params is None or data is None:
        raise ArgumentError(
            "A model needs its parameters and data: scan_labels(apply, params, (x, y))."
        )
    x, y = _arrays(data)
    every = [*_listed(checkpoints), params]
    task = _loss_task(apply, layers)
    chosen = projector or _projector(params, len(y))
    measured = every if every_influence else every[-1:]
    if store is not None and len(measured) > 1:
        raise ArgumentError(
            "store= holds the features of one checkpoint: leave out every_influence, "
            "or featurize each and scan the stores."
        )
    geometries = []
    recorded: list[np.ndarray | None] = [None] * (len(every) - len(measured))
    for one in measured:
        parts: list[np.ndarray] = []
        made = featurize(
            task,
            one,
            (x, y),
            chosen,
            store=store,
            batch_size=batch_size,
            record=parts.append,
            progress=progress,
        )
        geometries.append(natural_geometry(made, ridge))
        recorded.append(_whole(parts, len(x)))
    predict = predictor(apply)
    held_out = fit is not None
    if fit is None:
        logits = np.stack(
            [
                predict(one, x) if made is None else made
                for one, made in zip(every, recorded, strict=True)
            ]
        )
    else:
        logits = _cross_fitted(fit, predict, x, y, folds, seed)[None]

    told: dict[str, str] = {}
    second: np.ndarray | None = None
    represented: tuple[Any, ...] = ()
    if opinions:
        weights = detectors.stack_weights(list(opinions.values()), y)
        named = zip(opinions, weights, strict=True)
        told["opinions"] = ", ".join(f"{name} {each:.2f}" for name, each in named)
    elif readouts is not None:
        represented = tuple(_represented(one, every[-1], x) for one in readouts)
    # A ridge readout of x is what "closed form" predicts with already.
    elif fit != "closed form" and (plain := input_readouts(x)) is not None:
        told["second opinion"] = plain[0]
        second = second_opinion(plain[1], y, logits.shape[2])

    def features_as(indices: np.ndarray, labels: np.ndarray) -> Any:
        example = x[indices], np.asarray(labels, np.int32)
        # The step that is compiled already.
        size = geometries[-1].train.metadata["batch_size"]
        return featurize(task, params, example, chosen, batch_size=size)

    return Evidence(
        tuple(geometries),
        np.stack([detectors.loss(one, y) for one in logits]),
        logits,
        y,
        held_out,
        represented,
        {
            **told,
            "task": task.name + ("" if layers is None else f", layers {layers}"),
            "projector": str(chosen),
            "ridge": f"{geometries[-1].ridge:.4g}",
            "predictions": f"{folds} models, each not trained on the example"
            if held_out
            else f"{len(every)} checkpoint" + ("s" if len(every) > 1 else ""),
        },
        features_as,
        tuple((opinions or {}).values()),
        second,
    )


def checked_labels(labels: Any, size: int) -> np.ndarray:
    """Labels [N] as whole numbers from 0.

    Raises:
        DataError: for another shape, dtype or sign.
    """
    array = np.asarray(labels)
    if array.shape != (size,) or array.dtype.kind not in "iu":
        raise DataError(
            f"labels has dtype {array.dtype} and shape {array.shape}: expected one "
            f"whole number for each of the {size} examples."
        )
    if array.min() < 0:
        first = int(np.flatnonzero(array < 0)[0])
        raise DataError(
            f"labels holds {array[first]} at {first}: classes are numbered from 0."
        )
    return array.astype(np.intp)


def _checked_logits(logits: Any, size: int) -> np.ndarray:
    array = np.asarray(logits)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] != size:
        raise DataError(
            f"logits has shape {np.shape(logits)}: expected [{size}, classes] or "
            f"[checkpoints, {size}, classes]."
        )
    for place, one in enumerate(array):
        checks.matrix(f"logits[{place}]", one)
    return array


def _require_loss_features(geometry: NaturalGeometry) -> None:
    task = geometry.train.metadata.get("task")
    if task is not None and not str(task).endswith("loss"):
        raise DataError(
            f"These features were made for the task {task!r}; label noise shows in "
            f"loss features. Featurize again with "
            f"tasks.classification(apply, output='loss')."
        )


def _arrays(data: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(data, tuple) or len(data) != 2:
        raise ArgumentError(
            f"data is a {type(data).__name__}: a scan of a model takes arrays (x, y). "
            f"For batches, featurize them and scan the store."
        )
    x, y = np.asarray(data[0]), np.asarray(data[1])
    if not x.ndim or not len(x):
        raise DataError("data holds no examples.")
    return x, checked_labels(y, len(x)).astype(np.int32)


@lru_cache(maxsize=16)
def _loss_task(apply: Callable, layers: str | None) -> Any:
    """The same task for the same model, so that its compiled step is used again."""
    from natgeo.features import tasks

    task = tasks.recorded_loss(apply)
    return task if layers is None else tasks.restricted(task, layers)


def _whole(parts: list[np.ndarray], count: int) -> np.ndarray | None:
    """Logits that the gradients' own forward pass has made, [count, classes].

    None if other processes have made some of them.
    """
    from natgeo.labels.predictions import checked

    if sum(len(part) for part in parts) < count:
        return None
    return checked(np.asarray(np.concatenate(parts), np.float32), count)


def _represented(readout: Any, params: Any, x: np.ndarray) -> Any:
    """A representation [N, D]: as it is given, or computed by `readout(params, x)`."""
    if not callable(readout) or hasattr(readout, "blocks"):
        return readout
    from natgeo.labels.predictions import predictor

    return predictor(readout)(params, x)


def _listed(checkpoints: Sequence[Any] | None) -> list[Any]:
    if checkpoints is None:
        return []
    if not isinstance(checkpoints, (list, tuple)):
        raise ArgumentError(
            f"checkpoints is a {type(checkpoints).__name__}: expected a list of "
            f"parameters of the same model."
        )
    return list(checkpoints)


def _projector(params: Any, rows: int) -> Any:
    """A CountSketch to a quarter of N dimensions, at most 512, or none if P is less."""
    import jax

    from natgeo.features import projectors

    size = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    dim = min(_WIDEST, max(rows // 4, 1))
    return projectors.Identity() if size <= dim else projectors.CountSketch(dim=dim)


def _cross_fitted(
    fit: Callable | str,
    predict: Callable,
    x: np.ndarray,
    y: np.ndarray,
    folds: int,
    seed: int,
) -> np.ndarray:
    """Predictions by models that were not trained on the example, [N, classes]."""
    if fit == "closed form":
        return left_out.leave_one_out(np.asarray(x, np.float64).reshape(len(x), -1), y)
    if not callable(fit):
        raise ArgumentError(
            f"fit={fit!r}: expected a function fit(x, y) -> params, or 'closed form'."
        )

    def run(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        return np.asarray(predict(fit(x[train], y[train]), x[held_out]))

    return left_out.cross_fit(run, y, folds, seed)
