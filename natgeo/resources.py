"""Disk and memory on this machine, asked before work that would run out of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from natgeo.errors import ArgumentError, StoreError

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def require_disk(path: Path, needed: int, what: str, remedy: str) -> None:
    """Refuses to begin what would fill the disk.

    Args:
        path: what will be written; it and its folder need not exist.
        needed: bytes.
        what: what takes them, for the message.
        remedy: what lowers them.

    Raises:
        StoreError: if the file system of `path` has less free than that.
    """
    folder = path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # writing will say what is wrong with the folder
    if needed > free:
        raise StoreError(
            f"{what} takes {size(needed)} on disk, but the file system of {path} has "
            f"{size(free)} free: {size(needed - free)} are missing. {remedy}"
        )


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuses to allocate what does not fit into the memory that is available.

    Args:
        needed: bytes.
        what: what takes them, for the message.
        remedy: what avoids them.

    Raises:
        ArgumentError: if less is available. Where that is not known, nothing is said.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise ArgumentError(
            f"{what} takes {size(needed)} of memory, but {size(available)} are "
            f"available. {remedy}"
        )


def available_memory() -> int | None:
    """Bytes this process can still use, by the kernel and its control group."""
    known = [_available_by_kernel(), *(_room_in_group(*files) for files in _CGROUPS)]
    return min((value for value in known if value is not None), default=None)


def size(count: float) -> str:
    """A number of bytes in words: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"


def _available_by_kernel() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _room_in_group(limit: str, usage: str) -> int | None:
    try:
        most = Path(limit).read_text().strip()
        used = int(Path(usage).read_text())
    except (OSError, ValueError):
        return None
    return max(0, int(most) - used) if most.isdigit() else None
