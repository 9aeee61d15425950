"""How many examples a compiled step takes, from what the compiler says of its memory.

Larger batches are not faster on a CPU: once the gradients of a batch leave the cache, a
step takes several times as long for each example. On an accelerator they are faster
until memory is short. Either way the temporary memory of an example decides, and the
compiler knows it: a first step is compiled for a few examples, and the batch is as many
as its budget holds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from natgeo.errors import StoreError
from natgeo.features.devices import temporary_memory
from natgeo.resources import size
from natgeo.store import manifest as files
from natgeo.store.parts import Share
from natgeo.types import Params

_PROBE = 8  # examples for each device
_MOST = 256


@dataclass(frozen=True)
class Plan:
    """The batch of a run.

    Attributes:
        batch_size: examples of a step, on all devices together.
        temporary: bytes of temporary memory that a step takes on each device; None if
            the backend does not say.
    """

    batch_size: int
    temporary: int | None

    def describe(self) -> str:
        """The choice in words."""
        words = f"steps of {self.batch_size} examples"
        if self.temporary is None:
            return words
        return f"{words}, {size(self.temporary)} of temporary memory each"


def choose(
    step: Any, params: Params, head: Any, devices: Any, rows: int | None
) -> Plan:
    """The largest power of two of examples that a step's memory budget holds.

    Args:
        step: the jitted function (params, batch) -> features.
        params: the parameters.
        head: some examples; only their shapes and dtypes count.
        devices: devices that a batch is shared over.
        rows: number of examples, None if it is not known; no step is larger.
    """
    number = len(devices)
    probe = _PROBE * number
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (probe, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)
        ),
        head,
    )
    stated = step.lower(params, shapes).compile().memory_analysis()
    if stated is None:
        return Plan(probe, None)
    each = max(1, stated.temp_size_in_bytes // _PROBE)
    fits = max(1, temporary_memory(devices) // each)
    if rows is not None:
        fits = min(fits, max(_PROBE, -(-rows // number)))
    local = min(_MOST, 1 << (fits.bit_length() - 1))
    return Plan(local * number, each * local)


def begun_with(store: str | os.PathLike | None, share: Share | None) -> int | None:
    """The batch size of the unfinished run that a store is from, if there is one."""
    if store is None:
        return None
    folder = Path(store) if share is None else share.folder(Path(store))
    try:
        found = files.read_manifest(folder).metadata.get("batch_size")
    except StoreError:
        return None
    return found if type(found) is int and found > 0 else None
