"""Random trees that say of each example what trees without it predict.

Extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006): at
each node a few columns are drawn, each is cut at random between its least and largest
value there, and the cut that separates the classes best is kept. A tree is grown on a
random half of the examples and predicts the others, so that no prediction has seen the
label of its own example. Columns count by their order alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from natgeo import checks
from natgeo.labels.left_out import calibrated, whole_labels
from natgeo.progress import Progress

TREES = 200
SHARE, MOST_GROWN = 0.5, 8192  # of the examples in a tree, and at most so many
# Held at once: pairs of a tree and an example, and entries of a node's class counts.
_PAIRS, _ENTRIES = 400_000, 5_000_000
_FLOOR = 0.02  # of the probability is spread over all classes


@dataclass
class _Places:
    """Which examples are in which node."""

    example: np.ndarray
    node: np.ndarray

    def only(self, kept: np.ndarray, renamed: np.ndarray) -> _Places:
        """Those of a mask, with other names of the nodes."""
        return _Places(self.example[kept], renamed[self.node[kept]])

    def split(self, right: np.ndarray) -> _Places:
        """In the left and right children, 2 m and 2 m + 1 of node m."""
        return _Places(self.example, 2 * self.node + right)

    def by_node(self) -> _Places:
        """Sorted by node."""
        order = np.argsort(self.node, kind="stable")
        return _Places(self.example[order], self.node[order])


def left_out_votes(
    x: Any,
    labels: Any,
    *,
    classes: int | None = None,
    trees: int = TREES,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Log-probabilities of examples by the trees that were grown without them, [N, C].

    The mean of the class frequencies in its leaves, `calibrated`.

    Args:
        x: columns, [N, D].
        labels: given, [N].
        classes: C; default the largest label and one.
        trees: how many are grown; on half of the examples each, at most 8,192.
        seed: of every draw.
        progress: show a bar on standard error if it takes over a second.
    """
    rows = checks.matrix("x", x)
    labels = whole_labels(labels, len(rows))
    count = int(labels.max()) + 1 if classes is None else classes
    ranks = scipy.stats.rankdata(rows, method="dense", axis=0).astype(np.float32)
    votes, voters = np.zeros((len(labels), max(count, 2))), np.zeros(len(labels))
    rng = np.random.default_rng(seed)
    most = _ENTRIES // (votes.shape[1] * min(len(labels), MOST_GROWN))
    together = max(1, min(_PAIRS // len(labels), most))
    with Progress("growing trees", checks.count("trees", trees), visible=progress) as b:
        for start in range(0, trees, together):
            some = min(together, trees - start)
            _grow(ranks, labels, some, votes, voters, rng)
            b.advance(some)
    share = np.bincount(labels, minlength=votes.shape[1]) / len(labels)
    mean = np.where(voters[:, None] > 0, votes / np.maximum(voters, 1)[:, None], share)
    return calibrated(np.log((1 - _FLOOR) * mean + _FLOOR / len(share)), labels)


def _grow(
    x: np.ndarray,
    y: np.ndarray,
    trees: int,
    votes: np.ndarray,
    voters: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Grows trees level by level and adds their votes on the examples left out."""
    grown, others = _drawn(len(y), trees, rng)
    while len(others.example):
        nodes = int(grown.node[-1]) + 1
        counts = _counts(grown, y, nodes, votes.shape[1])
        column, cut, gain = _best_cuts(x, y, grown, counts, rng)
        leaf = gain <= 0
        done = leaf[others.node]
        which = others.example[done]
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        # One example may be in leaves of several trees.
        np.add.at(votes, which, frequencies[others.node[done]])
        np.add.at(voters, which, 1)
        renamed = np.cumsum(~leaf) - 1
        parts = []
        for places in (grown, others):
            kept = ~leaf[places.node]
            right = (x[places.example, column[places.node]] > cut[places.node])[kept]
            parts.append(places.only(kept, renamed).split(right))
        grown, others = parts[0].by_node(), parts[1]


def _drawn(size: int, trees: int, rng: np.random.Generator) -> tuple[_Places, _Places]:
    """The examples each tree is grown on, and the others; node t is the root of t."""
    count = min(max(int(SHARE * size), 1), MOST_GROWN)
    order = np.stack([rng.permutation(size) for _ in range(trees)])
    roots = np.arange(trees)
    return (
        _Places(order[:, :count].ravel(), np.repeat(roots, count)),
        _Places(order[:, count:].ravel(), np.repeat(roots, size - count)),
    )


def _counts(places: _Places, y: np.ndarray, nodes: int, classes: int) -> np.ndarray:
    """How many examples of each class are in each node, [nodes, classes]."""
    joint = places.node * classes + y[places.example]
    counts = np.bincount(joint, minlength=nodes * classes)
    return np.asarray(counts.reshape(nodes, classes))


def _best_cuts(
    x: np.ndarray,
    y: np.ndarray,
    grown: _Places,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, cut and gain of each node, of as many random ones as sqrt(D)."""
    nodes, classes = counts.shape
    begin = np.searchsorted(grown.node, np.arange(nodes))
    before = _purity(counts)
    best: np.ndarray = np.zeros(nodes)
    column, cut = np.zeros(nodes, np.intp), np.zeros(nodes)
    for _ in range(int(np.ceil(x.shape[1] ** 0.5))):
        tried = np.asarray(rng.integers(0, x.shape[1], nodes))
        values = x[grown.example, tried[grown.node]]
        low = np.minimum.reduceat(values, begin)
        high = np.maximum.reduceat(values, begin)
        at: np.ndarray = low + rng.random(nodes) * (high - low)
        below = values <= at[grown.node]
        part = _Places(grown.example[below], grown.node[below])
        left = _counts(part, y, nodes, classes)
        gain = _purity(left) + _purity(counts - left) - before
        better = (gain > best) & (low < high)
        best = np.where(better, gain, best)
        column = np.where(better, tried, column)
        cut = np.where(better, at, cut)
    return column, cut, best


def _purity(counts: np.ndarray) -> np.ndarray:
    """Sum of squared class counts over their sum, [nodes]; Gini's index but for N."""
    size = np.maximum(counts.sum(axis=1), 1)
    return np.asarray(np.square(counts).sum(axis=1) / size)
