"""Truth by retraining: hundreds of models that differ by the weights of the examples.

Models are trained side by side (`vmap`) in chunks, each shared over the devices, and
only their outputs are kept. All models of a seed have the same first parameters and the
same order of the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.evaluate.jobs import Job
from natgeo.evaluate.kept import Kept
from natgeo.evaluate.subsets import as_weights
from natgeo.evaluate.training import Sgd
from natgeo.features.devices import data_mesh
from natgeo.progress import Progress
from natgeo.types import Array, Params


@dataclass(frozen=True, eq=False)
class Retrained:
    """The outputs of S models for M targets, each trained once for every seed.

    Attributes:
        each: outputs by seed, model and target, [R, S, M], in the model's dtype.
        weights: what each model was trained on, [S, N] float32.
        seeds: R of them.
        chunk: models that were trained side by side, on all devices together.
    """

    each: np.ndarray
    weights: np.ndarray
    seeds: tuple[int, ...]
    chunk: int

    def __repr__(self) -> str:
        r, s, m = self.each.shape
        return f"Retrained(S={s}, M={m}, seeds={r})"

    @cached_property
    def outputs(self) -> np.ndarray:
        """Outputs averaged over the seeds, [S, M] float64."""
        return np.asarray(self.each, np.float64).mean(axis=0)

    @property
    def effects(self) -> np.ndarray:
        """What each row took away, if row 0 is everything: [M, S - 1].

            effect[t, g] = f_t(everything) - f_t(without g)

        Positive means that the group supports the output, as with scores.

        Raises:
            DataError: if row 0 is not all ones: rows of `leave_out` begin like that.
        """
        if not (self.weights[0] == 1).all() or len(self.weights) < 2:
            raise DataError(
                "Effects compare every model with that of row 0, which must be trained "
                "on everything (all ones): make the rows with evaluate.leave_out."
            )
        return (self.outputs[0] - self.outputs[1:]).T


def retrain(
    init: Callable[[Array], Params],
    train: Sgd | Callable[[Params, Array, Array], Params],
    outputs: Callable[[Params], Array],
    weights: Any,
    *,
    seeds: int | Sequence[int] = 1,
    chunk: int | None = None,
    folder: str | os.PathLike | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
) -> Retrained:
    """Trains a model for every row of weights, and keeps its outputs.

    Outputs depend on `chunk` and on the devices through rounding alone; training can
    amplify that. The same call on the same machine gives the same numbers.

    Args:
        init: `init(key)` -> first parameters, a pytree. For further training of a
            model that exists, `lambda key: params` (see `further`).
        train: `evaluate.Sgd`, which goes step by step; or any pure function
            `train(params, weights, key)` -> params with weights [N], which is compiled
            as a whole. It must treat a weight of 0 as absence.
        outputs: `outputs(params)` -> [M]; `evaluate.outputs_of` makes one.
        weights: a row for each model, [S, N]; see `half_subsets` and `leave_out`.
        seeds: how many seeds to train every model with (0, 1, ...), or which.
        chunk: models to train side by side, on all devices together; rounded up to a
            multiple of the devices. Default: as many as keep the temporary memory of a
            step within the cache of a CPU, or an eighth of an accelerator; on a CPU one
            a device where the model has convolutions, which are slow side by side.
        folder: keeps the outputs of every chunk that is done. The same call goes on
            from there; one with other settings, data or code is refused.
        devices: to share each chunk over; default: all local ones.
        progress: show a bar on standard error if it takes over a second.

    Raises:
        ArgumentError: for arguments that cannot mean anything.
        DataError: for unusable weights, or outputs that are not finite.
        StoreError: if the folder is of another run, or cannot be written.
    """
    rows, numbers = as_weights(weights), _seeds(seeds)
    for name, function in (("init", init), ("train", train), ("outputs", outputs)):
        if not callable(function):
            raise ArgumentError(f"{name}={function!r} must be a function.")
    if isinstance(train, Sgd) and train.size != rows.shape[1]:
        raise DataError(
            f"weights have {rows.shape[1]} columns, but training has {train.size} "
            f"examples: expected one weight for each."
        )
    job = Job(init, train, outputs, data_mesh(devices))
    target = job.shape(rows)
    kept = None if folder is None else Kept(folder)
    size = _chunk(job, rows, chunk, kept)
    if kept is not None:
        kept.begin({"chunk": size, "seeds": list(numbers), **job.fingerprint(rows)})
    made = np.empty((len(numbers), len(rows), *target.shape), target.dtype)
    done = 0 if kept is None else kept.count
    with Progress("retraining", len(numbers) * len(rows), visible=progress) as bar:
        for number, (place, start) in enumerate(
            (place, start)
            for place in range(len(numbers))
            for start in range(0, len(rows), size)
        ):
            part = made[place, start : start + size]
            if kept is not None and number < done:
                part[:] = kept.read(number, part.shape, part.dtype)
            else:
                some = rows[start : start + size]
                part[:] = job.train_chunk(numbers[place], some, size)
                _check_finite(part, numbers[place], start)
                if kept is not None:
                    kept.write(number, part)
            bar.advance(len(part))
    return Retrained(made, rows, numbers, size)


def further(params: Params) -> Callable[[Array], Params]:
    """An `init` for `retrain` that goes on from a model that exists.

    Where only the final model is there, truth is further training with and without an
    example: `retrain(further(params), train, outputs, leave_out(N, rows), seeds=8)`.
    Its `effects` subtract what further training on everything does, and average over
    the seeds, which differ in the order of the data (arXiv 2412.03906).
    """

    def init(key: Array) -> Params:
        del key
        return jax.tree.map(jnp.asarray, params)

    return init


def _chunk(job: Job, rows: np.ndarray, chunk: int | None, kept: Kept | None) -> int:
    """Models side by side, on all devices together."""
    number = job.mesh.size
    if chunk is not None:
        return -(-checks.count("chunk", chunk) // number) * number
    begun = None if kept is None else kept.setting("chunk")
    if type(begun) is int and begun > 0:
        return -(-begun // number) * number
    return number * min(job.planned(rows), -(-len(rows) // number))


def _seeds(seeds: Any) -> tuple[int, ...]:
    if np.ndim(seeds) == 0:
        return tuple(range(checks.count("seeds", seeds)))
    numbers = tuple(checks.count("seeds", seed, low=0) for seed in seeds)
    if not numbers or len(set(numbers)) != len(numbers) or max(numbers) >= 2**31:
        raise ArgumentError(
            f"seeds={seeds!r}: expected how many, or a list of different whole numbers "
            f"below 2**31."
        )
    return numbers


def _check_finite(outputs: np.ndarray, seed: int, start: int) -> None:
    bad = np.argwhere(~np.isfinite(outputs))
    if len(bad):
        model, target = (int(place) for place in bad[0])
        raise DataError(
            f"The model of weights[{start + model}], seed {seed}, gives "
            f"{outputs[model, target]} for target {target}: its training diverged. "
            f"Lower the learning rate; nothing is replaced silently."
        )
