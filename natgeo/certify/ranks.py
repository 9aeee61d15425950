"""Ranks and top-k sets from how many examples are certified above and below each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TopK:
    """Membership of the k highest-scoring training examples of a target.

    Attributes:
        inside: examples certified to be among the k highest, [..].
        outside: examples certified not to be among them, [..].
        undecided: all others, [..].
    """

    inside: np.ndarray
    outside: np.ndarray
    undecided: np.ndarray


def rank_intervals(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Certified [lowest, highest] rank of every example, [N, 2]; 1 is the highest.

    rank_i lies in [1 + certified above i, N - certified below i]. Ties widen it.
    """
    return np.stack([1 + above, len(below) - below], axis=1)


def top_k(k: int, above: np.ndarray, below: np.ndarray) -> TopK:
    """Which examples are certified to be in, and out of, the k highest.

    Args:
        k: how many are the highest ones.
        above: how many examples are certified above each one, [N].
        below: how many are certified below each one, [N].
    """
    inside, outside = below >= len(below) - k, above >= k
    return TopK(
        np.flatnonzero(inside),
        np.flatnonzero(outside),
        np.flatnonzero(~inside & ~outside),
    )
