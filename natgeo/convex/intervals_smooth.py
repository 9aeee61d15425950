"""Proven influence intervals for logistic and multinomial loss, at small radii.

The threat and all constants are those of `stability`: the retrained theta' is within r
of theta in the norm of H, and H'^-1 <= f H^-1. Let a = g_t and b = g_i be the gradients
of target and example at theta, p, s, l computed solutions of H p = a, H s = b, H l = k,

    k = H_t s + H_i p - sum_n w_n third_n[p^T x_n, s^T x_n] x_n.

Primes mark the retrained model. For any p and s,

    a'^T H'^-1 b' = p.b' + s.a' - p^T H' s + u^T H'^-1 v,   u = a' - H' p, v = b' - H' s

(multiply out). With a' = a + H_t Delta + rho_a and so on, and with H Delta = - grad
R'(theta) - (H~ - H) Delta, H~ the mean Hessian of the perturbed risk on the way,

    a'^T H'^-1 b' - (p.b + s.a - p^T H s) = (E' - E) S + Rem,
    S(x) = -(l^T x).l'(theta^T x) - (p^T x)^T h (s^T x),

the sensitivity kernel itself, as a function of the moved inputs with theta fixed: so
the first order is exact, eps sqrt(E norm(grad S)^2), and its second order in the moves
is bounded by Taylor's formula with k2, k3, k4. The rest, term by term (Y_n stands for
norm(Y^T x_n), Y for p, s, l, and y for its slope, norm(Y^T d) <= y d_n):

* l^T (H~ - H) Delta <= r C(l), with C(y) >= norm((H' - H) y)_H^-1 for every H' there:
  C(y) = E[ k2 c d Y + sqrt(k2) y d + k3 (X r + T d) X y d + k2 c y d^2 + k3 T X Y d ]
  and, for some examples E[ k3 X^2 r Y ], for the others the self-concordant form
  sqrt(E (exp(cs X r) - 1)^2 sigma(Y)^2), whichever is smaller.
* s.rho_a <= k3 X_t^2 r^2 S_t / 2, and p.rho_b likewise; or with cs norm(h_t) exp(cs
  X_t r) for k3, by self-concordance.
* p^T (H'(theta') - H'(theta)) s - its first order in Delta:
  with B = h at theta' less h at theta, both at the moved input,
  P B S: E[P S (k3 c r d + k4 X^2 r^2 / 2 + k4 alpha r X d)] (B against third at x_n),
  the crossed terms: k3 r E[(p S + s P) (X d + c d^2)],
  both moved: p s E[k3 X r d^2 + k2 d^2], since norm(B) <= k3 X r + min(k2, k3 c r d).
* u^T H'^-1 v <= f norm(u) norm(v), norm(u) <= k2 X_t^2 r + C(p), and for v likewise;
  or with norm(h_t) (exp(cs X_t r) - 1) / (cs X_t r) for k2.
* What solving in floating point left: norms of a - H p, b - H s, k - H l.

E[f d] <= eps sqrt(E f^2) and E[f d^2] <= eps^2 max f. No bounded inputs are assumed.
Where a bound is infinite the interval is vacuous.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import norm
from natgeo.convex.outputs import Targets
from natgeo.convex.sensitivity import Kernel, kernel_between
from natgeo.convex.stability import GROWN, LOST, Stability

# Times LOST: more than the absolute error of a computed derivative of a loss.
_FLOOR = 2.0**-8


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector of parameters against the data.

    Attributes:
        matrix: Y, [p, q].
        along: Y^T x_n, [N, q].
        sizes: norm(Y^T x_n), [N].
        slope: y, with norm(Y^T d) <= y norm(d).
        curved: sqrt((Y^T x_n)^T h_n (Y^T x_n)), [N].
    """

    matrix: np.ndarray
    along: np.ndarray
    sizes: np.ndarray
    slope: float
    curved: np.ndarray


@dataclass(frozen=True, eq=False)
class Bounded:
    """One influence over the ball: |I' - influence - (first order)| <= rest.

    Attributes:
        influence: on the data as they are, as computed.
        width: upper bound of eps sqrt(E norm(grad S)^2), the most of the first order.
        rest: bound of everything else, rounding included; infinite if vacuous.
        field: grad S at the training examples, in the coordinates that move, [N, m].
    """

    influence: float
    width: float
    rest: float
    field: np.ndarray

    @property
    def ends(self) -> tuple[float, float]:
        """Proven ends of the influence; infinite if vacuous."""
        room = (self.width + self.rest) * GROWN
        return self.influence - room, self.influence + room


def bounded(known: Stability, one: Targets, example: Targets) -> Bounded:
    """Bounds I(i, t) = -a'^T H'^-1 b' over the ball.

    Args:
        known: from `stability.stability`.
        one: one target with output "loss".
        example: the training example, as a target with output "loss".
    """
    kernel = kernel_between(one, example)
    field = kernel.slopes()[0][:, : len(known.about.metric)]
    base, lost = _base(known, kernel, one, example)
    rest = math.inf
    if math.isfinite(known.shift):
        with np.errstate(over="ignore", invalid="ignore"):
            rest = (lost + _rest(known, kernel, one, example)) * GROWN
    # NaN, where infinities met, is no bound either.
    rest = rest if math.isfinite(rest) else math.inf
    return Bounded(-base, known.eps * _slope(known, field), rest, field)


def _base(
    known: Stability, kernel: Kernel, one: Targets, example: Targets
) -> tuple[float, float]:
    """p.b + s.a - p^T H s as computed, and what rounding may have lost.

    Includes l.grad R, zero but for rounding.
    """
    model = known.about.model
    a, b = one.gradients()[0], example.gradients()[0]
    p, s = kernel.left.ravel(), kernel.right.ravel()
    product = model.product(s)
    value = float(p @ b + s @ a - p @ product)
    # Gradients are relatively exact, or off by a few roundings of a probability.
    size_a, size_b = (
        norm(g) + _FLOOR * norm(x) for g, x in ((a, one.rows), (b, example.rows))
    )
    scale = norm(p) * size_b + norm(s) * size_a
    scale += norm(p) * norm(s) * _mass(known)
    pull = known.about.residual * _size(known, kernel.along)
    return value, LOST * scale + pull


def _mass(known: Stability) -> float:
    """Upper bound of the norm of H and of its sum of absolute terms."""
    model = known.about.model
    outputs, squares = model.loss.outputs, np.square(model.design).sum(axis=1)
    mass = model.loss.bounds.second * float(model.weights @ squares)
    return (mass + float(model.penalty.max())) * outputs * GROWN


def _size(known: Stability, matrix: np.ndarray) -> float:
    """Upper bound of norm(Y)_H."""
    product = known.about.model.product(matrix.ravel())
    lost = LOST * _mass(known) * norm(matrix) * norm(known.about.inverse)
    return known.about.dual(product) + lost * known.about.loosened


def _slope(known: Stability, field: np.ndarray) -> float:
    """Upper bound of sqrt(E norm(grad S)^2): the first-order slope."""
    metric, w = known.about.metric, known.about.model.weights
    squares = np.einsum("nj,nj->n", field @ metric, field)
    lost = LOST * np.square(field).sum(axis=1) * norm(metric)
    return float(np.sqrt(w @ (np.abs(squares) + lost)) * GROWN)


def _direction(known: Stability, matrix: np.ndarray) -> Direction:
    model = known.about.model
    along = model.design @ matrix
    lost = LOST * np.linalg.norm(model.design, axis=1) * norm(matrix)
    second = model.loss.second(model.predictors, along)
    curved = np.maximum(np.sum(along * second, axis=1), 0)
    return Direction(
        matrix,
        along,
        (np.linalg.norm(along, axis=1) + lost) * GROWN,
        known.about.slope_of(matrix),
        (np.sqrt(curved) + lost) * GROWN,
    )


def _rest(known: Stability, kernel: Kernel, one: Targets, example: Targets) -> float:
    """Upper bound of everything beyond the first order."""
    about, r = known.about, known.shift
    p, s, l = (  # noqa: E741
        _direction(known, matrix)
        for matrix in (kernel.left, kernel.right, kernel.along)
    )
    x_t, x_i = about.input_size(np.vstack([one.rows, example.rows]))
    s_t = float(np.linalg.norm(one.rows @ kernel.right)) * GROWN
    p_i = float(np.linalg.norm(example.rows @ kernel.left)) * GROWN
    left_u, left_v, left_l = _leftovers(known, kernel, one, example)
    turn_t, bend_t = _turned(known, one, x_t * r)
    turn_i, bend_i = _turned(known, example, x_i * r)
    u = x_t * turn_t + _changed(known, p) + left_u
    v = x_i * turn_i + _changed(known, s) + left_v
    total = r * (_changed(known, l) + left_l) + known.floor * u * v
    total += bend_t * s_t + bend_i * p_i
    return float(total + _third(known, p, s) + _moved_kernel(known, p, s, l)) * GROWN


def _turned(known: Stability, example: Targets, change: float) -> tuple[float, float]:
    """How far l' of one example turns, and how far beyond h times the change.

    When its predictor changes by at most `change`: by the global bounds, or by
    self-concordance, |h(u + w)| <= |h(u)| exp(cs norm(w)), whichever is smaller.
    """
    loss, cs = known.about.model.loss, known.about.concordance
    predictor = example.rows @ known.about.model.coefficients
    units = np.eye(loss.outputs)
    trace = sum(float(loss.second(predictor, unit)[0] @ unit) for unit in units)
    own = trace * GROWN + LOST * _FLOOR
    z = min(cs * change, 700.0)
    first = min(loss.bounds.second, own * (math.expm1(z) / z if z else 1.0))
    second = min(loss.bounds.third, own * cs * math.exp(z))
    return first * change * GROWN, second * change**2 / 2 * GROWN


def _changed(known: Stability, y: Direction) -> float:
    """C(y): upper bound of norm((H' - H) y)_H^-1 for every reachable H'."""
    about, r = known.about, known.shift
    bounds, x = about.model.loss.bounds, about.sizes
    k2, k3, c = bounds.second, bounds.third, about.reach
    steep = about.steepness + c * r
    total = known.once(k2 * c * y.sizes) + known.once(math.sqrt(k2) * y.slope)
    total += known.once(k3 * x * (x * r * y.slope + steep * y.sizes))
    total += known.twice((k3 * steep * x + k2 * c) * y.slope)
    # Self-concordant where that is the smaller bound, third derivative elsewhere.
    growth = np.expm1(np.minimum(about.concordance * x * r, 700.0)) * y.curved
    plain = np.minimum(k3 * x * r, k2) * y.sizes * x
    w = about.model.weights
    easy = growth <= plain
    total += float(np.sqrt(w @ np.where(easy, growth, 0.0) ** 2))
    total += float(w @ np.where(easy, 0.0, plain))
    return total * GROWN


def _third(known: Stability, p: Direction, s: Direction) -> float:
    """p^T (H'(theta') - H'(theta)) s beyond third[p, s] . Delta."""
    about, r = known.about, known.shift
    bounds, x = about.model.loss.bounds, about.sizes
    k2, k3, k4 = bounds.second, bounds.third, bounds.fourth
    both, c = p.sizes * s.sizes, about.reach
    crossed = p.slope * s.sizes + s.slope * p.sizes
    total = float(about.model.weights @ (both * x**2)) * k4 * r**2 / 2
    total += known.once(r * both * (k3 * c + k4 * about.steepness * x))
    total += known.once(k3 * r * x * crossed)
    return (
        total
        + known.twice(k3 * c * r * crossed + p.slope * s.slope * (k3 * x * r + k2))
    ) * GROWN


def _moved_kernel(known: Stability, p: Direction, s: Direction, l: Direction) -> float:  # noqa: E741
    """(E' - E) S beyond its first order in the moves."""
    about = known.about
    bounds, alpha = about.model.loss.bounds, about.steepness
    k2, k3, k4 = bounds.second, bounds.third, bounds.fourth
    each = alpha * (
        alpha * (k3 * l.sizes + k4 * p.sizes * s.sizes) / 2
        + k3 * (p.slope * s.sizes + s.slope * p.sizes)
        + k2 * l.slope
    )
    return known.twice(each + k2 * p.slope * s.slope)


def _leftovers(
    known: Stability, kernel: Kernel, one: Targets, example: Targets
) -> tuple[float, float, float]:
    """Norms of a - H p, b - H s and k - H l, rounding of the products included."""
    about, model = known.about, known.about.model
    x, w = model.design, model.weights[:, None]
    third = model.loss.third(model.predictors, x @ kernel.left, x @ kernel.right)
    curved = one.rows.T @ one.second(one.rows @ kernel.right)
    curved += example.rows.T @ example.second(example.rows @ kernel.left)
    wanted = (
        one.gradients()[0],
        example.gradients()[0],
        (curved - x.T @ (w * third)).ravel(),
    )
    found = []
    for vector, solved in zip(
        wanted, (kernel.left, kernel.right, kernel.along), strict=True
    ):
        left = vector - model.product(solved.ravel())
        scale = norm(vector) + _mass(known) * norm(solved)
        scale += _FLOOR * (norm(one.rows) + norm(example.rows))
        lost = LOST * scale * norm(about.inverse) * about.loosened
        found.append(about.dual(left) + lost)
    return found[0], found[1], found[2]
