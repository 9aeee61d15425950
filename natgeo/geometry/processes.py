"""Second moments of a store that several processes share: each adds up its part."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from natgeo.display import stdout_on_stderr
from natgeo.errors import ArgumentError
from natgeo.geometry import covariance as cov
from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks

_GATHERED_BYTES = 32 * 2**20  # of each process, in one exchange


def shared_moments(store: Any) -> cov.Moments:
    """The moments of all parts of `store`, the same bits in every process.

    Raises:
        ArgumentError: if the store does not have one part for each process.
    """
    several = jax.process_count()
    if several == 1:
        blocks = regular_blocks(store.blocks(BLOCK_ROWS))
        return cov.moments(blocks, store.shape[1])
    if getattr(store, "parts", 1) != several:
        raise ArgumentError(
            f"shared=True needs a store with one part for each of the {several} "
            f"processes; {store!r} has {getattr(store, 'parts', 1)}. Leave it out: "
            f"each process then adds up the whole store."
        )
    mine = cov.moments(regular_blocks(store.part(jax.process_index())), store.shape[1])
    return cov.Moments(store.shape[0], _sum_over_processes(mine.second))


def _sum_over_processes(array: np.ndarray) -> np.ndarray:
    """Sum of float64 matrices, [K, K], in the order of the processes."""
    # As bytes: JAX would round float64 where x64 is off.
    flat = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    step = min(len(flat), _GATHERED_BYTES)
    out = np.empty(array.size)
    with stdout_on_stderr():
        for start in range(0, len(flat), step):
            part = np.zeros(step, np.uint8)  # one shape, compiled once
            taken = flat[start : start + step]
            part[: len(taken)] = taken
            every = np.asarray(multihost_utils.process_allgather(part))
            rows = every[:, : len(taken)].copy().view(np.float64)
            here = slice(start // 8, start // 8 + rows.shape[1])
            out[here] = rows[0]
            for other in rows[1:]:
                out[here] += other
    return out.reshape(array.shape)
