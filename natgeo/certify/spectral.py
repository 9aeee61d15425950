"""A proven upper bound of a spectral norm, without a factorisation."""

from __future__ import annotations

import numpy as np

from natgeo.certify.bounds import gamma, norm, upward

_SQUARINGS = 9


def spectral_norm(matrix: np.ndarray) -> float:
    """Upper bound of the largest singular value of a square float64 matrix.

    H_0 = R, H_(j+1) = H_j H_j^T: the norm squares at each step, so the Frobenius norm
    of H_s, at most sqrt(K) times too large, bounds ||R|| within K^(1 / 2^(s+1)), less
    than one per cent for K = 4096. Backwards, with b_s = |H_s|_F,

        ||H_j||^2 = ||H_j H_j^T|| <= b_(j+1) + gamma(K) |H_j|_F^2 = b_j^2

    covers the rounding of each product. Each H_j is first scaled by a power of two.
    """
    matrix = np.asarray(matrix, np.float64)
    sizes, exponents, current = [], [], matrix
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_SQUARINGS):
            size = norm(current)
            if not (np.isfinite(size) and size > 0):
                return size
            exponent = int(np.frexp(size)[1])
            current = np.ldexp(current, -exponent)
            sizes.append(norm(current))
            exponents.append(exponent)
            current = current @ current.T
        bound = norm(current)
        lost = gamma(len(matrix))
        for size, exponent in zip(sizes[::-1], exponents[::-1], strict=True):
            bound = float(upward(np.sqrt(upward(bound + lost * size * size))))
            bound = float(np.ldexp(bound, exponent))
    return bound
