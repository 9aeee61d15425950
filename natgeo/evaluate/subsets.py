"""Which training examples each model is trained on, as rows of weights.

A row holds one weight for each of the N training examples: 1 takes part, 0 does not.
Other weights are allowed wherever rows are taken, counts of a bootstrap for instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError


def half_subsets(size: int, count: int, *, seed: int, share: float = 0.5) -> np.ndarray:
    """Random subsets of one size, [count, N] float32 of 0 and 1.

    The training sets of the linear datamodeling score (arXiv 2303.14186, section 2).

    Args:
        size: number of training examples N.
        count: how many subsets.
        seed: a whole number.
        share: part of the examples in each, rounded to a whole number of them.

    Raises:
        ArgumentError: if a subset would be empty or hold every example.
    """
    size, count = checks.count("size", size, low=2), checks.count("count", count)
    rng = np.random.default_rng(checks.count("seed", seed, low=0))
    kept = round(size * checks.nonnegative("share", share))
    if not 0 < kept < size:
        raise ArgumentError(
            f"share={share!r} of {size} examples are {kept}: expected fewer than all "
            f"and more than none."
        )
    out = np.zeros((count, size), np.float32)
    for row in out:
        row[rng.permutation(size)[:kept]] = 1
    return out


def leave_out(size: int, groups: Sequence[Any]) -> np.ndarray:
    """Everything first, then everything but each group, [1 + G, N] float32.

    Args:
        size: number of training examples N.
        groups: for each model the index of an example, or several of them.

    Raises:
        ArgumentError: if there is no group, or an index is none.
    """
    size = checks.count("size", size, low=2)
    if not len(groups):
        raise ArgumentError("groups is empty: name at least one example to leave out.")
    out = np.ones((1 + len(groups), size), np.float32)
    for place, group in enumerate(groups):
        rows = checks.indices(f"groups[{place}]", np.atleast_1d(group), size)
        out[1 + place, rows] = 0
    return out


def as_weights(weights: Any) -> np.ndarray:
    """Rows of weights, [S, N] float32.

    Raises:
        DataError: if they are not two axes of finite numbers that are not negative, or
            a row is all zero.
    """
    try:
        rows = np.asarray(weights)
    except ValueError as error:
        raise DataError(f"weights are not an array: {error}") from None
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "biuf":
        raise DataError(
            f"weights have shape {rows.shape} and dtype {rows.dtype}: expected a row "
            f"for each model with a number for each training example, [S, N]."
        )
    checks.finite("weights", rows)
    bad = np.flatnonzero((rows < 0).any(axis=1) | ~(rows > 0).any(axis=1))
    if len(bad):
        raise DataError(
            f"weights[{bad[0]}] has a negative weight, or nothing but zeros. A model "
            f"is trained on at least one example."
        )
    return rows.astype(np.float32)
