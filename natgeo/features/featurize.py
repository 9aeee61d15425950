"""The host loop: batches -> one jitted step -> a store.

A run that writes to disk can be stopped at any instant and continued with
`resume=True`; what may differ between the two runs is decided here, by `sameness`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.features import batches, estimate, gradients, plan, processes, sameness
from natgeo.features.ahead import Ahead
from natgeo.features.collector import Collector
from natgeo.features.devices import data_mesh, data_parallel
from natgeo.features.tasks import Task, as_task
from natgeo.features.walk import Piece, Walk
from natgeo.progress import Progress
from natgeo.store import parts
from natgeo.store.disk import DiskStore
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from natgeo.types import Params, Projector

_HEAD = 64  # examples that task and model are asked about before the run


def featurize(
    task: Task | Callable,
    params: Params,
    data: Any,
    projector: Projector,
    *,
    store: str | os.PathLike | None = None,
    resume: bool = False,
    shard_rows: int | None = None,
    batch_size: int | None = None,
    form: bool = False,
    devices: Sequence[Any] | None = None,
    prefetch: int = 2,
    share: tuple[int, int] | None = None,
    record: Callable[[np.ndarray], None] | None = None,
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
            batch; what is lost when a run is stopped is at most one shard. Default:
            8192, or as many as 64 MiB hold.
        batch_size: examples per compiled step; rounded up to a multiple of the devices.
            Default: as many as keep a step's temporary memory within the cache of a
            CPU, or an eighth of an accelerator (see `plan`); a resumed run keeps its.
        form: form every gradient before it is projected, also where its structure would
            make that needless; the features agree up to rounding.
        devices: devices to share each batch over; default: all local ones.
        prefetch: batches made ready in a thread of their own while the devices compute;
            0 for data that must be read in the calling thread.
        share: `(p, P)` writes part p of P of the store, and returns that part alone.
            Default: the share of this process if `jax.distributed` joins several; each
            then waits for the others and gets the whole store. Every process must be
            given the same data in the same order.
        record: is given the predictions of each batch, [B, ...], in order, if the task
            hands them out (`tasks.recorded_loss`); of examples computed here alone, not
            of what was stored before or is the share of others.
        progress: show a bar on standard error if it takes over a second.

    Returns:
        A store of features [N, K] with columns `outputs` and, if the task has a
        residual weight, `weights`.

    Raises:
        ArgumentError: for parameters or arguments that cannot be used.
        DataError: for examples that give NaN or infinity, empty data, bad labels.
        StoreError: if the store cannot be written, does not fit on the disk, or is of
            another run or other data; the message names every field that differs.
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
    if batch_size is not None:
        batch_size = checks.count("batch_size", batch_size)
    footprint = estimate.footprint(task, params, projector)
    shard_rows = footprint.shard_rows if shard_rows is None else shard_rows
    shard_rows = checks.count("shard_rows", shard_rows)
    prefetch = checks.count("prefetch", prefetch, low=0)
    if store is None and (resume or share is not None):
        argument = "resume=True" if resume else f"share={share!r}"
        raise ArgumentError(f"{argument} needs store=, the folder to go on with.")
    mine = processes.share(share, store)
    total = batches.total_rows(data)
    footprint.check(total, store, mine)
    step = _compiled_step(task, projector, mesh, bool(form))
    given, params = params, jax.tree.map(jax.numpy.asarray, params)
    head, data = batches.peek(data, _HEAD)
    validate = _validated(task, params, head)
    size = batch_size or (plan.begun_with(store, mine) if resume else None)
    if size is None:
        size = _planned(step, params, head, mesh, total, visible=progress)
    size = -(-size // mesh.size) * mesh.size
    shard_rows = -(-shard_rows // size) * size
    metadata = sameness.metadata(task, given, projector, size, mesh)
    if form:
        metadata["form"] = True
    walk = Walk(data, size, shard_rows, share=mine, hashed=store is not None)
    with (
        Collector(metadata, total)
        if store is None
        else DiskWriter(
            store, metadata, shard_rows=shard_rows, resume=resume, share=mine
        )
    ) as writer:
        run = _Run(task, params, step, walk, writer, validate, record, progress)
        with Ahead(iter(walk), prefetch) as pieces:
            run.write(
                pieces, mine.rows_of(total, shard_rows) if mine and total else total
            )
        made = run.close()
    if mine is None or share is not None:
        return made
    assert store is not None
    parts.wait(Path(store), mine, visible=progress)
    return DiskStore(store)


class _Run:
    """One pass over the data into one writer."""

    def __init__(
        self,
        task: Task,
        params: Params,
        step: Callable,
        walk: Walk,
        writer: Collector | DiskWriter,
        validate: Callable[[Any, int], None] | None,
        record: Callable[[np.ndarray], None] | None,
        progress: bool,
    ):
        self._validate, self._record = validate, record
        self._task, self._params, self._walk = task, params, walk
        self._compute = functools.partial(step, params)
        self._writer, self._visible = writer, progress

    def write(self, pieces: Iterator[Piece], total: int | None) -> None:
        writer, done = self._writer, 0
        if isinstance(writer, DiskWriter) and writer.stored:
            done = writer.stored
            sameness.recognize(writer, pieces, self._compute, visible=self._visible)
        with Progress("featurizing", total, visible=self._visible, done=done) as bar:
            for piece, made in _one_ahead(self._compute, self._checked(pieces)):
                predictions = made.pop("predictions", None)
                _check_finite(self._task, self._params, piece, made)
                if self._record is not None and predictions is not None:
                    self._record(predictions)
                writer.append(made.pop("features"), made, inputs=piece.inputs)
                bar.advance(piece.valid)

    def close(self) -> MemoryStore | DiskStore:
        writer, walk = self._writer, self._walk
        if isinstance(writer, Collector):
            return writer.close()
        if walk.head is not None and not writer.begun:  # a part without examples
            made = jax.eval_shape(self._compute, walk.head)
            made.pop("predictions", None)
            features = made.pop("features")
            writer.begin(features.shape[1], np.dtype(features.dtype), made)
        return writer.close(walk.rows, walk.inputs)

    def _checked(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """The pieces, after their task has agreed to each."""
        for piece in pieces:
            if self._validate is not None:
                self._validate(piece.batch, piece.first)
            yield piece


def _validated(
    task: Task, params: Params, head: Any
) -> Callable[[Any, int], None] | None:
    """Has the task and the model agree to the first examples.

    Returns:
        What must agree to every batch and the index of its first example, if anything.
    """
    validate = task.validator(params, head) if task.validator else None
    if validate is not None:
        validate(head, 0)
    gradients.check_output(task, params, head)
    return validate


def _planned(
    step: Callable,
    params: Params,
    head: Any,
    mesh: Any,
    total: int | None,
    *,
    visible: bool,
) -> int:
    """A batch size that suits model and devices, said on standard error."""
    chosen = plan.choose(step, params, head, list(mesh.devices.flat), total)
    if visible:
        print(chosen.describe(), file=sys.stderr)
    return chosen.batch_size


def _one_ahead(
    compute: Callable[[Any], dict[str, Any]], pieces: Iterator[Piece]
) -> Iterator[tuple[Piece, dict[str, np.ndarray]]]:
    """Starts the next step before the result of the last is copied to the host."""
    waiting: tuple[Piece, dict[str, Any]] | None = None
    try:
        for piece in pieces:
            begun = piece, compute(piece.batch)
            if waiting is not None:
                yield _on_host(*waiting)
            waiting = begun
    except (Exception, KeyboardInterrupt):
        # What was begun is kept, and its own error comes first.
        if waiting is not None:
            yield _on_host(*waiting)
        raise
    if waiting is not None:
        yield _on_host(*waiting)


def _on_host(piece: Piece, made: dict[str, Any]) -> tuple[Piece, dict[str, np.ndarray]]:
    return piece, {name: np.asarray(made[name])[: piece.valid] for name in made}


@functools.lru_cache(maxsize=16)
def _compiled_step(task: Task, projector: Projector, mesh: Any, form: bool) -> Callable:
    """One compilation for all data sets that share a task, projector and devices."""
    return data_parallel(gradients.feature_step(task, projector, form=form), mesh)


def _check_finite(
    task: Task, params: Params, piece: Piece, made: dict[str, np.ndarray]
) -> None:
    bad = np.zeros(len(made["features"]), bool)
    for array in made.values():
        bad |= ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    example = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[row]), piece.batch)
    culprit = gradients.blame(task, params, example)
    raise DataError(
        f"Example {piece.first + row} is not usable: {culprit} is NaN or infinite "
        f"({int(bad.sum())} of {len(bad)} examples of its batch). Repair or remove the "
        f"example, or look for an overflow in the model; nothing is replaced silently."
    )
