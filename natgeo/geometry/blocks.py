"""Blocks of one size, however the features are cut into shards.

Sums and products then run over the same blocks whether a data set is in memory, on
disk or in parts, so that they give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

BLOCK_ROWS = 4096


def regular_blocks(
    blocks: Iterable[np.ndarray], rows: int = BLOCK_ROWS
) -> Iterator[np.ndarray]:
    """Cuts blocks, each [any, K], again: all of `rows` rows but the last."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        while count + len(block) >= rows:
            taken = rows - count
            yield _joined([*waiting, block[:taken]])
            block, waiting, count = block[taken:], [], 0
        if len(block):
            waiting.append(block)
            count += len(block)
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
