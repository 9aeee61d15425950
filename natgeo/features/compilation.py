"""Compiled programs that are kept for the next run; only where somebody asks for it.

What is read from the folder is run as code, so it belongs to one user and is never part
of a store, which may have come from elsewhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import jax

from natgeo.errors import ArgumentError
from natgeo.store.manifest import MANIFEST


def keep_compiled(folder: Path, store: Path | None = None) -> None:
    """Makes JAX keep every compiled program in `folder`, and look for them there.

    To be called before anything is compiled.

    Args:
        folder: a private folder, made if need be.
        store: what the run writes.

    Raises:
        ArgumentError: if the folder is in a store, somebody else's, or open to others.
    """
    inside = folder.resolve()
    for place in (inside, *inside.parents):
        if (place / MANIFEST).exists() or (store and place == store.resolve()):
            raise ArgumentError(
                f"--cache {folder} is inside the store {place}. What is kept there is "
                f"run as code: name a private folder outside of any store."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder.stat()
    except OSError as error:
        raise ArgumentError(f"--cache {folder}: {error.strerror}.") from None
    mine = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not mine or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ArgumentError(
            f"--cache {folder} belongs to somebody else or can be written by others, "
            f"and what is kept there is run as code. Name a private folder (chmod 700)."
        )
    jax.config.update("jax_compilation_cache_dir", str(inside))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
