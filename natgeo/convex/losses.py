"""Losses of a linear predictor and their derivatives, in float64 NumPy.

Every loss is a convex function l(u, y) of the linear predictor u = coefficients^T x,
[N, q]: one number (q = 1) for squared and logistic loss, C - 1 numbers for C classes.
Derivatives are those in u. `bounds` are the largest values that they take anywhere, in
the operator norm of the symmetric form: what proofs over bounded inputs need.

The softmax of C classes has one direction that changes no probability: the same number
added to every logit. It is taken out by an isometry: the logits are s = V u with V, [C,
C - 1], an orthonormal basis of the vectors that sum to zero. Because V is orthonormal,
the ridge on u's coefficients equals the ridge on all C columns of logit coefficients,
whose optimum sums to zero over the classes anyway: the gradient of every loss does, so
ridge times the sum of the coefficients is zero at the optimum. An intercept without a
ridge is thereby fixed too (its logits sum to zero), and no class is a reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Rows whose class-by-column products are held at once when a Hessian is summed.
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Bounds:
    """Largest derivatives of a loss in the predictor, over all u and all labels.

    Attributes:
        first: of norm(gradient); infinite for squared loss.
        second: of the largest eigenvalue of the Hessian.
        third: of |T(a, b, c)| over unit vectors, T the third derivative.
        fourth: likewise for the fourth derivative.
    """

    first: float
    second: float
    third: float
    fourth: float


@dataclass(frozen=True)
class Squared:
    """Half the squared residual, l = (u - y)^2 / 2."""

    name = "squared"
    outputs = 1
    bounds = Bounds(first=math.inf, second=1.0, third=0.0, fourth=0.0)

    def value(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss of every row, [N]; u is [N, 1], y is [N]."""
        return 0.5 * (u[:, 0] - y) ** 2

    def first(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Gradient in u, the residual u - y, [N, 1]."""
        return u - y[:, None]

    def second(self, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Hessian in u times a, [N, 1]: a itself."""
        return np.broadcast_to(a, np.broadcast_shapes(u.shape, a.shape))

    def third(self, u: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Third derivative in u along a and b, [N, 1]: zero."""
        return np.zeros_like(u)

    def curvature(
        self, design: np.ndarray, weights: np.ndarray, u: np.ndarray
    ) -> np.ndarray:
        """Weighted sum of Hessians in the coefficients, [p, p]."""
        return _gram(design, weights)


@dataclass(frozen=True)
class Logistic:
    """Two classes, l = log(1 + exp(-s u)) with s = -1 for code 0 and 1 for code 1."""

    name = "logistic"
    outputs = 1
    # The derivatives of the sigmoid at its stationary points.
    bounds = Bounds(first=1.0, second=1 / 4, third=1 / (6 * math.sqrt(3)), fourth=1 / 8)

    def value(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss of every row, [N]; u is [N, 1], y is [N] with codes 0 and 1."""
        return np.logaddexp(0.0, -_signs(y) * u[:, 0])

    def first(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Gradient in u, -s sigmoid(-s u), [N, 1]; tiny ones keep their digits."""
        s = _signs(y)[:, None]
        return -s * _sigmoid(-s * u)

    def second(self, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Hessian in u times a, sigmoid(u) sigmoid(-u) a, [N, 1]."""
        return _sigmoid(u) * _sigmoid(-u) * a

    def third(self, u: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Third derivative along a and b, -sigmoid(u) sigmoid(-u) tanh(u/2) a b."""
        return -_sigmoid(u) * _sigmoid(-u) * np.tanh(0.5 * u) * a * b

    def curvature(
        self, design: np.ndarray, weights: np.ndarray, u: np.ndarray
    ) -> np.ndarray:
        """Weighted sum of Hessians in the coefficients, [p, p]."""
        return _gram(design, weights * self.second(u, np.ones_like(u))[:, 0])

    def probabilities(self, u: np.ndarray) -> np.ndarray:
        """Probability of each of the two classes, [N, 2]."""
        return np.hstack([_sigmoid(-u), _sigmoid(u)])


@dataclass(frozen=True)
class Multinomial:
    """Softmax cross-entropy of C classes, l = log sum exp(s) - s_y, with s = V u.

    With p = softmax(s), E and Cov under p, and every direction read as logits V a:

        gradient             V^T (p - e_y)
        Hessian a            V^T p (a - E a)
        third derivative     V^T p ((a - E a)(b - E b) - Cov(a, b))

    Bounds: these forms are the second, third and fourth cumulant of a variable under p
    whose values, a unit vector that sums to zero, span at most sqrt(2) =: L. A
    symmetric form reaches its norm on the diagonal (Banach), the variance is at most
    L^2/4, the third central moment is extreme on two points, L^3 / (6 sqrt 3), and the
    fourth cumulant lies between -2 Var^2 >= -L^4/8 and L^2 Var - 3 Var^2 <= L^4/12.

    Attributes:
        classes: C, at least two.
    """

    classes: int
    name = "multinomial"
    bounds = Bounds(
        first=math.sqrt(2),
        second=1 / 2,
        third=math.sqrt(2) / (3 * math.sqrt(3)),
        fourth=1 / 2,
    )

    @property
    def outputs(self) -> int:
        """Dimension of the linear predictor, C - 1."""
        return self.classes - 1

    @cached_property
    def basis(self) -> np.ndarray:
        """V, [C, C - 1]: orthonormal columns that sum to zero (Helmert)."""
        basis = np.zeros((self.classes, self.classes - 1))
        for k in range(1, self.classes):
            basis[:k, k - 1] = 1 / math.sqrt(k * (k + 1))
            basis[k, k - 1] = -k / math.sqrt(k * (k + 1))
        return basis

    def value(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss of every row, [N]; u is [N, C - 1], y is [N] with codes 0 to C - 1."""
        s = u @ self.basis.T
        gaps = s - s[np.arange(len(s)), y][:, None]
        top = np.max(gaps, axis=1)
        rest = np.exp(gaps - top[:, None])
        # The largest term is an exact one: what is added to it goes through log1p.
        rest[np.arange(len(s)), np.argmax(gaps, axis=1)] = 0.0
        return top + np.log1p(rest.sum(axis=1))

    def first(self, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Gradient in u, [N, C - 1]: tiny ones keep their digits."""
        errors = self.probabilities(u)
        rows = np.arange(len(u))
        # p_y - 1 as minus the sum of the others: no cancellation.
        errors[rows, y] = 0.0
        errors[rows, y] = -errors.sum(axis=1)
        return errors @ self.basis

    def second(self, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Hessian in u times a, [N, C - 1]."""
        p, (a,) = self._centered(u, a)
        return (p * a) @ self.basis

    def third(self, u: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Third derivative in u along a and b, [N, C - 1]."""
        p, (a, b) = self._centered(u, a, b)
        product = a * b
        return (p * (product - _mean(p, product))) @ self.basis

    def curvature(
        self, design: np.ndarray, weights: np.ndarray, u: np.ndarray
    ) -> np.ndarray:
        """Weighted sum of Hessians in the coefficients, [p (C-1), p (C-1)].

        The Hessian in logits is diag(p) - p p^T. With Z the products of every column
        and every probability, [N, p C], its sum is a block diagonal less one Gram
        matrix Z^T diag(weights) Z.
        """
        columns, classes = design.shape[1], self.classes
        total = np.zeros((columns * classes, columns * classes))
        blocks = total.reshape(columns, classes, columns, classes)
        same = np.arange(classes)
        for start in range(0, len(u), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            x, w, p = design[part], weights[part], self.probabilities(u[part])
            products = (x[:, :, None] * p[:, None, :]).reshape(len(x), -1)
            diagonal = (products.T @ (w[:, None] * x)).reshape(columns, classes, -1)
            total -= _gram(products, w)
            # Axes that are indexed together come first: [C, p, p].
            blocks[:, same, :, same] += diagonal.transpose(1, 0, 2)
        reduced = np.einsum(
            "jckd,ce,df->jekf", blocks, self.basis, self.basis, optimize=True
        )
        return reduced.reshape(columns * self.outputs, -1)

    def probabilities(self, u: np.ndarray) -> np.ndarray:
        """Softmax of the logits V u, [N, C]."""
        s = u @ self.basis.T
        e = np.exp(s - s.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def _centered(
        self, u: np.ndarray, *directions: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        p = self.probabilities(u)
        logits = [np.broadcast_to(a, u.shape) @ self.basis.T for a in directions]
        # Centred twice: the first mean carries the rounding of large logits.
        for _ in range(2):
            logits = [s - _mean(p, s) for s in logits]
        return p, logits


Loss = Squared | Logistic | Multinomial


def _mean(p: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.sum(p * values, axis=1, keepdims=True)


def _gram(design: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # The product of a matrix with its own transpose is symmetric and half the work.
    scaled = np.sqrt(weights)[:, None] * design
    return scaled.T @ scaled


def _signs(y: np.ndarray) -> np.ndarray:
    return 2.0 * y - 1.0


def _sigmoid(u: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-u)) with a small relative error everywhere."""
    e = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, e) / (1.0 + e)
