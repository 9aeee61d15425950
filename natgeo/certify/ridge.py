"""The tighter order-2 bound under a positive ridge: the ridge part does not move.

The closed form c > kappa(eps) lets an adversary move the ridge as well. Here he moves
the data only. It is never used alone: a statement is proven by either bound, and at
ridge 0 the closed form is exact.

**Theorem.** Let A be the second moment of the training data in natural coordinates, so
that I - A is the part of the ridge and 0 <= A <= I. For u, v with natural cosine c > 0
let a_x^2 = x^T A x / x^T x and y = a_u^2 + a_v^2 <= 2. The statement u^T M v > 0 holds
on the whole order-2 natural ball of radius eps < 1 if c > kappa(eps), or if

    c > T(eps, y) = eps sqrt(y) + eps^2 (h t + g y),
    h = (1 + kappa(eps)) / 2,   t = 1 / (1 - eps),   g = t^2 - 1/2.

**Proof.** Let B = A^(1/2). By Gelbrich's bound the reachable M^-1 are
N = (I - A) + (B + D)(B + D)^T with norm_F(D) <= eps. Let u, v be unit vectors,
s = (u + v)/2, d = (u - v)/2, so u^T N^-1 v = s^T N^-1 s - d^T N^-1 d, s.d = 0,
S = |s|^2 = (1 + c)/2 and |d|^2 = 1 - S. Write N = I + E, E = D B + B D^T + D D^T.

(1) s^T N^-1 s >= 2 s^T s - s^T N s = S - 2 (D^T s).(B s) - |D^T s|^2.
(2) d^T N^-1 d = |d|^2 - d^T E d + |E d|^2 in the norm of N^-1, and
    d^T E d = 2 (D^T d).(B d) + |D^T d|^2. Now E d = D B d + (B + D) D^T d. The second
    term is at most |D^T d| in that norm, because N >= (B + D)(B + D)^T. The first is
    at most b' = |D B d| / (1 - eps), because N >= (1 - eps)^2 I: N = C C^T, and
    C = [(I - A)^(1/2), B + D] is within eps of a matrix with orthonormal rows. Hence
    |E d|^2 - |D^T d|^2 <= 2 b' |D^T d| + b'^2.
(3) Together u^T N^-1 v >= c - l - q with the linear term l = 2 (D^T s).(B s)
    - 2 (D^T d).(B d) = <D, u (B v)^T + v (B u)^T> <= eps sigma, where
    sigma^2 = y + 2 c m, m = u^T A v, and q = |D^T s|^2 + 2 b' |D^T d| + b'^2. As s and
    d are orthogonal, |D^T s|^2 / S + |D^T d|^2 / |d|^2 <= eps^2, and b' <= eps b with
    b = |B d| t. With |D^T d| = r |d|: q <= S (eps^2 - r^2) + 2 eps b r |d| + eps^2 b^2
    <= eps^2 (S + |d|^2 b^2 / S + b^2) = eps^2 (S + b^2 / S), b^2 = (y - 2 m) t^2 / 4.
(4) It remains that c > T implies c > F = eps sqrt(y + 2 c m) + eps^2 (S + b^2 / S)
    whatever m is. If c > kappa the closed form applies; let c <= kappa, so S <= h, and
    S >= 1/2. With x = sqrt(y), sqrt(y + 2 c m) <= x + c m / x, so F is at most an
    affine function of m, and |m| <= a_u a_v <= y/2. At m = y/2, F < c follows from
    c (1 - eps x/2) > eps x + eps^2 h; this holds at c = T, because f = 1 - eps x/2
    >= 1 - eps = 1/t and T f >= eps x + eps^2 (h t f + g y f - y/2), where h t f >= h
    and g f >= g/t >= 1/2 as 2 t^2 - t - 1 >= 0. At m = -y/2, F < c follows from
    c (1 + eps x/2) > eps x + eps^2 (h + t^2 y), which holds at c = T because
    T (1 + eps x/2) >= eps x + eps^2 (y/2 + h + g y). Both are monotone in c.

T grows with y and eps, so upper bounds of y are enough, and the ball of a radius holds
every smaller ball: what is proven at one radius is proven at all below.

**Whitened coordinates are not exactly natural.** With E' = R Q R^T - I, |E'| <= eta,
natural coordinates are (I + E')^(-1/2) R x. With z = sqrt(ridge) R^T R x,

    |x|^2 >= |Rx|^2 / (1 + eta),      x^T A x <= |Rx|^2 - |z|^2 + omega |Rx|^2,
    omega = eta (3 + 2 eta) / (1 - eta),

since x^T A x = x^T Q^-1 x - ridge |Q^-1 x|^2, x^T Q^-1 x <= |Rx|^2 / (1 - eta),
ridge R R^T <= R Q R^T <= (1 + eta) I, and sqrt(ridge) Q^-1 x = sqrt(ridge) R^T
(I + E')^-1 R x is within sqrt(1 + eta) eta / (1 - eta) |Rx| of z, |z| <=
sqrt(1 + eta) |Rx|. So a_x^2 <= (1 + eta)((|Rx|^2 - |z|^2) / |Rx|^2 + omega).

**All pairs.** For v = R (r_i phi_i - r_j phi_j) a_v^2 follows from |v|^2 and the
distance of z_i and z_j, which no target changes, and T from its sum with a_u^2: a
square root for each pair and target (`pair_shares`, `curve`).
"""

from __future__ import annotations

import math

import numpy as np

from natgeo.certify.bounds import gamma, row_norms, upward
from natgeo.certify.rounding import NaturalRows, Proof

_HALVINGS = 50


def ridge_rows(proof: Proof, rows: NaturalRows) -> NaturalRows:
    """The ridge part z = sqrt(ridge) R^T R x of natural rows R x, with its errors.

    Linear in x: for rows i and j with residual weights (`proof.weighted`), z_i - z_j
    belongs to their difference. Errors bound norm(rows - z) for the exact z.
    """
    ridge = proof.geometry.ridge
    shrink = math.sqrt(ridge) * proof.geometry.whitener
    found = rows.rows @ shrink
    # Root, scaling and product round; sqrt(ridge) R has spectral norm sqrt(1 + eta).
    size = math.sqrt(ridge) * proof.whitener_norm
    lost = upward(gamma(rows.rows.shape[1] + 4) * size)
    errors = lost * rows.norms + math.sqrt(1 + proof.eta) * rows.errors
    return NaturalRows(found, row_norms(found), upward(errors))


def moments(rows: NaturalRows, ridge: NaturalRows) -> tuple[np.ndarray, np.ndarray]:
    """Upper bounds of |Rx|^2 and of |Rx|^2 - |z|^2, the moment of the data, [B] each.

    Args:
        rows: natural rows R x.
        ridge: their `ridge_rows`.
    """
    whole = upward(rows.true_norms**2)
    squares = np.einsum("nk,nk->n", ridge.rows, ridge.rows)
    lost = gamma(ridge.rows.shape[1] + 2) * ridge.norms**2
    fixed = squares - upward(lost + 2 * ridge.norms * ridge.errors)
    # An overflow gives NaN, and then the whole is the bound.
    return whole, np.fmin(whole, upward(np.maximum(whole - fixed, 0)))


def shares(proof: Proof, rows: NaturalRows) -> np.ndarray:
    """Upper bounds of a_x^2 = x^T A x / x^T x in true natural coordinates, [B]."""
    whole, moved = moments(rows, ridge_rows(proof, rows))
    return pair_shares(proof.eta, whole, moved)


def pair_shares(eta: float, whole: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The same from upper bounds of |Rx|^2 and of |Rx|^2 - |z|^2."""
    # No quotient is NaN, or infinite; then 1 is the bound.
    return np.fmin(1.0, upward((1 + eta) * (moved / whole + _omega(eta))))


def threshold(eps: float, share: float) -> float:
    """An upper bound of T(eps, y); infinite from eps = 1 on.

    Args:
        eps: radius.
        share: an upper bound of y = a_u^2 + a_v^2.
    """
    if not eps < 1:
        return math.inf
    constant, slope = _second_order(eps)
    return float(upward(eps * math.sqrt(share) + constant + slope * share))


def radius(cosine: float, share: float) -> float:
    """A radius, as large as bisection finds, with threshold(radius) < cosine.

    Args:
        cosine: a proven lower bound of the natural cosine, positive.
        share: an upper bound of y = a_u^2 + a_v^2.
    """
    low, high = 0.0, cosine / max(cosine, math.sqrt(share))  # T >= eps sqrt(y)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if threshold(middle, share) < cosine:
            low = middle
        else:
            high = middle
    return low


def curve(eta: float, eps: float) -> np.ndarray:
    """What a whitened cosine must exceed to prove c > T(eps, y), as three numbers.

    Upper bounds of the coefficients of sqrt(y), 1 and y in (T + eta) / (1 - eta).

    Args:
        eta: the proven whitening error, below 1.
        eps: radius, above 0 and below 1.
    """
    constant, slope = _second_order(eps)
    return upward(np.array([eps, constant + eta, slope]) / (1 - eta))


def _second_order(eps: float) -> tuple[float, float]:
    """Upper bounds of eps^2 h t and eps^2 g; g = 1/2 + t^2 eps (2 - eps)."""
    t, square = 1 / (1 - eps), eps * eps
    h = (1 + eps * math.sqrt(2 - square)) / 2
    g = 0.5 + t * t * eps * (2 - eps)
    return float(upward(square * h * t)), float(upward(square * g))


def _omega(eta: float) -> float:
    return float(upward(eta * (3 + 2 * eta) / (1 - eta))) if eta < 1 else math.inf
