"""What a sweep over all pairs costs, before it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from natgeo.errors import ArgumentError

_TILE_BYTES = 32 * 2**20  # of one worker: a tile in float64 and its float32 levels
_GIB = 2**30


@dataclass(frozen=True)
class Workload:
    """An estimate of a sweep.

    Attributes:
        pairs: unordered pairs of training examples.
        seconds: on all cores, from the measured time of one tile.
        bytes: at the peak, beyond the stored features.
    """

    pairs: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs: about {_duration(self.seconds)} and "
            f"{self.bytes / _GIB:.2g} GiB"
        )


def rows_bytes(n: int, k: int, *, copies: int) -> int:
    """Bytes of the float64 natural rows and their copies (weighted, ridge part)."""
    return 8 * n * k * copies


def sweep_bytes(n: int, k: int, targets: int, *, copies: int) -> int:
    """Bytes that a sweep over all pairs holds at its peak.

    Args:
        n: training examples.
        k: features.
        targets: targets whose scores are held at once: five arrays of 4 or 8 bytes.
        copies: how many float64 arrays of all rows there are.
    """
    workers = os.cpu_count() or 1
    return rows_bytes(n, k, copies=copies) + 32 * n * targets + workers * _TILE_BYTES


def require_memory(needed: int, what: str) -> None:
    """Refuses work that does not fit into the memory that is free now.

    Raises:
        ArgumentError: naming what lowers the need.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise ArgumentError(
            f"{what} needs about {needed / _GIB:.3g} GiB of memory and "
            f"{free / _GIB:.3g} GiB are free. Use features of a smaller dimension "
            f"(--dim), fewer training examples, or a sample of the pairs "
            f"(estimate(pairs=...), --sample), which holds the fewest arrays."
        )


def free_bytes() -> int | None:
    """Memory that this process can still have, or None where the system does not say.

    The smaller of what Linux calls available and what a control group leaves.
    """
    found = []
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    limit, used = (
        _text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current")
    )
    if limit.isdigit() and used.isdigit():
        found.append(max(int(limit) - int(used), 0))
    return min(found, default=None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 7200 else f"{seconds / 3600:.2g} h"
