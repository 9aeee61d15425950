"""The writer lock of a store: one small file that names the process that writes.

It decides who may write, never whether a store is sound. A lock is never broken: one
whose process is gone is reported, with the file to delete.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from natgeo.errors import StoreError
from natgeo.store import manifest as files

LOCK = "writer.lock"
_OWNER = re.compile(r"([1-9][0-9]{0,18}) (\S{1,255})\n?")


def take(folder: Path) -> None:
    """Makes this process the one writer of `folder`, which is made if need be.

    Raises:
        StoreError: if there is another writer, or the lock cannot be written.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            files.write_all(handle, f"{os.getpid()} {_host()}\n".encode())
        except BaseException:
            release(folder)
            raise
        finally:
            os.close(handle)
    except FileExistsError:
        if not folder.is_dir():
            raise StoreError(
                f"{folder} is a file, not a folder. Name another folder."
            ) from None
        refuse_if_held(folder)
        raise StoreError(f"{folder} is being written by another run.") from None
    except OSError as error:
        raise StoreError(f"Cannot write {folder}: {error.strerror}.") from None


def release(folder: Path) -> None:
    """Removes the lock; for the process that took it."""
    (folder / LOCK).unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Whether there is a lock, whoever left it."""
    return os.path.lexists(folder / LOCK)


def owner_is_gone(folder: Path) -> bool:
    """Whether the lock names a process of this machine that does not run any more."""
    owner = _owner(folder / LOCK)
    return owner is not None and owner[1] == _host() and not _runs(owner[0])


def refuse_if_held(folder: Path) -> None:
    """Says who holds the lock, whether that process still runs, and what to do.

    Raises:
        StoreError: if there is a lock, whoever left it.
    """
    if not is_held(folder):
        return
    file = folder / LOCK
    retry = f"delete {file} and run again with resume=True (--resume)"
    owner = _owner(file)
    if owner is None:
        raise StoreError(
            f"{folder} is locked by {file}, which does not name a process. If no run "
            f"is writing there, {retry}."
        )
    pid, host = owner
    if host != _host():
        raise StoreError(
            f"{folder} is being written by process {pid} on {host}, which cannot be "
            f"checked from here. If that process is gone, {retry}."
        )
    if _runs(pid):
        raise StoreError(
            f"{folder} is being written by process {pid} on this machine. Wait for it, "
            f"or name another folder; if {pid} is not a natgeo run any more, {retry}."
        )
    raise StoreError(
        f"{folder} was being written by process {pid} of this machine, which is gone: "
        f"{retry}."
    )


def _owner(file: Path) -> tuple[int, str] | None:
    try:
        text = files.read_regular_file(file, largest=300).decode()
    except (StoreError, UnicodeDecodeError):
        return None
    match = _OWNER.fullmatch(text)
    return None if match is None else (int(match[1]), match[2])


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it runs, and belongs to somebody else
    return True


def _host() -> str:
    return re.sub(r"\s", "_", socket.gethostname())[:255] or "unknown"
