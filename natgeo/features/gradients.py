"""Per-example gradients of a task's output with respect to the parameters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo.errors import ArgumentError, DataError
from natgeo.features.seeded import at_least_float32
from natgeo.features.taps import find_uses
from natgeo.features.tasks import Task
from natgeo.types import Array, Example, Params, Projector


def feature_step(
    task: Task,
    projector: Projector,
    *,
    form: bool = False,
) -> Callable[[Params, Any], dict[str, Array]]:
    """The kernel of featurizing: (params, batch) -> features and columns.

        features[b] = P^T grad_theta f(z_b; theta),  outputs[b] = f(z_b; theta),
        weights[b] = r(f, z_b)                       (certificates.md, section 1)

    Args:
        task: what is attributed.
        projector: the map from gradients to features. If it can sketch products, the
            gradients of matrix products are handed to it as factors.
        form: form every gradient all the same; the features agree up to rounding.

    Returns:
        A traceable function to `{"features": [B, K], "outputs": [B]}` and, if the task
        has them, `"weights": [B]` and `"predictions": [B, ...]`; everything at least
        float32.
    """
    factored = hasattr(projector, "sketch") and not form

    def step(params: Params, batch: Any) -> dict[str, Array]:
        run = _factored_features if factored else _formed_features
        chosen, fixed = split_params(params, task.only)

        def output(chosen: Params, example: Example) -> tuple[Array, ...]:
            whole = join_params(chosen, fixed)
            if task.predicted is not None:
                return task.predicted(whole, example)
            return (task.output(whole, example),)

        value, features, beside = run(output, projector, chosen, batch)
        made = {"features": features, "outputs": value.astype(features.dtype)}
        if task.weight is not None:
            weight = jax.vmap(task.weight)(value, batch)
            made["weights"] = weight.astype(features.dtype)
        if beside:
            made["predictions"] = at_least_float32(beside[0])
        return made

    return step


def split_params(params: Params, only: str | None) -> tuple[Params, Params]:
    """The parameters whose path matches `only`, and the others; None in the gaps.

    Paths are those of `jax.tree_util.keystr`, `['params']['Dense_0']['kernel']` for
    instance.

    Raises:
        ArgumentError: if `only` is not a regular expression or matches no path.
    """
    if only is None:
        return params, None
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    try:
        pattern = re.compile(only)
    except (re.error, TypeError) as error:
        raise ArgumentError(
            f"only={only!r} is not a regular expression: {error}."
        ) from None
    if not any(pattern.search(path) for path in paths):
        raise ArgumentError(
            f"only={only!r} matches none of the {len(paths)} parameters, such as "
            f"{paths[0]} and {paths[-1]}."
        )

    def keep(match: bool) -> Params:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: (
                leaf
                if bool(pattern.search(jax.tree_util.keystr(path))) == match
                else None
            ),
            params,
        )

    return keep(True), keep(False)


def join_params(chosen: Params, fixed: Params) -> Params:
    """The whole parameters from the two parts of `split_params`."""
    if fixed is None:
        return chosen
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        chosen,
        fixed,
        is_leaf=lambda leaf: leaf is None,
    )


def _formed_features(
    output: Callable, projector: Projector, params: Params, batch: Any
) -> tuple[Array, Array, tuple[Array, ...]]:
    def split(params: Params, example: Example) -> tuple[Array, tuple[Array, ...]]:
        value, *beside = output(params, example)
        return value, tuple(beside)

    one = jax.value_and_grad(split, has_aux=True)
    (value, beside), gradient = jax.vmap(one, in_axes=(None, 0))(params, batch)
    return value, projector.project(jax.tree.map(at_least_float32, gradient)), beside


def _factored_features(
    output: Callable, projector: Any, params: Params, batch: Any
) -> tuple[Array, Array, tuple[Array, ...]]:
    # Traced on an example of the batch, not on shapes: a shape does not say that it
    # varies over devices.
    example = jax.tree.map(lambda leaf: leaf[0], batch)
    tapped = find_uses(output, params, example)
    value, formed, factors, beside = jax.vmap(tapped.gradients, in_axes=(None, 0))(
        params, batch
    )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    sketch = projector.sketch(
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
    )
    for number, gradient in formed.items():
        sketch.add_formed(number, at_least_float32(gradient))
    for order, use in tapped.uses.items():
        use.add_to(sketch, *factors[order])
    return value, sketch.total(), beside


def check_params(params: Params) -> None:
    """Refuses parameters that cannot be differentiated or would be rounded silently.

    Raises:
        ArgumentError: for an empty tree, non-floating leaves, float64 with x64 off.
        DataError: for NaN or infinite parameters; the message names the path.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ArgumentError("params holds no arrays: there is nothing to attribute to.")
    for path, leaf in leaves:
        name = f"params{jax.tree_util.keystr(path)}"
        dtype = np.asarray(leaf).dtype if not hasattr(leaf, "dtype") else leaf.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ArgumentError(
                f"{name} has dtype {dtype}, which has no gradient. Keep counters and "
                f"keys out of params, for instance by closing over them in the model."
            )
        if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise ArgumentError(
                f"{name} is float64 but JAX would round it to float32. Enable x64 "
                f"(jax.config.update('jax_enable_x64', True)) or cast params yourself."
            )
        if not np.isfinite(np.asarray(leaf, dtype=np.float64)).all():
            raise DataError(f"{name} holds NaN or infinity. Load a sound checkpoint.")


def check_output(task: Task, params: Params, batch: Any) -> None:
    """Refuses tasks whose output is not one floating-point number per example.

    Raises:
        DataError: if the output has a shape or dtype that has no gradient, or if a
            prediction depends on the other examples of its batch.
    """
    example = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.asarray(leaf[:1]).dtype),
        batch,
    )
    value = jax.eval_shape(task.output, params, example)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(
        value.dtype, jnp.floating
    ):
        seen = (
            f"shape {value.shape} and dtype {value.dtype}"
            if hasattr(value, "shape")
            else f"a {type(value).__name__}"
        )
        raise DataError(
            f"The output of task {task.name!r} has {seen} for one example: expected a "
            f"single floating-point number. Reduce it, for instance with jnp.sum."
        )
    if task.apply is not None:
        _check_rows_are_independent(task.apply, params, batch[0])


def _check_rows_are_independent(apply: Callable, params: Params, inputs: Any) -> None:
    few = jnp.asarray(inputs[:4])
    # Beside a blank example, so that batches of one or of equal rows show it too.
    batch = jnp.concatenate([few, jnp.zeros_like(few[:1])])
    together = np.asarray(apply(params, batch), np.float64)[:-1]
    alone = np.concatenate(
        [np.asarray(apply(params, few[i : i + 1]), np.float64) for i in range(len(few))]
    )
    differ = together.shape != alone.shape
    if not differ:
        # NaN and infinity are reported later, with the index of their example.
        sound = np.isfinite(together) & np.isfinite(alone)
        together, alone = together[sound], alone[sound]
        scale = np.abs(together).max(initial=0) + np.abs(alone).max(initial=0)
        differ = bool((np.abs(together - alone) > 1e-3 * scale + 1e-12).any())
    if differ:
        raise DataError(
            "The model gives an example a different prediction alone than in a batch, "
            "so its gradient is not defined. Switch off dropout, put batch "
            "normalisation in evaluation mode, or use GroupNorm."
        )


def blame(task: Task, params: Params, example: Example) -> str:
    """The first parameter whose gradient is not finite on `example`, for a message."""
    value, gradient = jax.value_and_grad(task.output)(params, example)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        if not np.isfinite(np.asarray(leaf, np.float64)).all():
            return f"the gradient of params{jax.tree_util.keystr(path)}"
    if not np.isfinite(float(value)):
        return "the output"
    return "the residual weight or the projected gradient"


def params_digest(params: Params) -> str:
    """SHA-256 over path, dtype, shape and bytes of every parameter."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        head = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        sha.update(head.encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
