"""The optimum of a convex risk, to the rounding of its own gradient.

Newton's method on the exact Hessian up to `DENSE` parameters. Above, scipy's L-BFGS
comes near, and the systems of the Newton steps are solved by conjugate gradients, which
need products with the Hessian alone. Either way Newton steps go on until the gradient
is at its rounding level.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize
from scipy.sparse import linalg as sparse
from threadpoolctl import threadpool_limits

from natgeo.convex.risk import Risk
from natgeo.convex.separation import explain, runs_off
from natgeo.errors import DataError

# Parameters up to which the Hessian is formed and factorised (128 MiB, 20 GFLOP).
DENSE = 4000
# Parameters below which one thread is best.
_SMALL = 600
# Gradient over the scale of its rounding errors: where to stop trying, what to accept.
AIM, ACCEPT = 1e-15, 1e-12
MOST_STEPS = 100


class Optimum(NamedTuple):
    """A solution and how good it is.

    Attributes:
        theta: coefficients, [p, q].
        residual: largest gradient of a column over the scale of its rounding errors.
        steps: Newton steps taken.
    """

    theta: np.ndarray
    residual: float
    steps: int


def minimize(risk: Risk, start: np.ndarray | None = None) -> Optimum:
    """The minimiser of a risk.

    Args:
        risk: what to minimise.
        start: coefficients to begin from, [p, q]; None for zeros.

    Raises:
        DataError: if there is no optimum or no single one (separable classes,
            collinear columns without a ridge), or if it was not reached.
    """
    theta = np.zeros(risk.shape) if start is None else np.array(start, np.float64)
    # Waiting for one another costs the threads of BLAS more than small products take.
    threads = 1 if risk.parameters < _SMALL else None
    with threadpool_limits(threads, user_api="blas"):
        if risk.parameters > DENSE:
            theta = _approach(risk, theta)
        return _newton(risk, theta)


def residual(risk: Risk, theta: np.ndarray, gradient: np.ndarray) -> float:
    """Largest gradient of a column over the scale of its rounding errors.

    Of each column the norm over the outputs is taken: these are a rotation of logits,
    and no output is exact beyond the rounding of the others.
    """
    size = np.linalg.norm(gradient, axis=1)
    scale = np.linalg.norm(risk.rounding_at(theta), axis=1)
    return float(np.max(np.divide(size, scale, out=size, where=scale > 0)))


def factorize(risk: Risk, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Hessian, [P, P], and its lower Cholesky factor.

    Raises:
        DataError: if it is singular to rounding; says which columns are involved.
    """
    hessian = risk.hessian_at(theta)
    # Scaled to a unit diagonal, so that "singular" does not depend on units.
    spread = np.sqrt(np.diagonal(hessian))
    if not np.all(spread > 0):
        raise DataError(explain(risk, theta))
    try:
        factor = linalg.cholesky(hessian / np.outer(spread, spread), lower=True)
    except linalg.LinAlgError:
        raise DataError(explain(risk, theta)) from None
    if np.min(np.diagonal(factor)) ** 2 < 16 * len(factor) * np.finfo(float).eps:
        raise DataError(explain(risk, theta))
    return hessian, factor * spread[:, None]


def solve(risk: Risk, theta: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hessian^-1 times a vector [P] without the matrix, by conjugate gradients.

    Raises:
        DataError: if the iteration does not converge.
    """
    diagonal = _diagonal(risk, theta)
    shape = (risk.parameters,) * 2

    def times(vector: np.ndarray) -> np.ndarray:
        return risk.product_at(theta, vector.reshape(risk.shape)).ravel()

    solution, failed = sparse.cg(
        sparse.LinearOperator(shape, times, dtype=np.float64),
        right,
        rtol=1e-14,
        maxiter=20 * risk.parameters,
        M=sparse.LinearOperator(shape, lambda v: v.ravel() / diagonal),
    )
    if failed:
        raise DataError(
            f"Conjugate gradients did not solve the {risk.parameters:,} equations of "
            f"a Newton step: the Hessian is nearly singular. Use a larger ridge."
        )
    return solution


def _newton(risk: Risk, theta: np.ndarray) -> Optimum:
    gradient = risk.gradient_at(theta)
    best, shift = Optimum(theta, residual(risk, theta, gradient), 0), 0.0
    for steps in range(1, MOST_STEPS + 1):
        # At least one step: a warm start may be off by less than a residual shows.
        if best.residual <= AIM and steps > 1:
            break
        step = _step(risk, best.theta, gradient)
        moved = _search(risk, best.theta, step, float(np.sum(gradient * step)))
        shift = float(np.max(np.abs(risk.design @ (moved - best.theta))))
        gradient = risk.gradient_at(moved)
        found = Optimum(moved, residual(risk, moved, gradient), steps)
        # Near the optimum the value is flat to rounding and the gradient decides.
        if found.residual >= best.residual and best.residual <= ACCEPT:
            break
        if np.array_equal(moved, best.theta):
            break
        best = found
    if not best.residual <= ACCEPT or runs_off(risk, shift):
        raise DataError(explain(risk, best.theta))
    return best


def _step(risk: Risk, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    if risk.parameters > DENSE:
        return -solve(risk, theta, gradient.ravel()).reshape(risk.shape)
    _, factor = factorize(risk, theta)
    return -linalg.cho_solve((factor, True), gradient.ravel()).reshape(risk.shape)


def _search(
    risk: Risk, theta: np.ndarray, step: np.ndarray, slope: float
) -> np.ndarray:
    """The full step, halved until the risk falls as a convex function must."""
    value = risk.value_at(theta)
    if -slope <= 1e-10 * max(abs(value), np.finfo(float).tiny):
        return theta + step
    size = 1.0
    while size > 1e-12:
        if risk.value_at(theta + size * step) <= value + 1e-4 * size * slope:
            return theta + size * step
        size /= 2
    return theta


def _approach(risk: Risk, theta: np.ndarray) -> np.ndarray:
    """A start near the optimum, for few Newton steps without a matrix."""

    def both(vector: np.ndarray) -> tuple[float, np.ndarray]:
        at = vector.reshape(risk.shape)
        return risk.value_at(at), risk.gradient_at(at).ravel()

    done = optimize.minimize(
        both, theta.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
    )
    return done.x.reshape(risk.shape)


def _diagonal(risk: Risk, theta: np.ndarray) -> np.ndarray:
    """Diagonal of the Hessian, [P]: the preconditioner."""
    u, squares = risk.design @ theta, risk.design**2
    own = np.stack(
        [risk.loss.second(u, e)[:, c] for c, e in enumerate(np.eye(u.shape[1]))], axis=1
    )
    loss = squares.T @ (risk.weights[:, None] * own)
    return (loss + risk.penalty[:, None]).ravel()
