"""The natural geometry of a training set: whiten once, then everything is Euclidean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks, resources
from natgeo.errors import DataError
from natgeo.geometry import covariance as cov
from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks
from natgeo.store.memory import as_store
from natgeo.types import Store

# Natural features that take more are computed again by every pass that streams.
KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class NaturalGeometry:
    """The metric Q^-1 of a set of training features (certificates.md, section 1).

        Q = (1/N) sum_i phi_i phi_i^T + ridge I = L L^T,      w_i = L^-1 phi_i

    Attributes:
        train: the store of training features phi, [N, K].
        ridge: lambda, in squared feature units.
        covariance: Q, [K, K], float64.
        factor: L, [K, K] lower triangular.
        whitener: R = L^-1, [K, K] lower triangular.
    """

    train: Store
    ridge: float
    covariance: np.ndarray
    factor: np.ndarray
    whitener: np.ndarray

    def __repr__(self) -> str:
        n, k = self.train.shape
        return f"NaturalGeometry(N={n}, K={k}, ridge={self.ridge:.3g})"

    def whiten(self, features: Any) -> np.ndarray:
        """Natural features w = L^-1 phi, float64; rows in, rows out.

        Args:
            features: one feature [K] or several [B, K].

        Raises:
            DataError: if they are not finite or have another K.
        """
        array = np.asarray(features)
        single = array.ndim == 1
        rows = checks.matrix("features", array[None] if single else array, self.width)
        whitened = np.asarray(rows, np.float64) @ self.whitener.T
        return whitened[0] if single else whitened

    def distance(self, first: Any, second: Any) -> np.ndarray:
        """Natural distance norm(w - w') between features, row by row.

        The features are subtracted before they are whitened, so that near duplicates
        keep their digits.
        """
        for array in (first, second):
            if np.shape(array)[-1:] != (self.width,):
                raise DataError(
                    f"Features of shape {np.shape(array)} have no distance here: the "
                    f"training features have {self.width} numbers per example."
                )
        difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
        return np.asarray(np.linalg.norm(self.whiten(difference), axis=-1))

    @property
    def width(self) -> int:
        """Feature dimension K."""
        return self.train.shape[1]

    @cached_property
    def natural(self) -> np.ndarray:
        """Natural features of the training set, [N, K], float64; computed once.

        Certificates need all of them at hand; what only passes over them streams
        `natural_blocks` instead.

        Raises:
            ArgumentError: if the memory does not hold them.
        """
        n, k = self.train.shape
        resources.require_memory(
            8 * n * k,
            f"{n:,} x {k:,} natural features in float64",
            "Certify fewer examples or project to fewer dimensions; scores and "
            "self-influence need no more than blocks of them.",
        )
        out = np.empty(self.train.shape)
        start = 0
        for block in regular_blocks(self.train.blocks(BLOCK_ROWS)):
            rows = np.asarray(block, np.float64)
            np.matmul(rows, self.whitener.T, out=out[start : start + len(rows)])
            start += len(rows)
        out.flags.writeable = False
        return out

    def natural_blocks(self) -> Iterator[np.ndarray]:
        """Yields `natural` in order, `BLOCK_ROWS` at a time (the last block: the rest).

        Holds one block, unless all of them fit into `KEPT_BYTES` or are there already.
        """
        n, k = self.train.shape
        if "natural" in vars(self) or 8 * n * k <= KEPT_BYTES:
            for start in range(0, n, BLOCK_ROWS):
                yield self.natural[start : start + BLOCK_ROWS]
            return
        for block in regular_blocks(self.train.blocks(BLOCK_ROWS)):
            yield np.asarray(block, np.float64) @ self.whitener.T

    @cached_property
    def weights(self) -> np.ndarray:
        """Residual weights r of the training set, [N], float64; ones if none."""
        column = self.train.column("weights")
        if column is None:
            return np.ones(self.train.shape[0])
        return np.asarray(column, np.float64)

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Eigenvalues of Q, [K], ascending."""
        return np.linalg.eigvalsh(self.covariance)

    @property
    def condition(self) -> float:
        """Condition number of Q: largest eigenvalue over smallest."""
        return float(self.spectrum[-1] / self.spectrum[0])

    @property
    def effective_dimension(self) -> float:
        """d_eff = tr(Q^-1 (Q - ridge I)) = mean squared natural norm, at most K."""
        return float(np.sum(np.maximum(self.spectrum - self.ridge, 0) / self.spectrum))

    @property
    def spectral_amplification(self) -> float:
        """1 / sqrt(smallest eigenvalue of Q), in natural units per feature unit.

        The factor by which a Euclidean radius in raw feature space must be multiplied
        to be covered by a natural one (certificates.md, section 3, last row).
        """
        return float(1 / np.sqrt(self.spectrum[0]))


def natural_geometry(
    train: Any, ridge: float | None = None, *, shared: bool = False
) -> NaturalGeometry:
    """Builds the natural geometry of training features.

    Args:
        train: a store from `featurize`, or a plain [N, K] array.
        ridge: lambda >= 0 in squared feature units; None chooses a thousandth of the
            mean eigenvalue of the covariance. With 0 the certificates are exact, but
            the features must have full rank.
        shared: every process of `jax.distributed` makes this call: each adds up its
            part of a store on disk, and the sums are exchanged once. All of them get
            the same bits, which differ from those of one process by rounding.

    Raises:
        ArgumentError: for a ridge that is negative, not finite or not a number.
        DataError: for unusable features, or a covariance that is not positive definite.

    Examples:
        >>> import numpy as np
        >>> features = np.array([[2.0, 0.0], [0.0, 1.0]])
        >>> geometry = natural_geometry(features, ridge=0.0)
        >>> geometry.covariance.tolist()
        [[2.0, 0.0], [0.0, 0.5]]
        >>> round(geometry.effective_dimension, 6)
        2.0
    """
    if ridge is not None:
        ridge = checks.nonnegative("ridge", ridge)
    store = as_store("train", train)
    if not store.shape[0]:
        raise DataError(f"{store!r} holds no examples: it is one part of a store.")
    if shared:
        # Only here: whoever reads a store alone needs no JAX.
        from natgeo.geometry.processes import shared_moments

        total = shared_moments(store)
    else:
        blocks = regular_blocks(store.blocks(BLOCK_ROWS))
        total = cov.moments(blocks, store.shape[1])
    chosen = cov.default_ridge(total) if ridge is None else ridge
    factor, whitener = cov.factorize(total, chosen)
    return NaturalGeometry(
        store, chosen, cov.covariance(total, chosen), factor, whitener
    )


def self_influence(geometry: NaturalGeometry) -> np.ndarray:
    """Self-influence SI_i = norm(w_i)^2 of every training example, [N], float64.

    N times the ridge leverage score; its mean is the effective dimension, at most K.
    """
    return np.concatenate(
        [np.einsum("nk,nk->n", block, block) for block in geometry.natural_blocks()]
    )


def as_target_store(geometry: NaturalGeometry, targets: Any) -> Any:
    """Targets as a store, after checking that they fit the geometry.

    Raises:
        DataError: if they are unusable, or come from another projection or model.
    """
    store = as_store("targets", targets)
    if store.shape[1] != geometry.width:
        raise DataError(
            f"targets have {store.shape[1]} features per example, the training "
            f"features have {geometry.width}. Use the same projector for both."
        )
    for field in ("task", "params", "only", "projector"):
        ours, theirs = geometry.train.metadata.get(field), store.metadata.get(field)
        known = field in geometry.train.metadata and field in store.metadata
        if known and ours != theirs:
            raise DataError(
                f"targets and training features do not belong together: {field} is "
                f"{theirs!r} for the targets and {ours!r} for the training set."
            )
    return store
