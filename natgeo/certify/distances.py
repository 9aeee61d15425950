"""How far known changes of the data are, so that a person can choose eps.

Every change is placed between two numbers, in natural units:

    covariance  <=  W2(P', P_n)  <=  moved

`covariance` is the Bures distance ||(R Q' R^T)^(1/2) - I||_F of the second moments, the
ridge in both. The closed form c > kappa(eps) depends on P' through it alone, so what
it certifies at eps (at ridge 0: everything) holds for every change with covariance <=
eps, however far its examples move. What only the bound of `natgeo.certify.ridge`
certifies rests on the ridge staying where it is, which `covariance` lets move: that
holds for every change with moved <= eps. `moved` is the cost of an explicit coupling.
Proof of the first inequality: couple the two distributions optimally, add the same
independent noise of covariance ridge I to both sides, and apply Gelbrich's bound for
second moments to the sums.

The numbers are measured in float64, not proven: they choose a radius, they are not part
of a certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks
from natgeo.geometry.natural import NaturalGeometry, as_target_store
from natgeo.types import Store

_MATCHED = 1024  # displaced copies that are matched at once


@dataclass(frozen=True)
class Distance:
    """Two bounds of the order-2 natural distance of a change, in natural units.

    Attributes:
        covariance: Bures distance of the second moments, what the closed form sees.
        moved: order-2 cost of an explicit coupling, which bounds W2 itself.
    """

    covariance: float
    moved: float


@dataclass(frozen=True, eq=False)
class Change:
    """A known change of training examples: before and after, example by example.

    Attributes:
        moved: natural distance norm(w_i - w'_i) of each example, [B].
        alone: `covariance` when example i changes and all others stay, [B].
        spectrum: eigenvalues of R (Q' - Q) R^T when all examples change, [K]; None
            if the examples are not the whole training set.
        size: number of training examples N.
    """

    moved: np.ndarray
    alone: np.ndarray
    spectrum: np.ndarray | None
    size: int

    def one(self, quantile: float = 0.5) -> Distance:
        """One example changes: this quantile over the examples of each number."""
        moved = self.moved / np.sqrt(self.size)
        return Distance(
            float(np.quantile(self.alone, quantile)),
            float(np.quantile(moved, quantile)),
        )

    def share(self, share: float = 1.0) -> Distance:
        """Every example gives `share` of its weight to its changed version.

        That is the mixture (1 - share) P_n + share P', the expected distribution when
        each example changes with this probability. `covariance` is NaN if the examples
        are not the whole training set.

        Raises:
            ArgumentError: if the share is not a number from 0 to 1.
        """
        part = checks.nonnegative("share", share)
        if part > 1:
            raise ArgumentError(f"share={share!r} is above 1: expected 0 to 1.")
        moved = np.sqrt(part * np.mean(np.square(self.moved)))
        if self.spectrum is None:
            return Distance(float("nan"), float(moved))
        return Distance(float(bures(part * self.spectrum)), float(moved))

    def covered(self, eps: float) -> float:
        """The largest share whose `covariance` is at most eps; NaN if it is unknown.

        By bisection: the distance grows with the share.
        """
        eps = checks.nonnegative("eps", eps)
        if self.spectrum is None:
            return float("nan")
        if bures(self.spectrum) <= eps:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            inside = bures(middle * self.spectrum) <= eps
            low, high = (middle, high) if inside else (low, middle)
        return low


def change(geometry: NaturalGeometry, before: Any, after: Any) -> Change:
    """Natural distances of training examples before and after a known change.

    An augmentation, a relabelling, another tokenizer: featurize the same examples, in
    the same order, with the same model and projector.

    Args:
        geometry: the natural geometry of the N training examples.
        before: features of B training examples, a store or [B, K]; with the whole
            training set, `share` and `covered` are known as well.
        after: features of the same examples after the change, [B, K].

    Raises:
        DataError: if the two do not fit the geometry, or each other.
    """
    first, second = (as_target_store(geometry, part) for part in (before, after))
    if first.shape != second.shape:
        raise DataError(
            f"before has {first.shape[0]} examples and after has {second.shape[0]}: "
            f"expected the same examples in the same order."
        )
    n, k = geometry.train.shape
    moved, alone, shift = [], [], np.zeros((k, k))
    cut = (regular_blocks(store.blocks(BLOCK_ROWS)) for store in (first, second))
    for old, new in zip(*cut, strict=True):
        moved.append(geometry.distance(old, new))
        left, right = geometry.whiten(old), geometry.whiten(new)
        alone.append(_alone(left, right, n))
        shift += right.T @ right - left.T @ left
    return Change(
        np.concatenate(moved),
        np.concatenate(alone),
        np.linalg.eigvalsh(shift / n) if _is_training_set(geometry, first) else None,
        n,
    )


def resample(
    geometry: NaturalGeometry, *, draws: int = 3, seed: int = 0
) -> list[Distance]:
    """Distances of bootstrap resamples of the training set, one for each draw.

    N examples are drawn with replacement. The coupling keeps the first copy of every
    example where it is and matches the further copies with the examples that were not
    drawn, by the cheapest assignment in blocks.

    Args:
        geometry: the natural geometry of the training set.
        draws: how many resamples.
        seed: of the resamples.
    """
    rng = np.random.default_rng(checks.count("seed", seed, low=0))
    n = geometry.train.shape[0]
    out = []
    for _ in range(checks.count("draws", draws)):
        copies = np.bincount(rng.integers(0, n, n), minlength=n)
        moments = weighted_moments(geometry.natural, copies - 1.0)
        out.append(
            Distance(
                float(bures(np.linalg.eigvalsh(moments / n))),
                _matching_cost(geometry.natural, copies, rng),
            )
        )
    return out


def typical(distances: Sequence[Distance]) -> Distance:
    """The median of each number over some distances."""
    return Distance(
        float(np.median([d.covariance for d in distances])),
        float(np.median([d.moved for d in distances])),
    )


def bures(eigenvalues: np.ndarray) -> Any:
    """||(I + E)^(1/2) - I||_F from the eigenvalues of E, [..., K], at least -1 each."""
    # e / (sqrt(1 + e) + 1) is sqrt(1 + e) - 1 without its cancellation at small e.
    roots = np.sqrt(np.maximum(1 + eigenvalues, 0))
    return np.linalg.norm(eigenvalues / (roots + 1), axis=-1)


def _alone(before: np.ndarray, after: np.ndarray, n: int) -> np.ndarray:
    """Bures distances when the covariance gains (w' w'^T - w w^T) / N, [B].

    With a = |w|^2/N, b = |w'|^2/N, c = w.w'/N the eigenvalues that are not zero have
    sum b - a and product -(a b - c^2). With w' = w + d, a b - c^2 is the Gram
    determinant of w and d, which does not cancel for a small change.
    """
    move = after - before
    a, dd, wd = (
        np.einsum("nk,nk->n", x, y) / n
        for x, y in ((before, before), (move, move), (before, move))
    )
    half = wd + dd / 2
    product = np.maximum(a * dd - wd * wd, 0)
    root = np.sqrt(half * half + product)
    # The larger root by a sum without cancellation, the other from the product.
    large = half + np.where(half >= 0, root, -root)
    small = -np.divide(product, large, out=np.zeros_like(large), where=large != 0)
    return np.asarray(bures(np.stack([large, small], axis=1)))


def weighted_moments(natural: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_i m_i w_i w_i^T, in blocks of rows."""
    total = np.zeros((natural.shape[1],) * 2)
    for start in range(0, len(natural), BLOCK_ROWS):
        rows = natural[start : start + BLOCK_ROWS]
        total += (rows * weights[start : start + BLOCK_ROWS, None]).T @ rows
    return total


def _matching_cost(
    natural: np.ndarray, copies: np.ndarray, rng: np.random.Generator
) -> float:
    """Order-2 cost of turning every example into its `copies`, [N] whole numbers."""
    index = np.arange(len(copies))
    spare = rng.permutation(np.repeat(index, np.maximum(copies - 1, 0)))
    missing = rng.permutation(index[copies == 0])
    total = 0.0
    for start in range(0, len(missing), _MATCHED):
        part = slice(start, start + _MATCHED)
        costs = cdist(natural[missing[part]], natural[spare[part]], "sqeuclidean")
        total += float(costs[linear_sum_assignment(costs)].sum())
    return float(np.sqrt(total / len(copies)))


def _is_training_set(geometry: NaturalGeometry, store: Store) -> bool:
    train = geometry.train
    return store.shape == train.shape and (
        store is train or store.digest() == train.digest()
    )
