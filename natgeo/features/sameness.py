"""Whether a run that goes on is the run that began a store: settings, data, model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from natgeo.errors import StoreError
from natgeo.features import gradients
from natgeo.features.tasks import Task
from natgeo.features.walk import Piece
from natgeo.progress import Progress
from natgeo.store.writer import DiskWriter
from natgeo.types import Params, Projector


def metadata(
    task: Task, params: Params, projector: Projector, size: int, mesh: Any
) -> dict[str, Any]:
    """Everything that changes a number but the data and the code of the model."""
    return {
        "task": task.name,
        "params": gradients.params_digest(params),
        "only": task.only,
        "projector": dict(projector.describe()),
        "columns": ["outputs"] + ["weights"] * (task.weight is not None),
        "batch_size": size,
        **platform(mesh),
    }


def platform(mesh: Any) -> dict[str, Any]:
    """Devices, precision and versions: what changes a last digit."""
    kinds = {f"{device.platform} {device.device_kind}" for device in mesh.devices.flat}
    return {
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


def recognize(
    writer: DiskWriter,
    pieces: Iterator[Piece],
    compute: Callable[[Any], dict[str, Any]],
    *,
    visible: bool,
) -> None:
    """Passes over the examples that are already stored.

    Raises:
        StoreError: if the data, or what the model computes from them, has changed.
    """
    done, end, stored, first = 0, 0, writer.stored, None
    with Progress("checking stored examples", stored, visible=visible) as bar:
        while done < stored:
            piece = next(pieces, None)
            if piece is None:
                raise StoreError(
                    f"The data end at example {end}, but {writer.path} already holds "
                    f"{stored} examples. Give the data that it was begun with."
                )
            writer.recognize(piece.valid, piece.inputs)
            first = piece.batch if first is None else first
            done, end = done + piece.valid, piece.first + piece.valid
            bar.advance(piece.valid)
    if writer.complete and next(pieces, None) is not None:
        raise StoreError(
            f"The data go on after example {end - 1}, but {writer.path} is complete "
            f"with {stored} examples. Name another folder for the longer data."
        )
    _check_same_model(writer, np.asarray(compute(first)["features"]))


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
