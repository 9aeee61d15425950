"""The pure functions of one retraining, compiled once for its devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from natgeo.errors import DataError
from natgeo.evaluate import fingerprint
from natgeo.evaluate.training import Sgd
from natgeo.features.devices import data_parallel, placed, temporary_memory
from natgeo.features.sameness import platform
from natgeo.progress import raise_if_interrupted
from natgeo.types import Array, Params

_MOST = 256  # models side by side on a device
Runner = Callable[[Params, Array, np.ndarray], Array]


class Job:
    """First parameters, training and outputs of many models side by side.

    Args:
        init: as in `retrain`, and so below.
        train: see `init`.
        outputs: see `init`.
        mesh: of the devices to share each chunk over.
    """

    def __init__(self, init: Any, train: Any, outputs: Any, mesh: Any):
        self._init, self._train, self._outputs = jax.jit(init), train, outputs
        self.mesh = mesh
        self._run = self._stepwise() if isinstance(train, Sgd) else self._whole()

    def shape(self, rows: np.ndarray) -> Any:
        """Shape [M] and dtype of the outputs of one model."""
        first, later = _keys(0)
        params = jax.eval_shape(self._init, first)
        if not isinstance(self._train, Sgd):
            params = jax.eval_shape(self._train, params, rows[0], later)
        made = jax.eval_shape(self._outputs, params)
        shape, dtype = getattr(made, "shape", None), getattr(made, "dtype", None)
        if shape is None or len(shape) != 1 or np.dtype(dtype).kind != "f":
            raise DataError(
                f"outputs(params) gives {made!r}: expected one floating-point number "
                f"for each target, [M]."
            )
        return made

    def train_chunk(self, seed: int, weights: np.ndarray, size: int) -> np.ndarray:
        """The outputs of some models, [C, M]; a short chunk is filled up."""
        first, later = _keys(seed)
        fill = np.repeat(weights[-1:], size - len(weights), axis=0)
        made = self._run(self._init(first), later, np.concatenate([weights, fill]))
        return np.asarray(made)[: len(weights)]

    def planned(self, rows: np.ndarray) -> int:
        """Models to train side by side on one device."""
        step, work = self._work(rows)
        cpu = self.mesh.devices.flat[0].platform == "cpu"
        if cpu and fingerprint.has_convolutions(step, *work):
            return 1
        state = work[2] if isinstance(self._train, Sgd) else work[0]
        stated = jax.jit(step).lower(*work).compile().memory_analysis()
        temporary = 0 if stated is None else stated.temp_size_in_bytes
        each = 2 * _bytes(state) + temporary
        return max(1, min(_MOST, temporary_memory(self.mesh.devices.flat) // each))

    def fingerprint(self, rows: np.ndarray) -> dict[str, Any]:
        """Everything that changes a number, as plain values."""
        first, later = _keys(0)
        params, (step, work) = self._init(first), self._work(rows)
        data: Any = ()
        if isinstance(self._train, Sgd):
            data = self._train.data, self._train.steps(later)
        return {
            "weights": fingerprint.of_arrays(rows),
            "init": fingerprint.of_program(self._init, first),
            "training": fingerprint.of_program(step, *work),
            "data": fingerprint.of_arrays(data),
            "outputs": fingerprint.of_program(self._outputs, params),
            **platform(self.mesh),
        }

    def _work(self, rows: np.ndarray) -> tuple[Callable, tuple]:
        """What is compiled for one model, and arguments of its shapes."""
        first, later = _keys(0)
        params = self._init(first)
        if not isinstance(self._train, Sgd):
            return self._train, (params, rows[0], later)
        sgd = self._train
        return sgd.step, (sgd.data, sgd.steps(later)[0], sgd.start(params), rows[0])

    def _whole(self) -> Runner:
        """Training compiled as a whole."""

        def models(shared: Any, weights: Array) -> Array:
            params, key = shared

            def one(row: Array) -> Array:
                made = self._train(params, row, jax.random.wrap_key_data(key))
                return self._outputs(made)

            return jax.vmap(one)(weights)

        compiled = data_parallel(models, self.mesh)
        return lambda params, key, weights: compiled(
            (params, jax.random.key_data(key)), weights
        )

    def _stepwise(self) -> Runner:
        """Training one jitted step after another: a long program is not compiled."""
        sgd: Sgd = self._train

        def begin(params: Params, weights: Array) -> Any:
            return jax.vmap(lambda row: sgd.start(params))(weights), weights

        def advance(shared: Any, models: Any) -> Any:
            data, rows = shared
            state, weights = models
            step = jax.vmap(sgd.step, in_axes=(None, None, 0, 0))
            return step(data, rows, state, weights), weights

        def finish(shared: Any, models: Any) -> Array:
            del shared
            return jax.vmap(self._outputs)(models[0][0])

        first, step, last = (
            data_parallel(part, self.mesh, donate=part is advance)
            for part in (begin, advance, finish)
        )
        data = placed(sgd.data, self.mesh, shared=False)

        def run(params: Params, key: Array, weights: np.ndarray) -> Array:
            models = first(params, placed(weights, self.mesh, shared=True))
            for rows in sgd.steps(key):
                raise_if_interrupted()
                models = step((data, rows), models)
            return last((), models)

        return run


def _keys(seed: int) -> tuple[Array, Array]:
    """One key for the first parameters, one for training."""
    first, later = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
    return first, later


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
