"""How influence reacts to the data, to first order: W-RIF's sensitivity kernel.

Everything here is a first-order statement about small perturbations, named so
throughout. It is NOT a bound at any radius: a worst-case perturbation followed by real
retraining leaves these intervals (certificates.md, section 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from natgeo import checks
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets
from natgeo.errors import ArgumentError

METRICS = ("natural", "euclidean")


@dataclass(frozen=True, eq=False)
class Kernel:
    """Sensitivity S of one influence I(i, t) to the training distribution.

    S(z) is the derivative of I at s = 0 when the training distribution is mixed with
    the point z, (1 - s) P_n + s delta_z, and the model is retrained (certificates.md,
    section 8). The example i and the target t themselves are held fixed. With q_t =
    H^-1 g_t, q_i = H^-1 g_i, and for z = (x, y)

        S(z) = a . grad l(z) + (q_t^T x) . l''(z) (q_i^T x) - mean
        a    = H^-1 (H_t q_i + H_i q_t - sum_j w_j l'''_j[q_t^T x_j, q_i^T x_j] x_j)

    where `mean` makes the weighted mean over the training set zero: -H^-1 (grad l +
    ridge theta) has mean zero at the optimum, and so has the change of the Hessian.

    Attributes:
        model: the fitted model.
        influence: I(i, t), in units of the target's output per unit of weight.
        along: a, [p, q].
        left: q_t, [p, q].
        right: q_i, [p, q].
        mean: what is subtracted.
    """

    model: ConvexModel
    influence: float
    along: np.ndarray
    left: np.ndarray
    right: np.ndarray
    mean: float

    def at(
        self, rows: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """S at design rows [B, p] with labels [B], or at every training example."""
        x, y = self._points(rows, labels)
        return _raw(self.model, self.along, self.left, self.right, x, y) - self.mean

    def slopes(
        self, rows: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient of S in the design row, [B, p], and its slope in the label, [B].

        A class cannot move a little: the slope in its code is zero.
        """
        x, y = self._points(rows, labels)
        loss, theta = self.model.loss, self.model.coefficients
        u, a = x @ theta, x @ self.along
        left, right = x @ self.left, x @ self.right
        through = loss.second(u, a) + loss.third(u, left, right)
        slopes = loss.first(u, y) @ self.along.T + through @ theta.T
        slopes += loss.second(u, right) @ self.left.T
        slopes += loss.second(u, left) @ self.right.T
        labels_slope = -a[:, 0] if self.model.classes is None else np.zeros(len(x))
        return slopes, labels_slope

    def _points(
        self, rows: np.ndarray | None, labels: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if rows is None or labels is None:
            return self.model.design, self.model.labels
        return np.atleast_2d(rows), np.atleast_1d(labels)


def sensitivity_kernel(target: Targets, train: int, *, index: int = 0) -> Kernel:
    """The sensitivity kernel of the influence of one training example on one target.

    Args:
        target: targets, from `targets` or `training_targets`.
        train: which training example, i.
        index: which of the targets, t.

    Raises:
        ArgumentError: for an index out of range, or weights that do not sum to one
            (a model from `refit` with some of them zero).
    """
    model = target.model
    i = checks.index("train", train, len(model.design))
    t = checks.index("index", index, len(target))
    require_distribution(model)
    example = Targets(model, model.design[i : i + 1], model.labels[i : i + 1], "loss")
    return kernel_between(target.take(t), example)


def require_distribution(model: ConvexModel) -> None:
    """Refuses weights that are no distribution.

    Raises:
        ArgumentError: saying what they sum to.
    """
    if not math.isclose(float(np.sum(model.weights)), 1.0, rel_tol=1e-9):
        raise ArgumentError(
            f"The weights of this model sum to {np.sum(model.weights):.6g}: mixing "
            f"or moving distributions needs weights that sum to one."
        )


def kernel_between(one: Targets, example: Targets) -> Kernel:
    """The sensitivity kernel of one example's influence on one target, both fixed."""
    model = one.model
    pulls = np.vstack([one.gradients(), example.gradients()])
    left, right = (v.reshape(model.shape) for v in model.solve(pulls))
    curved = one.rows.T @ one.second(one.rows @ right)
    curved += example.rows.T @ example.second(example.rows @ left)
    x, w = model.design, model.weights[:, None]
    third = model.loss.third(model.predictors, x @ left, x @ right)
    along = model.solve((curved - x.T @ (w * third)).ravel()).reshape(model.shape)
    raw = _raw(model, along, left, right, x, model.labels)
    influence = -float(pulls[0] @ right.ravel())
    return Kernel(model, influence, along, left, right, float(model.weights @ raw))


@dataclass(frozen=True)
class FirstOrder:
    """A first-order half-width of an influence over a ball. Not a certificate.

    Attributes:
        influence: I(i, t).
        half_width: eps times the slope, in units of the influence.
        eps: radius, in units of the metric.
        order: of the Wasserstein distance, 1 or 2.
        metric: the ground metric.
    """

    influence: float
    half_width: float
    eps: float
    order: int
    metric: str

    @property
    def interval(self) -> tuple[float, float]:
        """Influence minus and plus the half-width; left by worst-case retraining."""
        return self.influence - self.half_width, self.influence + self.half_width


def first_order(
    kernel: Kernel,
    eps: float,
    *,
    order: int = 2,
    metric: str = "natural",
    move_labels: bool | None = None,
) -> FirstOrder:
    """First-order half-width of an influence over a Wasserstein ball of radius eps.

        order 1    eps max_j norm(grad S(z_j))             over the training points
        order 2    eps sqrt(sum_j w_j norm(grad S(z_j))^2)     (Bartl et al. 2021)

    Order 1 stands for the Lipschitz constant of S over the support; points between the
    training points may have larger slopes. Norms are dual to the ground metric: a move
    delta of a point costs norm(delta) in units of the design (Euclidean), or
    sqrt(delta^T M^-1 delta) with M the second moments of what moves, x or (x, y), plus
    the ridge of x (natural). The intercept never moves.

    Args:
        kernel: from `sensitivity_kernel`.
        eps: radius >= 0.
        order: 1 or 2.
        metric: "natural" or "euclidean".
        move_labels: whether the labels of squared loss move too, jointly with x (in
            units of y for the Euclidean metric); None for yes. Classes never move.

    Raises:
        ArgumentError: for an unknown order or metric, or a negative radius.
    """
    eps = checks.nonnegative("eps", eps)
    if order not in (1, 2) or isinstance(order, bool):
        raise ArgumentError(f"order={order!r} must be 1 or 2.")
    if metric not in METRICS:
        raise ArgumentError(f"metric={metric!r}: expected one of {', '.join(METRICS)}.")
    model = kernel.model
    joint = model.classes is None and move_labels is not False
    slopes, labels = kernel.slopes()
    if model.scaling.intercept:
        slopes = slopes[:, :-1]
    if joint:
        slopes = np.hstack([slopes, labels[:, None]])
    if metric == "natural":
        squares = np.einsum("nj,nj->n", slopes @ moments(model, joint), slopes)
    else:
        squares = np.einsum("nj,nj->n", slopes, slopes)
    squares = np.maximum(squares, 0.0)
    seen = squares[model.weights > 0]
    slope = np.max(seen) if order == 1 else model.weights @ squares
    width = eps * math.sqrt(float(slope))
    return FirstOrder(kernel.influence, width, eps, order, metric)


def moments(model: ConvexModel, joint: bool) -> np.ndarray:
    """M, [m, m], of the coordinates that may move, given that the intercept does not.

    The dual norm over moves that leave the intercept alone is the Schur complement of
    the intercept in M: the covariance about the mean, plus the ridge.
    """
    points, ridge = model.design, model.penalty
    if model.scaling.intercept:
        points, ridge = points[:, :-1], ridge[:-1]
    if joint:
        points = np.hstack([points, model.labels[:, None]])
        ridge = np.append(ridge, 0.0)
    if model.scaling.intercept:
        points = points - model.weights @ points
    return points.T @ (model.weights[:, None] * points) + np.diag(ridge)


def _raw(
    model: ConvexModel,
    along: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    u = x @ model.coefficients
    pull = np.sum((x @ along) * model.loss.first(u, y), axis=1)
    return pull + np.sum((x @ left) * model.loss.second(u, x @ right), axis=1)
