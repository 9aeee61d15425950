"""Which training examples speak most for a label of an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.geometry.scores import score_tiles


@dataclass(frozen=True, eq=False)
class Support:
    """The training examples that support a label of some examples most.

    Attributes:
        indices: training examples, strongest first, [Q, k]; -1 where no other example
            supports the label.
        scores: w_t . w_i of loss features, [Q, k]: positive if training on i lowers the
            loss of the label.
    """

    indices: np.ndarray
    scores: np.ndarray


def strongest(
    geometry: NaturalGeometry,
    features: Any,
    leave_out: Any,
    k: int,
    *,
    labels: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> Support:
    """The k training examples with the largest score for each row of features.

    One tile of scores is held at a time, never Q x N.

    Args:
        geometry: the natural geometry of the loss features of the training set.
        features: loss features of the examples with the label in question, [Q, K].
        leave_out: the training example that each of them is, [Q].
        k: how many.
        labels: given labels, [N], with `wanted`: only training examples that have the
            label in question count, [Q].
        wanted: see `labels`.
    """
    store = as_target_store(geometry, features)
    count, size = store.shape[0], geometry.train.shape[0]
    out = checks.indices("leave_out", leave_out, size)
    k = min(checks.count("k", k), size)
    scores = np.full((count, k), -np.inf)
    indices = np.full((count, k), -1, np.intp)
    for first, start, tile in score_tiles(geometry, store, np.ones(size)):
        rows = slice(first, first + len(tile))
        found = np.array(tile, np.float64)
        own = out[rows] - start
        here = np.flatnonzero((own >= 0) & (own < found.shape[1]))
        found[here, own[here]] = -np.inf
        if labels is not None and wanted is not None:
            there = labels[start : start + found.shape[1]]
            found[there != wanted[rows, None]] = -np.inf
        _merge(scores[rows], indices[rows], found, start)
    indices[~(scores > 0)] = -1
    return Support(indices, np.where(scores > 0, scores, 0.0))


def _merge(
    scores: np.ndarray, indices: np.ndarray, tile: np.ndarray, start: int
) -> None:
    """Puts the best of a tile among the best so far, in place."""
    k = scores.shape[1]
    best = np.argsort(-tile, axis=1, kind="stable")[:, :k]
    values = np.concatenate([scores, np.take_along_axis(tile, best, 1)], axis=1)
    places = np.concatenate([indices, best + start], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    scores[:] = np.take_along_axis(values, order, 1)
    indices[:] = np.take_along_axis(places, order, 1)
