"""The host loop: batches -> one jitted step -> a store.

A run that writes to disk can be stopped at any instant and continued with
`resume=True`; what may differ between the two runs is decided here, by `_metadata`.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError, StoreError
from natgeo.features import batches, gradients
from natgeo.features.devices import data_mesh, data_parallel
from natgeo.features.tasks import Task, as_task
from natgeo.progress import Progress
from natgeo.store.disk import DiskStore
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from natgeo.types import Params, Projector


def featurize(
    task: Task | Callable,
    params: Params,
    data: Any,
    projector: Projector,
    *,
    store: str | os.PathLike | None = None,
    resume: bool = False,
    shard_rows: int = 8192,
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
        resume: go on with the store if it is unfinished: its shards are verified and
            kept, and the finished store has the bytes of a run that was never stopped.
            An iterable must give the same data in the same order again; what was
            stored is compared with it. A complete store of this run is returned.
        shard_rows: examples per file of the store, rounded up to a multiple of the
            batch; what is lost when a run is stopped is at most one shard.
        batch_size: examples per compiled step; rounded up to a multiple of the devices.
        devices: devices to share each batch over; default: all local ones.
        progress: show a bar on standard error if it takes over a second.

    Returns:
        A store of features [N, K] with columns `outputs` and, if the task has a
        residual weight, `weights`.

    Raises:
        ArgumentError: for parameters or arguments that cannot be used.
        DataError: for examples that give NaN or infinity, empty data, bad labels.
        StoreError: if the store cannot be written, or is of another run or other data;
            the message names every field that differs.
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
    gradients.split_params(params, task.only)  # refuses a choice that matches nothing
    mesh = data_mesh(devices)
    size = checks.count("batch_size", batch_size)
    size = -(-size // mesh.size) * mesh.size
    shard_rows = -(-checks.count("shard_rows", shard_rows) // size) * size
    if store is None and resume:
        raise ArgumentError("resume=True needs store=, the folder to go on with.")
    metadata = _metadata(task, params, projector, size, mesh)
    step = _compiled_step(task, projector, mesh)
    params = jax.tree.map(jax.numpy.asarray, params)
    total = batches.total_rows(data)
    stream = batches.fixed_batches(data, size)
    with (
        _Collector(metadata)
        if store is None
        else DiskWriter(store, metadata, shard_rows=shard_rows, resume=resume)
    ) as writer:
        done, validate = 0, None
        if isinstance(writer, DiskWriter) and writer.stored:
            compute = functools.partial(step, params)
            done = _recognize(writer, stream, compute, visible=progress)
        start = done
        with Progress("featurizing", total, visible=progress, done=done) as bar:
            for batch, valid in stream:
                if done == start:
                    validate = task.validator(params, batch) if task.validator else None
                if validate is not None:
                    validate(batch, done)
                if done == start:
                    gradients.check_output(task, params, batch)
                made = {
                    name: np.asarray(array)[:valid]
                    for name, array in step(params, batch).items()
                }
                _check_finite(task, params, batch, made, done)
                inputs = b"" if store is None else _inputs_digest(batch, valid)
                writer.append(made.pop("features"), made, inputs=inputs)
                done += valid
                bar.advance(valid)
        return writer.close()


def _metadata(
    task: Task, params: Params, projector: Projector, size: int, mesh: Any
) -> dict[str, Any]:
    """Everything that changes a number but the data and the code of the model."""
    kinds = {f"{device.platform} {device.device_kind}" for device in mesh.devices.flat}
    return {
        "task": task.name,
        "params": gradients.params_digest(params),
        "only": task.only,
        "projector": dict(projector.describe()),
        "columns": ["outputs"] + ["weights"] * (task.weight is not None),
        "batch_size": size,
        "devices": {"number": mesh.size, "kind": ", ".join(sorted(kinds))},
        "precision": {
            "x64": bool(jax.config.read("jax_enable_x64")),
            "matmul": str(jax.config.jax_default_matmul_precision),  # type: ignore[attr-defined]
        },
        "versions": {
            "jax": jax.__version__,
            "jaxlib": version("jaxlib"),
            "natgeo": version("natgeo"),
            "numpy": np.__version__,
        },
    }


def _inputs_digest(batch: Any, valid: int) -> bytes:
    """SHA-256 of the first `valid` examples of a batch, dtypes and shapes included."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        part = np.ascontiguousarray(leaf[:valid])
        name = jax.tree_util.keystr(path)
        sha.update(f"{name} {part.dtype} {part.shape}\n".encode())
        sha.update(part.tobytes())
    return sha.digest()


def _recognize(
    writer: DiskWriter,
    stream: Iterator[tuple[Any, int]],
    compute: Callable[[Any], dict[str, Any]],
    *,
    visible: bool,
) -> int:
    """Passes over the examples that are already stored; returns their number.

    Raises:
        StoreError: if the data, or what the model computes from them, has changed.
    """
    done, stored, first = 0, writer.stored, None
    with Progress("checking stored examples", stored, visible=visible) as bar:
        while done < stored:
            batch, valid = next(stream, (None, 0))
            if not valid:
                raise StoreError(
                    f"The data end at example {done}, but {writer.path} already holds "
                    f"{stored} examples. Give the data that it was begun with."
                )
            writer.recognize(valid, _inputs_digest(batch, valid))
            first = batch if first is None else first
            done += valid
            bar.advance(valid)
    if writer.complete and next(stream, None) is not None:
        raise StoreError(
            f"The data go on after example {done - 1}, but {writer.path} is complete "
            f"with {stored} examples. Name another folder for the longer data."
        )
    _check_same_model(writer, np.asarray(compute(first)["features"]))
    return done


def _check_same_model(writer: DiskWriter, now: np.ndarray) -> None:
    """Computes the first stored batch again: a key cannot hold the code of a model."""
    then = writer.head(len(now)).astype(np.float64)
    now = now[: len(then)].astype(np.float64)
    # Not bit for bit: some devices add in no fixed order. NaN is not the same.
    same = then.shape == now.shape and bool(
        np.abs(then - now).max() <= 1e-3 * np.abs(then).max()
    )
    if not same:
        raise StoreError(
            f"The first examples of {writer.path} now give other features: the code of "
            f"the model or of the task has changed. Restore it, or name another folder."
        )


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

    def append(
        self, features: np.ndarray, columns: dict[str, np.ndarray], *, inputs: bytes
    ) -> None:
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
