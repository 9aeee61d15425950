"""What a model says about examples, in batches of one shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from natgeo.errors import DataError
from natgeo.types import Params

_BATCH = 256


@lru_cache(maxsize=16)
def predictor(apply: Callable[[Params, Any], Any]) -> Callable[[Params, Any], Any]:
    """`logits(params, x)` -> [N, classes], float32, compiled once for a model.

    Args:
        apply: `apply(params, x)` -> logits, [B, classes], for inputs [B, ...]; or a
            representation, [B, D].
    """
    import jax

    compiled = jax.jit(apply)

    def logits(params: Params, x: Any) -> np.ndarray:
        params = jax.tree.map(jax.numpy.asarray, params)
        parts = []
        for start in range(0, len(x), _BATCH):
            batch = np.asarray(x[start : start + _BATCH])
            short = _BATCH - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)])
            found = np.asarray(compiled(params, padded), np.float32)
            parts.append(found[: len(batch)])
        return checked(np.concatenate(parts), len(x))

    return logits


def checked(logits: np.ndarray, count: int) -> np.ndarray:
    """Logits of `count` examples as they are.

    Raises:
        DataError: for another shape, NaN or infinity.
    """
    if logits.ndim != 2 or logits.shape[0] != count or logits.shape[1] < 2:
        raise DataError(
            f"The model gives logits of shape {logits.shape} for {count} examples: "
            f"expected one row for each and one column for each class."
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise DataError(
            f"The logits of example {bad[0]} are not finite ({len(bad)} of {count} "
            f"examples). Repair the example, or load a sound checkpoint."
        )
    return logits
