"""The natural coordinates of a ridge regression, with proven rounding errors.

With z = (x, y), M = E[z z^T] + diag(penalty, 0), H = E[x x^T] + diag(penalty) = L L^T
and rho^2 = E r^2 + theta^T diag(penalty) theta,

    M^-1 = R^T R,     R = [ L^-1, 0 ; -theta^T / rho, 1 / rho ],
    R z = (xi, eta) = (L^-1 x, (y - theta^T x) / rho):

the whitened input, and the residual in units of rho. R as computed is a hint. From the
data, `distortion` bounds K - I, K = R M R^T, in the spectral norm (as in
`natgeo.certify.rounding`, with weights and one ridge for each column).

Frame. The vectors K^(-1/2) R z are exact natural coordinates, and so is any rotation
of them. With ||K - I|| <= d < 1 and kappa = d / (1 - d), ||K^(-1/2) - I|| <= kappa. The
direction of the label is K^(-1/2) R e_y with R e_y = (0, 1 / rho): within an angle of
asin(kappa) of the last axis, so a rotation O with ||O - I|| <= 2 kappa brings it there.
In this frame the exact coordinates of z are within

    (1 + kappa) 2 kappa |R z| + kappa |R z| + (rounding of R z)

of the computed ones: `slack`. The exact rho is between sqrt(1 - d) and sqrt(1 + d)
times the computed one, because 1 / rho^2 = e_y^T M^-1 e_y = |K^(-1/2) R e_y|^2.

What the ridge sees. The second moment of the data alone is I - B^T B in this frame, B =
diag(sqrt penalty) R^T K^(-1/2) O^T, ||B|| <= 1. Against the computed `held` = diag(sqrt
penalty) R^T a, B a' is off by at most slack + sqrt(1 + d) (3 kappa + 2 kappa^2) |a|,
hence by 3 slack, and by the rounding of the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from natgeo.certify import environment
from natgeo.certify.bounds import TINY, U, gamma, norm, row_norms, upward
from natgeo.convex.spans import Span

if TYPE_CHECKING:
    from natgeo.convex.model import ConvexModel

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Points:
    """Examples in natural coordinates.

    Attributes:
        xi: computed whitened inputs, [B, p].
        eta: computed residuals in units of rho, [B].
        held: computed diag(sqrt penalty) R^T (xi, 0), [B, p].
        slack: bounds of the distance of (xi, eta) to the exact one, [B].
        held_slack: bounds of the distance of `held` to the exact B (xi, 0), [B].
        lengths: upper bounds of the exact norm(xi), [B].
        ones: entries in the constant column, exact, [B]; zeros if there is none.
    """

    xi: np.ndarray
    eta: np.ndarray
    held: np.ndarray
    slack: np.ndarray
    held_slack: np.ndarray
    lengths: np.ndarray
    ones: np.ndarray

    def take(self, places: np.ndarray | slice) -> Points:
        """The examples at `places`."""
        return Points(
            self.xi[places],
            self.eta[places],
            self.held[places],
            self.slack[places],
            self.held_slack[places],
            self.lengths[places],
            self.ones[places],
        )

    @property
    def residuals(self) -> Span:
        """Spans of the exact eta, [B]."""
        return Span.around(self.eta, self.slack)

    def products(self, others: Points) -> Span:
        """Spans of the exact xi . xi' of one example with others, [B]."""
        computed = others.xi @ self.xi[0]
        lost = gamma(self.xi.shape[1]) * self.lengths * others.lengths
        moved = self.lengths * others.slack + self.slack * others.lengths
        return Span.around(computed, upward(lost + moved))


@dataclass(frozen=True, eq=False)
class Ground:
    """The natural coordinates of one model and what is proven about them.

    Attributes:
        whitener: R, [p + 1, p + 1].
        distortion: bound d of ||R M R^T - I||; nothing is proven unless d < 1.
        rho: the computed scale of the residuals.
        train: the training examples.
        theta_held: computed diag(sqrt penalty) R^T e, e the last axis, [p].
        theta_slack: bound of its distance to the exact B e.
        constant: upper bound of M_cc for the constant column c, 0 if there is none.
    """

    model: ConvexModel
    whitener: np.ndarray
    distortion: float
    rho: float
    train: Points
    theta_held: np.ndarray
    theta_slack: float
    constant: float

    @property
    def holds(self) -> bool:
        """Whether M is proven positive definite, so that anything is proven."""
        return bool(self.distortion < 1)

    @property
    def scale(self) -> Span:
        """Span of the exact rho: sqrt(1 +- d) is between 1 - d and 1 + d."""
        computed = Span.around(np.float64(self.rho), upward(4 * U * self.rho))
        one = np.float64(1)
        return computed * Span.around(one, np.float64(self.distortion))

    def points(self, rows: np.ndarray, labels: np.ndarray) -> Points:
        """Natural coordinates of other examples: rows [B, p], labels [B]."""
        return _points(self.model, self.whitener, self.distortion, rows, labels)


def ground(model: ConvexModel) -> Ground:
    """Natural coordinates of a model of squared loss, with proven errors.

    Raises:
        UnfitEnvironmentError: if float64 arithmetic is not sound on this machine.
    """
    environment.require_sound_arithmetic()
    theta = model.coefficients[:, 0]
    residuals = model.labels - model.design @ theta
    square = model.weights @ residuals**2 + model.penalty @ theta**2
    rho = float(np.sqrt(max(square, np.finfo(np.float64).tiny)))
    p = len(theta)
    whitener = np.zeros((p + 1, p + 1))
    identity = np.eye(p)
    whitener[:p, :p] = linalg.solve_triangular(model.factor, identity, lower=True)
    whitener[p, :p], whitener[p, p] = -theta / rho, 1 / rho
    with np.errstate(over="ignore", invalid="ignore"):
        distortion = _distortion(model, whitener)
        train = _points(model, whitener, distortion, model.design, model.labels)
    held = np.sqrt(model.penalty) * whitener[p, :p]
    turned = _turned(distortion)
    return Ground(
        model,
        whitener,
        distortion,
        rho,
        train,
        held,
        float(upward(3 * turned + 4 * U * norm(held))),
        _constant(model),
    )


def _turned(distortion: float) -> float:
    """Upper bound of 3 kappa + 2 kappa^2; infinite if nothing is proven."""
    if not distortion < 1:
        return np.inf
    kappa = upward(distortion / (1 - distortion))
    return float(upward((3 + 2 * kappa) * kappa))


def _constant(model: ConvexModel) -> float:
    """M_cc of the constant column, from above; 0 if the design has none."""
    if not constant_column(model):
        return 0.0
    total = float(model.weights.sum() + model.penalty[-1])
    return float(upward(total * (1 + gamma(len(model.weights) + 1))))


def constant_column(model: ConvexModel) -> bool:
    """Whether the last column is the intercept's column of ones."""
    return bool(model.scaling.intercept and np.all(model.design[:, -1] == 1))


def _distortion(model: ConvexModel, whitener: np.ndarray) -> float:
    """Upper bound of ||R M R^T - I||_2; infinite if it is not finite."""
    n, gain = len(model.labels), norm(whitener)
    size = len(whitener)
    total = np.zeros((size, size))
    mass = drift = 0.0
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = np.column_stack([model.design[part], model.labels[part]])
        weights = model.weights[part]
        natural = rows @ whitener.T
        total += (natural * weights[:, None]).T @ natural
        mass += float(upward(weights @ row_norms(natural) ** 2))
        errors = upward(gamma(size) * gain * row_norms(rows))
        drift += float(upward(weights @ errors**2))
    held = whitener[:, :-1] * np.sqrt(model.penalty)
    computed = norm(total + held @ held.T - np.eye(size))
    # Two more roundings for the weight, as many for the root of the penalty.
    lost = gamma(n + 4) * mass + gamma(size + 8) * norm(held) ** 2 + TINY
    first = upward(computed / (1 - 2 * U) + lost + 4 * U * size)
    rho = upward(np.sqrt(drift))
    found = float(upward(first + 2 * rho * np.sqrt(1 + first) + rho * rho))
    return found if np.isfinite(found) else np.inf


def _points(
    model: ConvexModel,
    whitener: np.ndarray,
    distortion: float,
    rows: np.ndarray,
    labels: np.ndarray,
) -> Points:
    both = np.column_stack([rows, labels])
    natural = both @ whitener.T
    rounding = upward(gamma(len(whitener)) * norm(whitener) * row_norms(both))
    sizes = upward(row_norms(natural) + rounding)
    slack = upward(rounding + _turned(distortion) * sizes)
    xi = np.ascontiguousarray(natural[:, :-1])
    lengths = row_norms(xi)
    spread = whitener[:-1, :-1] * np.sqrt(model.penalty)
    lost = upward(gamma(len(whitener) + 4) * norm(spread) * lengths)
    return Points(
        xi,
        natural[:, -1],
        xi @ spread,
        slack,
        upward(3 * slack + lost),
        upward(lengths + slack),
        rows[:, -1] if constant_column(model) else np.zeros(len(rows)),
    )
