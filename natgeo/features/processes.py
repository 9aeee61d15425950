"""Several processes, each with devices of its own: who computes what.

The processes are those that `jax.distributed` joins. They share a file system, each
writes the part of a store that is its own, and they need no word from each other.
"""

from __future__ import annotations

import jax

from natgeo.display import stdout_on_stderr
from natgeo.errors import ArgumentError
from natgeo.store.parts import Share


def number(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> Share:
    """The number of this process among those of a run, before it touches a device.

    The processes meet for that moment alone: as long as JAX joins them, one that fails
    takes the others down with it, whose parts could be finished.

    Args:
        coordinator: `host:port` of process 0; None takes all three from the cluster
            (SLURM, Open MPI, Kubernetes and TPU pods say them).
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        ArgumentError: if they are incomplete, or the processes do not find each other.
    """
    given = (coordinator, processes, process)
    if any(value is None for value in given) and any(v is not None for v in given):
        raise ArgumentError(
            f"coordinator={coordinator!r}, processes={processes!r} and "
            f"process={process!r} belong together: give all three, or none where the "
            f"cluster says them."
        )
    try:
        with stdout_on_stderr():
            jax.distributed.initialize(coordinator, processes, process)
            found = Share(jax.process_index(), jax.process_count())
            jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"The processes could not be joined: {error} Give --coordinator HOST:PORT, "
            f"--processes and --process, or start under a launcher that JAX knows."
        ) from None
    return found


def share(given: tuple[int, int] | None, store: object) -> Share | None:
    """The share of this process in what is written to `store`; None for all of it."""
    if given is not None:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ArgumentError(
                f"share={given!r} must be (p, P): part p, from 0, of P parts."
            )
        return Share(*given)
    # Asked first: counting processes would start the devices of a single one.
    if store is None or not jax.distributed.is_initialized():
        return None
    several = jax.process_count() > 1
    return Share(jax.process_index(), jax.process_count()) if several else None
