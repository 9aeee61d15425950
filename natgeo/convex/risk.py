"""The regularised empirical risk of a convex model, and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from natgeo.convex.losses import Loss


@dataclass(frozen=True, eq=False)
class Risk:
    """The risk of a linear predictor u_i = theta^T x_i (certificates.md, section 8).

        R(theta) = sum_i weights_i l(theta^T x_i, y_i) + 1/2 sum_jc penalty_j theta_jc^2

    theta is [p, q]; as a vector of P = p q parameters it is read row by row, so that
    the gradient of one example's loss is the Kronecker product of x and dl/du.

    Attributes:
        loss: l, with q outputs.
        design: x, [N, p], float64; an intercept is a last column of ones.
        labels: y, [N]: float64 for squared loss, else integer codes.
        weights: [N], not negative; they sum to one after `fit`.
        penalty: ridge of every column, [p], not negative; zero for the intercept.
    """

    loss: Loss
    design: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    penalty: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Shape [p, q] of the coefficients."""
        return self.design.shape[1], self.loss.outputs

    @property
    def parameters(self) -> int:
        """Number P = p q of parameters."""
        return self.design.shape[1] * self.loss.outputs

    def value_at(self, theta: np.ndarray) -> float:
        """R(theta), in units of the loss; theta is [p, q]."""
        losses = self.loss.value(self.design @ theta, self.labels)
        ridge = 0.5 * np.sum(self.penalty[:, None] * theta**2)
        return float(self.weights @ losses + ridge)

    def gradient_at(self, theta: np.ndarray) -> np.ndarray:
        """Gradient of R, [p, q]."""
        first = self.loss.first(self.design @ theta, self.labels)
        ridge = self.penalty[:, None] * theta
        return self.design.T @ (self.weights[:, None] * first) + ridge

    def rounding_at(self, theta: np.ndarray) -> np.ndarray:
        """Scale of the rounding errors of `gradient_at`, [p, q].

        The sum of the absolute values of everything that is added up, the rounding of
        the predictor included: times the unit roundoff, what cannot be told from zero.
        """
        x, w = np.abs(self.design), self.weights[:, None]
        u = self.design @ theta
        first = np.abs(self.loss.first(u, self.labels))
        slope = np.abs(self.loss.second(u, x @ np.abs(theta)))
        return x.T @ (w * (first + slope)) + self.penalty[:, None] * np.abs(theta)

    def hessian_at(self, theta: np.ndarray) -> np.ndarray:
        """Hessian of R, [P, P]."""
        total = self.loss.curvature(self.design, self.weights, self.design @ theta)
        total[np.diag_indices_from(total)] += np.repeat(self.penalty, self.loss.outputs)
        return total

    def product_at(self, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Hessian of R times a direction, both [p, q], without the matrix."""
        second = self.loss.second(self.design @ theta, self.design @ direction)
        ridge = self.penalty[:, None] * direction
        return self.design.T @ (self.weights[:, None] * second) + ridge
