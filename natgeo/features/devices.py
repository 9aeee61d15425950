"""Devices: the only module that knows there can be more than one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from natgeo.errors import ArgumentError
from natgeo.types import Array

AXIS = "data"
_CACHED = 20 * 2**20


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the one axis `data` over `devices` (default: all local ones)."""
    devices = list(devices) if devices is not None else jax.local_devices()
    if not devices:
        raise ArgumentError("devices is empty: leave it out to use all local ones.")
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def temporary_memory(devices: Any) -> int:
    """Bytes of temporary memory that a step may take on each device.

    On a CPU what stays in its cache, found by measurement; elsewhere an eighth of the
    memory of the device, because two steps are under way at a time.
    """
    device = next(iter(devices))
    stated = None if device.platform == "cpu" else device.memory_stats()
    if not stated or "bytes_limit" not in stated:
        return _CACHED
    return int(stated["bytes_limit"]) // 8


def placed(tree: Any, mesh: Mesh, *, shared: bool) -> Any:
    """Arrays on all devices, whole or (`shared`) a part of the rows on each.

    For what is passed to many calls: an array that lies elsewhere is moved by each.
    """
    spec = PartitionSpec(AXIS) if shared else PartitionSpec()
    return jax.device_put(tree, NamedSharding(mesh, spec))


def data_parallel(
    function: Callable[[Any, Any], Any], mesh: Mesh, *, donate: bool = False
) -> Callable[[Any, Any], Any]:
    """Runs `function(replicated, batch)` on each device's rows of `batch`, jitted.

    `function` sees [B / devices, ...] and must treat rows independently; the leading
    axis of `batch` must be a multiple of the number of devices. With `donate` the
    memory of `batch` is given to the result.
    """

    def local(replicated: Any, batch: Any) -> Any:
        # Without this cast, jax.grad with respect to a replicated argument is summed
        # over the mesh: per-example gradients would silently mix examples.
        def varying(leaf: Array) -> Array:
            return jax.lax.pcast(leaf, AXIS, to="varying")

        return function(jax.tree.map(varying, replicated), batch)

    rows = PartitionSpec(AXIS)
    return jax.jit(
        jax.shard_map(
            local, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows
        ),
        donate_argnums=(1,) if donate else (),
    )
