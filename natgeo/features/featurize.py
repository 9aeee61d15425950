"""The host loop: batches -> one jitted step -> a store."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.features import batches, gradients
from natgeo.features.devices import data_mesh, data_parallel
from natgeo.features.tasks import Task, as_task
from natgeo.progress import Progress
from natgeo.store.disk import DiskStore, DiskWriter
from natgeo.store.memory import MemoryStore
from natgeo.types import Params, Projector


def featurize(
    task: Task | Callable,
    params: Params,
    data: Any,
    projector: Projector,
    *,
    store: str | os.PathLike | None = None,
    batch_size: int = 64,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
) -> MemoryStore | DiskStore:
    """Projected per-example gradients of every example, with outputs and weights.

    The result does not depend on how `data` is batched. It depends on `batch_size` and
    on the number of devices only through rounding: up to about 1e-6 of a feature's norm
    in float32, because the compiler may order sums differently for another shape.

    Args:
        task: what is attributed: a `Task`, or any f(params, example) -> scalar.
        params: pytree of floating-point parameters, P in all.
        data: arrays such as `(x, y)`, or any iterable of such batches, in a fixed
            order; example i of the result is the i-th row.
        projector: the map from gradients to K features.
        store: a new folder for the features; None keeps them in memory.
        batch_size: examples per compiled step; rounded up to a multiple of the devices.
        devices: devices to share each batch over; default: all local ones.
        progress: show a bar on standard error if it takes over a second.

    Returns:
        A store of features [N, K] with columns `outputs` and, if the task has a
        residual weight, `weights`.

    Raises:
        ArgumentError: for parameters or arguments that cannot be used.
        DataError: for examples that give NaN or infinity, empty data, bad labels.
        StoreError: if the store cannot be written.
    """
    task = as_task(task)
    if (
        not isinstance(projector, Projector)
        or not isinstance(projector, Hashable)
        or isinstance(projector, type)
    ):
        raise ArgumentError(
            f"projector={projector!r} is not a projector: it needs width, project and "
            f"describe, and must be hashable (a frozen dataclass is)."
        )
    gradients.check_params(params)
    mesh = data_mesh(devices)
    size = checks.count("batch_size", batch_size)
    size = -(-size // mesh.size) * mesh.size
    metadata = {
        "task": task.name,
        "params": gradients.params_digest(params),
        "projector": dict(projector.describe()),
        "batch_size": size,
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    step = _compiled_step(task, projector, mesh)
    params = jax.tree.map(jax.numpy.asarray, params)
    total = batches.total_rows(data)
    with (
        _Collector(metadata) if store is None else DiskWriter(store, metadata)
    ) as writer:
        done = 0
        with Progress("featurizing", total, visible=progress) as bar:
            for batch, valid in batches.fixed_batches(data, size):
                if done == 0:
                    validate = task.validator(params, batch) if task.validator else None
                if validate is not None:
                    validate(batch, done)
                if done == 0:
                    gradients.check_output(task, params, batch)
                made = {
                    name: np.asarray(array)[:valid]
                    for name, array in step(params, batch).items()
                }
                _check_finite(task, params, batch, made, done)
                writer.append(made.pop("features"), made)
                done += valid
                bar.advance(valid)
        return writer.close()


@functools.lru_cache(maxsize=16)
def _compiled_step(task: Task, projector: Projector, mesh: Any) -> Callable:
    """One compilation for all data sets that share a task, projector and devices."""
    return data_parallel(gradients.feature_step(task, projector), mesh)


class _Collector:
    """A writer with the face of `DiskWriter` that keeps everything in memory."""

    def __init__(self, metadata: dict[str, Any]):
        self._metadata = metadata
        self._parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []

    def __enter__(self) -> _Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts = []

    def append(self, features: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        self._parts.append((features, columns))

    def close(self) -> MemoryStore:
        features = np.concatenate([features for features, _ in self._parts])
        columns = {
            name: np.concatenate([part[name] for _, part in self._parts])
            for name in self._parts[0][1]
        }
        for array in (features, *columns.values()):
            array.flags.writeable = False  # nobody else holds it: no copy is needed
        return MemoryStore(features, columns, self._metadata)


def _check_finite(
    task: Task, params: Params, batch: Any, made: dict[str, np.ndarray], first: int
) -> None:
    bad = np.zeros(len(made["features"]), bool)
    for array in made.values():
        bad |= ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    example = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[row]), batch)
    culprit = gradients.blame(task, params, example)
    raise DataError(
        f"Example {first + row} is not usable: {culprit} is NaN or infinite "
        f"({int(bad.sum())} of {len(bad)} examples of its batch). Repair or remove the "
        f"example, or look for an overflow in the model; nothing is replaced silently."
    )
