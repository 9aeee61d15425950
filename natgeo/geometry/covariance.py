"""Second moments of the features, streamed in float64, and their factor.

Everything here is float64 on the host. A float32 running sum loses the smallest
eigenvalues, which are the ones that certificates depend on, and float64 after a float32
covariance recovers nothing; host BLAS makes float64 as cheap as the accelerator's
float32, on every platform, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from natgeo import checks
from natgeo.errors import DataError

# Larger matrices are cut: the Cholesky of OpenBLAS crashes at 16,384.
_LAPACK_WIDTH = 8192


@dataclass(frozen=True)
class Moments:
    """Sum of outer products of N feature rows.

    Attributes:
        count: number of rows N.
        second: sum_i phi_i phi_i^T, [K, K], float64.
    """

    count: int
    second: np.ndarray

    def add(self, block: np.ndarray) -> Moments:
        """The moments with the rows of `block`, [B, K], added."""
        rows = np.asarray(block, np.float64)
        # NumPy recognises X^T X and calls the symmetric product (dsyrk).
        return Moments(self.count + len(rows), self.second + rows.T @ rows)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together."""
        return Moments(self.count + other.count, self.second + other.second)


def moments(blocks: Iterable[np.ndarray], width: int) -> Moments:
    """Moments of all rows of `blocks`, each [B, K]; holds one block at a time."""
    total = Moments(0, np.zeros((width, width)))
    for block in blocks:
        total = total.add(block)
    return total


def covariance(total: Moments, ridge: float) -> np.ndarray:
    """Q = (1/N) sum_i phi_i phi_i^T + ridge I, [K, K], float64."""
    return total.second / total.count + ridge * np.eye(len(total.second))


def default_ridge(total: Moments) -> float:
    """A thousandth of the mean eigenvalue of the covariance.

    Small enough to leave the leading directions alone; bounds cond(Q) by 1000 K.
    """
    return 1e-3 * float(np.trace(total.second)) / (total.count * len(total.second))


def factorize(total: Moments, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The Cholesky factor of Q and its inverse, both [K, K] lower triangular.

    Args:
        total: moments of the training features.
        ridge: lambda >= 0, in squared feature units.

    Returns:
        L with L L^T = Q, and the whitener R = L^-1.

    Raises:
        DataError: if Q is not positive definite to working precision.
    """
    ridge = checks.nonnegative("ridge", ridge)
    q = covariance(total, ridge)
    width = len(q)
    if not np.isfinite(q).all():
        raise DataError(
            "The feature covariance overflows float64. Scale the features down."
        )
    reason = ""
    if ridge == 0 and total.count < width:
        reason = f"{total.count} examples cannot span {width} dimensions"
    else:
        lower = _cholesky(q)
        if lower is not None:
            norm = np.abs(q).sum(axis=0).max()
            reciprocal, _ = scipy.linalg.lapack.dpocon(lower, norm, uplo="L")
            if reciprocal >= width * np.finfo(np.float64).eps:
                return lower, inverse(lower)
        smallest = np.linalg.eigvalsh(q)[[0, -1]]
        reason = (
            f"its eigenvalues run from {smallest[0]:.1e} to {smallest[1]:.1e}, "
            f"which float64 cannot tell from singular"
        )
    raise DataError(
        f"The feature covariance is not positive definite with ridge={ridge:g}: "
        f"{reason} (N={total.count}, K={width}). Use a larger ridge, for instance "
        f"{default_ridge(total) or 1e-6:.1e}, fewer projected dimensions, or more "
        f"examples."
    )


def _cholesky(q: np.ndarray) -> np.ndarray | None:
    """The lower Cholesky factor, None if the matrix is not positive definite."""
    if len(q) <= _LAPACK_WIDTH:
        lower, info = scipy.linalg.lapack.dpotrf(q, lower=1, clean=1)
        return lower if info == 0 else None
    half = len(q) // 2
    first = _cholesky(q[:half, :half])
    if first is None:
        return None
    below = scipy.linalg.solve_triangular(first, q[:half, half:], lower=True).T
    last = _cholesky(q[half:, half:] - below @ below.T)
    return None if last is None else _lower(first, below, last)


def inverse(lower: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular matrix, lower triangular, [K, K], float64."""
    if len(lower) <= _LAPACK_WIDTH:
        found, _ = scipy.linalg.lapack.dtrtri(lower, lower=1)
        return np.tril(found)
    half = len(lower) // 2
    first, last = inverse(lower[:half, :half]), inverse(lower[half:, half:])
    return _lower(first, -last @ (lower[half:, :half] @ first), last)


def _lower(first: np.ndarray, below: np.ndarray, last: np.ndarray) -> np.ndarray:
    out = np.zeros((len(first) + len(last),) * 2)
    half = len(first)
    out[:half, :half], out[half:, :half], out[half:, half:] = first, below, last
    return out
