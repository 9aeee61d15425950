"""How far retraining can move a logistic model, proven for a whole ball.

Threat. Every distribution within order-2 Wasserstein distance eps of the training data,
where moving the input by d costs norm(d) = sqrt(d^T A^-1 d), A the second moments of
the inputs about the mean plus the ridge (`sensitivity.moments`). Labels and the
constant column stay. d_n is the length of the move of example n; its mass may be split,
and then d_n is one of many. No bounded inputs are assumed: every bound below grows at
most like d_n^2, and E d^2 = sum w_n d_n^2 <= eps^2.

Write h_n for the Hessian of loss n in its linear predictor, sigma_n(a) = sqrt(a^T h_n
a), H for the Hessian of the risk at theta and norm(v)_H = sqrt(v^T H v). Constants:

    X_n    norm(V^T x_n) <= X_n norm(V)_H                   (whitened input)
    c      norm(V^T d)   <= c d_n norm(V)_H                 (A against H)
    alpha  norm(theta^T d) <= alpha d_n                     (steepest predictor)
    k2, k3, k4   bounds of the derivatives of the loss (`losses.Bounds`)
    cs     |third[a, a, b]| <= cs norm(b) second[a, a]: 1, and sqrt 2 for softmax, whose
           third cumulant is at most the variance times the largest deviation

Lower bound of the curvature. At data x_n + move and theta + V, norm(V)_H <= r, the
predictor changes by at most X_n r + T d_n, T = alpha + c r. By the property of cs,
sigma falls by at most the factor exp(-cs change / 2). So by Minkowski's inequality
sqrt(v^T H' v) >= (1 - zeta(r)) norm(v)_H with

    zeta(r) = sqrt(k2) c eps + norm of ((1 - exp(-cs X_n r / 2)) sigma_n)
            + norm of ((1 - exp(-cs T d_n / 2)) sigma_n).

The second norm is the root of a largest eigenvalue. The third is at most the root of
sum l_n min(1, cs T d_n / 2)^2 with the leverages l_n = w_n norm(h_n^1/2 x_n^T H^-1 x_n
h_n^1/2): concave in d_n^2, and largest when moves saturate the largest l_n / w_n first.

The optimum. The gradient of the perturbed risk at theta is at most

    gamma = norm(grad R)_H^-1 + eps (c sqrt(||E l' l'^T||) + alpha sqrt k2)
          + eps^2 (k2 alpha c + k3 alpha^2 max X_n / 2)

in norm. If (1 - zeta(r))^2 r > gamma, the risk grows along every ray out of the ball of
radius r around theta, so its optimum lies inside. The smallest such r found is used.

Rounding. The Hessian is whitened by a computed factor whose distortion is bounded from
the data; sums of at most 2^20 rounded terms are within 2^-30 of the sum of their
absolute values, and every non-negative bound is grown by 2^-20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from natgeo.certify import environment
from natgeo.certify.bounds import norm
from natgeo.certify.spectral import spectral_norm
from natgeo.convex.losses import Multinomial
from natgeo.convex.model import ConvexModel
from natgeo.convex.sensitivity import moments

LOST, GROWN = 2.0**-30, 1 + 2.0**-20
# Of a sum, so that LOST covers its rounding; nothing is proven for more examples.
_MOST_TERMS = 2**20
_ITERATIONS = 60
# Whitened inputs of one block, [P, rows q], hold at most this many numbers.
_BLOCK_NUMBERS = 4_000_000


@dataclass(frozen=True, eq=False)
class Whitened:
    """What does not depend on the radius; every bound is from above.

    Attributes:
        model: of logistic or multinomial loss.
        inverse: computed inverse of the Cholesky factor of H, [P, P].
        loosened: what turns a computed whitened norm into a bound; infinite if H is not
            proven positive definite.
        sizes: X_n, [N].
        leverages: l_n, [N].
        metric: A, [m, m].
        reach: c, for A against H.
        steepness: alpha.
        noise: sqrt(||E l' l'^T||).
        residual: norm(grad R)_H^-1 at the stored coefficients.
        concordance: cs.
    """

    model: ConvexModel
    inverse: np.ndarray
    loosened: float
    sizes: np.ndarray
    leverages: np.ndarray
    metric: np.ndarray
    reach: float
    steepness: float
    noise: float
    residual: float
    concordance: float

    def dual(self, gradient: np.ndarray) -> float:
        """Upper bound of norm(g)_H^-1 of a vector [P] as stored."""
        size = float(np.linalg.norm(self.inverse @ gradient))
        lost = LOST * norm(self.inverse) * float(np.linalg.norm(gradient))
        return (size + lost) * self.loosened

    def input_size(self, rows: np.ndarray) -> np.ndarray:
        """X of design rows [B, p], [B]."""
        return _input_sizes(self.inverse, self.loosened, rows, self.model.loss.outputs)

    def slope_of(self, matrix: np.ndarray) -> float:
        """Upper bound a of norm(V^T d) <= a norm(d) for V [p, q]."""
        free = matrix[: len(self.metric)]
        square = np.linalg.norm(free.T @ self.metric @ free, 2)
        sizes = np.linalg.norm(free) ** 2 * np.linalg.norm(self.metric)
        return float(np.sqrt(square + LOST * sizes) * GROWN)


def whiten(model: ConvexModel) -> Whitened:
    """The constants of a model of logistic or multinomial loss.

    Raises:
        UnfitEnvironmentError: if float64 arithmetic is not sound on this machine.
    """
    environment.require_sound_arithmetic()
    outputs, w = model.loss.outputs, model.weights
    inverse = linalg.solve_triangular(
        model.factor, np.eye(model.parameters), lower=True
    )
    loosened = _loosened(model, inverse)
    sizes = _input_sizes(inverse, loosened, model.design, outputs)
    curvature = _largest_curvature(model)
    metric = moments(model, False)
    spread = np.zeros((model.design.shape[1],) * 2)
    spread[: len(metric), : len(metric)] = metric
    first = model.loss.first(model.predictors, model.labels)
    found = Whitened(
        model,
        inverse,
        loosened,
        sizes,
        np.minimum(w * curvature * sizes**2, 1.0) * GROWN,
        metric,
        math.sqrt(_relative(inverse, loosened, np.kron(spread, np.eye(outputs)))),
        0.0,
        float(np.sqrt(np.linalg.norm((first.T * w) @ first, 2)) * GROWN + LOST),
        0.0,
        math.sqrt(2) if isinstance(model.loss, Multinomial) else 1.0,
    )
    gradient = model.gradient_at(model.coefficients)
    lost = LOST * float(np.linalg.norm(model.rounding_at(model.coefficients)))
    residual = found.dual(gradient.ravel()) + lost * norm(inverse) * loosened
    steepness = found.slope_of(model.coefficients)
    return Whitened(**{**found.__dict__, "steepness": steepness, "residual": residual})


@dataclass(frozen=True, eq=False)
class Stability:
    """What retraining can do within a radius.

    Attributes:
        about: the constants of the model.
        eps: radius.
        shift: r, a bound of norm(theta' - theta)_H; infinite if nothing is proven.
        floor: 1 / (1 - zeta)^2, so that H'^-1 <= floor H^-1; infinite likewise.
    """

    about: Whitened
    eps: float
    shift: float
    floor: float

    def once(self, rest: np.ndarray | float) -> float:
        """Upper bound of E[rest_n d_n] over all moves; rest is [N], not negative."""
        w = self.about.model.weights
        squares = np.broadcast_to(np.square(rest), w.shape)
        return self.eps * float(np.sqrt(w @ squares)) * GROWN

    def twice(self, rest: np.ndarray | float) -> float:
        """Upper bound of E[rest_n d_n^2] over all moves."""
        return self.eps**2 * float(np.max(rest)) * GROWN


def stability(about: Whitened, eps: float) -> Stability:
    """The smallest proven shift of the optimum over a ball of radius eps."""
    bounds = about.model.loss.bounds
    alpha, c = about.steepness, about.reach
    largest = float(np.max(about.sizes))
    force = about.residual + eps * (c * about.noise + alpha * math.sqrt(bounds.second))
    force += eps**2 * bounds.second * alpha * c
    force += eps**2 * bounds.third * alpha**2 * largest / 2
    force *= GROWN
    shift = force
    for _ in range(_ITERATIONS):
        zeta = _zeta(about, eps, shift)
        if not zeta < 1:
            break
        if ((1 - zeta) ** 2 * shift > force * GROWN) is True:
            return Stability(about, eps, shift, GROWN / (1 - zeta) ** 2)
        shift = max(force / (1 - zeta) ** 2, shift) * (1 + 2.0**-6)
    return Stability(about, eps, math.inf, math.inf)


def _zeta(about: Whitened, eps: float, shift: float) -> float:
    model, w = about.model, about.model.weights
    cs, steep = about.concordance, about.steepness + about.reach * shift
    lost = -np.expm1(-cs * about.sizes * shift / 2)
    falls = model.loss.curvature(model.design, w * lost**2, model.predictors)
    second = math.sqrt(_relative(about.inverse, about.loosened, falls))
    third = math.sqrt(_saturated(about, (cs * steep / 2) ** 2, eps))
    first = math.sqrt(model.loss.bounds.second) * about.reach * eps
    return float((first + second + third) * GROWN)


def _saturated(about: Whitened, rate: float, eps: float) -> float:
    """The most of sum l_n min(1, rate d_n^2) with sum w_n d_n^2 <= eps^2."""
    w = about.model.weights
    used = w > 0
    share = about.leverages[used] / w[used]
    order = np.argsort(-share)
    cost = np.cumsum(w[used][order]) / rate
    gain = np.cumsum(about.leverages[used][order])
    full = int(np.searchsorted(cost, eps**2, side="right"))
    if full == len(cost):
        return float(gain[-1])
    paid, had = (cost[full - 1], gain[full - 1]) if full else (0.0, 0.0)
    return float(had + (eps**2 - paid) * rate * share[order][full]) * GROWN


def _largest_curvature(model: ConvexModel) -> np.ndarray:
    """Upper bounds of the largest eigenvalue of each h_n, [N]: its trace."""
    units = np.eye(model.loss.outputs)
    trace = sum(model.loss.second(model.predictors, unit) @ unit for unit in units)
    return np.minimum(np.asarray(trace) * GROWN + LOST, model.loss.bounds.second)


def _loosened(model: ConvexModel, inverse: np.ndarray) -> float:
    """1 / sqrt(1 - d) with d the distortion of the whitened Hessian."""
    x, w = model.design, model.weights
    outputs = model.loss.outputs
    mass = model.loss.bounds.second * outputs * float(w @ np.square(x).sum(axis=1))
    mass += outputs * float(model.penalty.sum())
    if len(x) > _MOST_TERMS:
        return math.inf
    computed = inverse @ model.hessian @ inverse.T - np.eye(model.parameters)
    distortion = (norm(computed) + LOST * norm(inverse) ** 2 * mass) * GROWN
    return GROWN / math.sqrt(1 - distortion) if distortion < 1 else math.inf


def _relative(inverse: np.ndarray, loosened: float, matrix: np.ndarray) -> float:
    """Upper bound of the largest eigenvalue of a form relative to H."""
    if not math.isfinite(loosened):
        return math.inf
    found = spectral_norm(inverse @ matrix @ inverse.T)
    lost = LOST * norm(inverse) ** 2 * norm(matrix)
    return float((found + lost) * loosened**2 * GROWN)


def _input_sizes(
    inverse: np.ndarray, loosened: float, rows: np.ndarray, outputs: int
) -> np.ndarray:
    """X_n: the largest singular value of the whitened x_n (kron) I, [B]."""
    parameters = len(inverse)
    blocks = inverse.reshape(parameters, rows.shape[1], outputs)
    step = max(_BLOCK_NUMBERS // (parameters * outputs), 1)
    found = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        white = np.einsum("kpq,np->nkq", blocks, part, optimize=True)
        gram = np.einsum("nkq,nkr->nqr", white, white, optimize=True)
        largest = np.linalg.eigvalsh(gram)[:, -1]
        # Backward stable: off by far less than 2^-30 of the trace.
        largest = np.maximum(largest, 0) + LOST * np.trace(gram, axis1=1, axis2=2)
        lost = LOST * norm(inverse) * np.linalg.norm(part, axis=1)
        found.append((np.sqrt(largest) + lost) * loosened)
    return np.concatenate(found) * GROWN
