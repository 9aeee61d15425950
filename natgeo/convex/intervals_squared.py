"""Proven influence intervals for squared loss: every order, any radius below 1.

Threat. Every distribution P' of (x, y) within order-2 Wasserstein distance eps of the
training data, where moving z = (x, y) by (dx, dy) costs, in the natural metric of M,

    norm(dx, dy)^2 = dx^T H^-1 dx + (dy - theta^T dx)^2 / rho^2,

with H = E[x x^T] + diag(penalty), rho^2 = E r^2 + theta^T diag(penalty) theta and theta
the optimum (`intervals_ground`). Inputs and labels move, the constant column and the
ridge do not; the two examples that the influence is about are fixed. The model is
retrained on P'.

Retraining in natural coordinates (xi, eta) of `intervals_ground`, where M = I. Let
M' = [N, b; b^T, .] be the perturbed M and beta = N^-1 b. Then for fixed (xi, eta) the
residual after retraining is rho (eta - beta.xi), and H'^-1 is N^-1, so that the
influence I(i, t) = -g_t^T H'^-1 g_i, the derivative of the target's loss in the weight
of example i, is

    I = -rho^2 (eta_t - A) (eta_i - B) C,    A = beta.xi_t, B = beta.xi_i,
    C = xi_t^T N^-1 xi_i = q + D,            q = xi_t.xi_i.

What is reachable. M' = S^2 with S symmetric positive definite and norm_F(S - I) <= eps
(Gelbrich; the ridge is pseudo-data, and letting it move only enlarges the ball).

(1) |beta| <= tau = eps sqrt(2 - eps^2) / (1 - eps^2). For a unit vector x, beta.x =
    -w12 / w11 in the 2x2 compression of M'^-1 to the label axis and x, whose condition
    number is at most chi = tan(pi/4 + a)^2, sin a = eps / sqrt 2. The largest such
    ratio is (chi - 1) / (2 sqrt chi) = tan(2 a) = tau.
(2) N = T^2 with norm_F(T - I) <= eps. The eigenvalues of the compression N interlace
    those of S^2; sorted, the k-th that is below 1 is at least the k-th smallest of
    S^2 and the k-th from the top, if above 1, at most the k-th largest. So C has the
    range of certificates.md, section 3 (`certify.disc`).

**Product.** I lies in the product of the three ranges. Good at every radius.

**Slope and remainder.** Better at small radii. With E = M' - I, E_N and b its blocks,
k = eta_i xi_t + eta_t xi_i,

    (eta_t - A) (eta_i - B) C - eta_t eta_i q = <G, E> + Rem,
    <G, E> = -q b.k - eta_t eta_i xi_t^T E_N xi_i.

<G, E> = 2 E[d^T G v] + E[d^T G d] for displacements d of the data v. By Cauchy and
Schwarz the first part is at most 2 eps sqrt(tr(Pi G M0 G)): M0 = I - B^T B is the
second moment of the data without the ridge, Pi = I - c c^T / |c|^2 takes out the
direction that would move the constant column (c.v is that column's entry, |c|^2 its
M_cc). The second is at most eps^2 (|eta_t eta_i| (n_t n_i + |q|) / 2 + |q| |k| / 2),
n = |xi|. For the rest, b = beta + E_N beta and N^-1 - I = -E_N + E_N N^-1 E_N give

    Rem = q beta^T E_N k + eta_t eta_i xi_t^T E_N N^-1 E_N xi_i + q A B
          - (beta.k) D + A B D.

With X = S - I, x = norm_F of its block on the inputs, y = |X_b|, x^2 + 2 y^2 <= eps^2:

    norm_F(E_N) <= 2 x + eps^2,    |beta| <= 2 g y,   g = (1 + eps / sqrt 2) h,
    |D| <= h norm_F(E_N) s,        h = 1 / (1 - eps)^2 >= ||N^-1||,
    s = sqrt((n_t^2 n_i^2 + q^2) / 2),   |A B| <= |beta|^2 m,   m = (n_t n_i + |q|) / 2

(b = (2 I + X_N + X_00) X_b, and |X_N| + |X_00| <= sqrt 2 eps). So |Rem| is at most

    eps^2 (g^2 c2 + 2 c0 + sqrt((g^2 c2 - 2 c0)^2 + 2 g^2 c1^2))
    + eps^3 ((4 + eps) c0 + sqrt 2 g c1 + g^2 h m s (8 / (3 sqrt 3) + 2 eps)),
    c0 = |eta_t eta_i| h n_t n_i,   c1 = |k| (|q| + h s),   c2 = |q| m,

the largest value of 4 c0 x^2 + 4 g c1 x y + 4 g^2 c2 y^2 plus what eps^2 beside 2 x
adds.

Prediction. The influence on the prediction theta^T x_t itself is rho (eta_i - B) C:
the same with eta_t = 1 and A = 0, k = xi_i, c2 = 0 and no cubic term.

Rounding. All of this is for exact natural coordinates; each enters with the bound of
its error, and each bound is rounded outwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from natgeo.certify import disc
from natgeo.certify.bounds import upward
from natgeo.convex.intervals_ground import Ground, Points
from natgeo.convex.spans import Span

_ONE = Span(np.ones(1), np.ones(1))
# Relative error of any sum of the products below, many times over.
_LOST = 2.0**-44


@dataclass(frozen=True, eq=False)
class Scales:
    """Upper bounds of functions of the radius, named as in the module's docstring."""

    eps: float
    tau: float
    h: float
    g: float

    @classmethod
    def at(cls, eps: float) -> Scales:
        """For a radius; all infinite from 1 on, where nothing is known."""
        if not eps < 1:
            return cls(eps, np.inf, np.inf, np.inf)
        # The differences are rounded once; `upward` covers it away from 1.
        room = (1 - eps) * (1 - 2.0**-50)
        h = float(upward(1 / (room * room)))
        tau = float(upward(eps * np.sqrt(2 - eps * eps) / (room * (1 + eps))))
        return cls(eps, tau, h, float(upward((1 + eps / np.sqrt(2.0)) * h)))


@dataclass(frozen=True, eq=False)
class Explained:
    """A target: its loss, or its prediction.

    Attributes:
        points: exactly one example.
        linear: whether the prediction is explained.
    """

    points: Points
    linear: bool

    @property
    def residuals(self) -> Span:
        """eta_t, or 1."""
        return _ONE if self.linear else self.points.residuals

    def retrained(self, scales: Scales) -> Span:
        """Span of eta_t - A after retraining, or 1."""
        return _ONE if self.linear else residuals_within(self.points, scales)

    def unit(self, ground: Ground) -> Span:
        """What turns the product into the influence: -rho^2, or rho."""
        return ground.scale if self.linear else -(ground.scale * ground.scale)


def influence_at(ground: Ground, target: Explained, examples: Points) -> Span:
    """Spans of the influence on the stored data themselves, [B]."""
    form = target.points.products(examples)
    return target.unit(ground) * (target.residuals * examples.residuals * form)


def by_product(ground: Ground, target: Explained, examples: Points, eps: float) -> Span:
    """The product of the exact ranges of both residuals and of the form, [B]."""
    scales = Scales.at(eps)
    residual = residuals_within(examples, scales)
    q = target.points.products(examples)
    form = form_within(q, target.points, examples, eps)
    return target.unit(ground) * (target.retrained(scales) * residual * form)


def residuals_within(points: Points, scales: Scales) -> Span:
    """Spans of the retrained residuals of fixed examples in units of rho, [B]."""
    with np.errstate(invalid="ignore"):
        room = upward(scales.tau * points.lengths + points.slack)
    return Span.around(points.eta, room)


def form_within(q: Span, target: Points, examples: Points, eps: float) -> Span:
    """Spans of C = xi_t^T N^-1 xi_i over the ball, [B]."""
    norms = upward(target.lengths * examples.lengths)
    return Span(disc.least(q.low, norms, eps), -disc.least(-q.high, norms, eps))


def by_slope(ground: Ground, target: Explained, examples: Points, eps: float) -> Span:
    """The first-order slope with its proven remainder, [B]."""
    slope = first_order(ground, target, examples)
    rest = _remainder(target, examples, Scales.at(eps))
    with np.errstate(invalid="ignore"):
        room = upward(target.unit(ground).size * (eps * slope + rest))
    return influence_at(ground, target, examples) + Span(-room, room)


def first_order(ground: Ground, target: Explained, examples: Points) -> np.ndarray:
    """Upper bounds of the slope 2 sqrt(tr(Pi G M0 G)), without its unit, [B]."""
    q = target.points.products(examples)
    eta_t, eta_i = target.residuals, examples.residuals
    half = Span(np.float64(-0.5), np.float64(-0.5))
    entries = {(0, 2): half * q * eta_t, (1, 2): half * eta_t * eta_i}
    if not target.linear:
        entries[0, 1] = half * q * eta_i
    form = _symmetric(len(examples.eta), entries)
    free, data = grams(ground, target.points, examples)
    return upward(2 * np.sqrt(trace(form, free, form, data)))


def grams(ground: Ground, target: Points, examples: Points) -> tuple[Span, Span]:
    """Grams of (e, xi_t, xi_i) under Pi and under M0, [B, 3, 3] each."""
    count = len(examples.eta)
    one, zero = np.ones(count), np.zeros(count)
    tt = Span.around(*_square(target.xi, target.lengths, target.slack))
    ii = Span.around(*_square(examples.xi, examples.lengths, examples.slack))
    ti = target.products(examples)
    free = _symmetric(
        count,
        {
            (0, 0): Span(one, one),
            (1, 1): tt - _constant_part(ground, target.ones**2),
            (2, 2): ii - _constant_part(ground, examples.ones**2),
            (1, 2): ti - _constant_part(ground, target.ones * examples.ones),
            (0, 1): Span(zero, zero),
            (0, 2): Span(zero, zero),
        },
    )
    e = (ground.theta_held[None], np.array([ground.theta_slack]))
    t = (target.held, target.held_slack)
    i = (examples.held, examples.held_slack)
    data = _symmetric(
        count,
        {
            (0, 0): Span(one, one) - _between(e, e),
            (1, 1): tt - _between(t, t),
            (2, 2): ii - _between(i, i),
            (1, 2): ti - _between(t, i),
            (0, 1): -_between(e, t),
            (0, 2): -_between(e, i),
        },
    )
    return free, data


def trace(left: Span, free: Span, right: Span, data: Span) -> np.ndarray:
    """Upper bounds of tr(left free right data), at least 0; all [B, m, m].

    The trace of the middles, and what their rooms add: the same trace of absolute
    values plus rooms, less that of the absolute values.
    """
    parts = (left, free, right, data)
    middles = [0.5 * (part.low + part.high) for part in parts]
    sizes = [np.abs(middle) for middle in middles]
    grown = [
        upward(part.high - middle + size)
        for part, middle, size in zip(parts, middles, sizes, strict=True)
    ]
    form = "bij,bjk,bkl,bli->b"
    value = np.einsum(form, *middles, optimize=True)
    most = np.einsum(form, *grown, optimize=True)
    rooms = most - np.einsum(form, *sizes, optimize=True)
    return upward(np.maximum(value + rooms + _LOST * most, 0))


def _symmetric(count: int, entries: dict[tuple[int, int], Span]) -> Span:
    """Symmetric matrices [count, m, m] from entries of shape [count] or [1]."""
    size = 1 + max(max(place) for place in entries)
    low, high = np.zeros((2, count, size, size))
    for (row, column), span in entries.items():
        low[:, row, column] = low[:, column, row] = span.low
        high[:, row, column] = high[:, column, row] = span.high
    return Span(low, high)


def _constant_part(ground: Ground, product: np.ndarray) -> Span:
    """Spans of c.v c.w / |c|^2 for entries in the constant column."""
    if not ground.constant:
        return Span(np.zeros_like(product), np.zeros_like(product))
    return Span.around(product / ground.constant, 2.0**-30 * np.abs(product))


def _square(
    rows: np.ndarray, lengths: np.ndarray, slack: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    square = np.einsum("bk,bk->b", rows, rows)
    return square, upward(rows.shape[1] * _LOST * square + 2 * lengths * slack)


def _between(
    left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]
) -> Span:
    """Spans of products of rows [B or 1, p] known within slacks [B or 1]."""
    (a, slack_a), (b, slack_b) = left, right
    size_a, size_b = (np.sqrt(np.square(rows).sum(axis=1)) for rows in (a, b))
    room = (
        a.shape[1] * _LOST * size_a * size_b
        + size_a * slack_b
        + slack_a * size_b
        + slack_a * slack_b
    )
    return Span.around(np.sum(a * b, axis=1), upward(room * (1 + 2.0**-20)))


def _remainder(target: Explained, examples: Points, scales: Scales) -> np.ndarray:
    """Upper bounds of everything beyond 2 E[d^T G v], without its unit, [B]."""
    q = target.points.products(examples)
    n = upward(target.points.lengths * examples.lengths)
    both = target.residuals.size * examples.residuals.size
    k = examples.lengths if target.linear else _combined(target.points, examples, q)
    m, s = (n + q.size) / 2, np.sqrt((n * n + q.size * q.size) / 2)
    c0 = both * scales.h * n
    c1 = k * (q.size + scales.h * s)
    c2 = np.zeros_like(n) if target.linear else q.size * m
    cubic = scales.g**2 * scales.h * m * s * (1.5397 + 2 * scales.eps)
    cubic = np.zeros_like(n) if target.linear else upward(cubic)
    squared = both * m + q.size * k / 2
    return upward(squared * scales.eps**2 + joint(c0, c1, c2, cubic, scales))


def joint(
    c0: np.ndarray,
    c1: np.ndarray,
    c2: np.ndarray,
    cubic: np.ndarray,
    scales: Scales,
) -> np.ndarray:
    """The largest 4 c0 x^2 + 4 g c1 x y + 4 g^2 c2 y^2, and the cubic terms, [B]."""
    eps, g = scales.eps, scales.g
    with np.errstate(over="ignore", invalid="ignore"):
        two = g * g * c2
        # 2^-40 covers the cancelled difference under the root.
        root = np.sqrt((two - 2 * c0) ** 2 + 2 * g * g * c1 * c1)
        quadratic = (two + 2 * c0) * (1 + 2.0**-40) + root
        more = (4 + eps) * c0 + np.sqrt(2.0) * g * c1 + cubic
        return upward(eps**2 * quadratic + eps**3 * more)


def _combined(target: Points, examples: Points, q: Span) -> np.ndarray:
    """Upper bounds of |eta_i xi_t + eta_t xi_i|, [B]."""
    eta_t, eta_i = target.residuals, examples.residuals
    tt, ii = target.lengths**2, examples.lengths**2
    cross = eta_t * eta_i * q
    most = eta_i.size**2 * tt + eta_t.size**2 * ii
    return upward(np.sqrt(np.maximum(most + 2 * cross.high, 0) + 2.0**-40 * most))
