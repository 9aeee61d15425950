"""Blocks of examples on their way to disk, and the shard that they become."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError
from natgeo.store import manifest as files
from natgeo.store import recovery
from natgeo.store.memory import little_endian


@dataclass(frozen=True)
class Block:
    """Appended examples: features [B, K], columns [B], digest of their inputs."""

    features: np.ndarray
    columns: Mapping[str, np.ndarray]
    inputs: bytes


def block_of(features: Any, columns: Mapping[str, Any] | None, inputs: bytes) -> Block:
    """A block that a store can hold.

    Raises:
        ArgumentError: for a dtype that cannot be stored, or two of them.
        DataError: for features or columns that are not finite numbers.
    """
    features = checks.matrix("features", features)
    columns = {
        files.column_name(name): checks.column(f"column {name!r}", value, len(features))
        for name, value in (columns or {}).items()
    }
    if features.dtype.name not in files.DTYPES:
        raise ArgumentError(
            f"A store on disk holds {', '.join(files.DTYPES)}, not "
            f"{features.dtype}. Convert the features to float32, exactly."
        )
    for name, value in columns.items():
        if value.dtype != features.dtype:
            raise ArgumentError(
                f"Column {name!r} is {value.dtype} and the features are "
                f"{features.dtype}: a store has one dtype. Convert one of them."
            )
    return Block(features, columns, inputs)


def split(blocks: list[Block], rows: int) -> tuple[list[Block], list[Block]]:
    """The first `rows` examples and the rest; a block that is cut loses its inputs."""
    taken: list[Block] = []
    left: list[Block] = []
    for block in blocks:
        here = max(0, min(rows, len(block.features)))
        rows -= here
        for part, side in ((slice(0, here), taken), (slice(here, None), left)):
            columns = {name: value[part] for name, value in block.columns.items()}
            whole = 0 < here < len(block.features)
            cut = Block(block.features[part], columns, b"" if whole else block.inputs)
            if len(cut.features):
                side.append(cut)
    return taken, left


def write_shard(folder: Path, blocks: list[Block], number: int, sha: Any) -> dict:
    """Writes some blocks as one shard; returns its entry in the manifest.

    Args:
        folder: of the store.
        blocks: at least one.
        number: of the shard.
        sha: hash of all features before it, which takes these up.
    """
    features = np.concatenate([block.features for block in blocks])
    arrays = {"features": features}
    for name in blocks[0].columns:
        arrays[name] = np.concatenate([block.columns[name] for block in blocks])
    entries = {}
    for name, array in arrays.items():
        body = little_endian(array).data.cast("B")
        data = b"".join([files.npy_header(array.dtype.name, array.shape), body])
        files.write_atomically(folder / files.shard_name(name, number), data)
        entries[name] = {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    sha.update(little_endian(features).data)
    shard: dict[str, Any] = {"rows": len(features), "files": entries}
    if all(block.inputs for block in blocks):
        shard["inputs"] = recovery.inputs_digest([b.inputs for b in blocks])
    return shard
