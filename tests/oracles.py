"""Independent oracles: the printed formulas in NumPy float64, and exact rationals.

Nothing here comes from natgeo. The float64 half writes each formula as it is printed,
with explicit inverses and loops. The exact half takes the stored floats as the rational
numbers they are: Q, its solves, cosines and the certificate's inequality have no error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy.linalg

# ---------------------------------------------------------------- float64, as printed


def covariance(train, ridge):
    """Q = (1/N) sum_i phi_i phi_i^T + ridge I, one outer product at a time."""
    train = np.float64(train)
    total = sum(np.outer(phi, phi) for phi in train)
    return total / len(train) + ridge * np.eye(train.shape[1])


def inner(train, ridge, left, right):
    """u^T Q^-1 v with an explicit inverse."""
    inverse = np.linalg.inv(covariance(train, ridge))
    return float(np.float64(left) @ inverse @ np.float64(right))


def scores(train, targets, ridge, weights=None):
    """tau[t, i] = r_i phi_t^T Q^-1 phi_i, [M, N]."""
    inverse = np.linalg.inv(covariance(train, ridge))
    r = np.ones(len(train)) if weights is None else np.float64(weights)
    out = np.empty((len(targets), len(train)))
    for t, i in itertools.product(range(len(targets)), range(len(train))):
        out[t, i] = r[i] * (np.float64(targets[t]) @ inverse @ np.float64(train[i]))
    return out


def cosine(q, left, right):
    """Natural cosine of two raw vectors for an explicit Q; 0 for a zero vector."""
    inverse = np.linalg.inv(q)
    size = math.sqrt((left @ inverse @ left) * (right @ inverse @ right))
    return float(left @ inverse @ right) / size if size > 0 else 0.0


def kappa(eps):
    """kappa(eps) = eps sqrt(2 - eps^2)."""
    return eps * math.sqrt(2 - eps**2)


def radius(c):
    """radius(c) = sqrt(1 - sqrt(1 - c^2))."""
    return math.sqrt(1 - math.sqrt(1 - c * c)) if c > 0 else 0.0


def cosines(train, target, ridge, weights=None):
    """Signed natural cosines of all pairs (row i above column j) for one target.

    Vectorised, with the differences formed before the inverse is applied.
    """
    phi = np.float64(train)
    if weights is not None:
        phi = phi * np.float64(weights)[:, None]
    inverse = np.linalg.inv(covariance(train, ridge))
    target = np.float64(target)
    difference = phi[:, None, :] - phi[None, :, :]
    squares = np.einsum("ijk,kl,ijl->ij", difference, inverse, difference)
    lengths = np.sqrt(np.maximum(squares, 0) * (target @ inverse @ target))
    found = difference @ inverse @ target
    return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)


def plain_float32_cosine(train, target, difference, ridge):
    """What a float32 pipeline computes: Gram, Cholesky, triangular solves."""
    phi = np.float32(train)
    eye = np.eye(phi.shape[1], dtype=np.float32)
    q = phi.T @ phi / np.float32(len(phi)) + np.float32(ridge) * eye
    factor = scipy.linalg.cholesky(q, lower=True)
    u = scipy.linalg.solve_triangular(factor, np.float32(target), lower=True)
    v = scipy.linalg.solve_triangular(factor, np.float32(difference), lower=True)
    if u.dtype != np.float32 or v.dtype != np.float32:
        raise TypeError("this is meant to be single precision")
    return float(u @ v / (np.sqrt(u @ u) * np.sqrt(v @ v)))


# -------------------------------------------------------- first-order bounds, by loops


def natural_slopes(train, targets, ridge, weights=None):
    """L_nat(t, i) = 2 |r_i| sqrt(SI_t SI_i) max_j sqrt(SI_j), [M, N]."""
    inverse = np.linalg.inv(covariance(train, ridge))
    r = np.ones(len(train)) if weights is None else np.float64(weights)
    size = [math.sqrt(np.float64(phi) @ inverse @ np.float64(phi)) for phi in train]
    out = np.empty((len(targets), len(train)))
    for t, i in itertools.product(range(len(targets)), range(len(train))):
        target = np.float64(targets[t])
        si = math.sqrt(target @ inverse @ target)
        out[t, i] = 2 * abs(r[i]) * si * size[i] * max(size)
    return out


def euclidean_slopes(train, targets, ridge, weights=None):
    """L_euc(t, i) = 2 |r_i| |Q^-1 phi_t| |Q^-1 phi_i| max_j |phi_j|, [M, N]."""
    inverse = np.linalg.inv(covariance(train, ridge))
    r = np.ones(len(train)) if weights is None else np.float64(weights)
    longest = max(np.linalg.norm(np.float64(phi)) for phi in train)
    out = np.empty((len(targets), len(train)))
    for t, i in itertools.product(range(len(targets)), range(len(train))):
        left = np.linalg.norm(inverse @ np.float64(targets[t]))
        right = np.linalg.norm(inverse @ np.float64(train[i]))
        out[t, i] = 2 * abs(r[i]) * left * right * longest
    return out


def separated(found, slopes, eps):
    """Share of pairs with |tau_i - tau_j| > eps (L_i + L_j), one pair at a time."""
    pairs = list(itertools.combinations(range(len(found)), 2))
    apart = sum(
        abs(found[i] - found[j]) > eps * (slopes[i] + slopes[j]) for i, j in pairs
    )
    return apart / max(len(pairs), 1)


def root_mean_square_distance(points):
    """Root mean squared distance of two points drawn with replacement, by loops."""
    total = sum(float(np.sum((a - b) ** 2)) for a in points for b in points)
    return math.sqrt(total) / len(points)


# ------------------------------------------------------------------------------- exact


def fractions(array) -> list:
    """Nested lists of the exact values of an array of floats."""
    array = np.asarray(array, np.float64)
    return (
        [Fraction(float(x)) for x in array]
        if array.ndim == 1
        else [fractions(row) for row in array]
    )


def dot(left: Iterable[Fraction], right: Iterable[Fraction]) -> Fraction:
    """Exact inner product."""
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


def product(matrix, vector) -> list[Fraction]:
    """Exact matrix-vector product."""
    return [dot(row, vector) for row in matrix]


def exact_covariance(train, ridge) -> list[list[Fraction]]:
    """Q of the stored floats, exactly."""
    phi = fractions(train)
    k = len(phi[0])
    return [
        [
            sum((row[a] * row[b] for row in phi), Fraction(0)) / len(phi)
            + (Fraction(float(ridge)) if a == b else 0)
            for b in range(k)
        ]
        for a in range(k)
    ]


def exact_solve(matrix, vector) -> list[Fraction]:
    """Gaussian elimination over the rationals."""
    k = len(vector)
    table = [[*row, x] for row, x in zip(matrix, vector, strict=True)]
    for column in range(k):
        pivot = next(i for i in range(column, k) if table[i][column] != 0)
        table[column], table[pivot] = table[pivot], table[column]
        for i in range(k):
            if i != column:
                factor = table[i][column] / table[column][column]
                table[i] = [
                    x - factor * y for x, y in zip(table[i], table[column], strict=True)
                ]
    return [table[i][k] / table[i][i] for i in range(k)]


def exact_form(matrix, left, right) -> Fraction:
    """u^T Q^-1 v, exactly."""
    return dot(left, exact_solve(matrix, right))


def exact_cosine_square(matrix, left, right) -> tuple[int, Fraction]:
    """Sign and square of the natural cosine, exactly; (0, 0) for a zero vector."""
    found = exact_form(matrix, left, right)
    size = exact_form(matrix, left, left) * exact_form(matrix, right, right)
    if size == 0 or found == 0:
        return 0, Fraction(0)
    return (1 if found > 0 else -1), found * found / size


def exact_whitening_defect(train, ridge, whitener) -> float:
    """||R Q R^T - I||_2, from the exact matrix rounded entry by entry at the end."""
    q, r = exact_covariance(train, ridge), fractions(whitener)
    half = [product(q, row) for row in r]
    defect = [
        [float(dot(row, h) - (1 if i == j else 0)) for j, h in enumerate(half)]
        for i, row in enumerate(r)
    ]
    return float(np.linalg.norm(np.array(defect), 2))


def kappa_square(eps: float) -> Fraction:
    """eps^2 (2 - eps^2), exactly."""
    square = Fraction(eps) ** 2
    return square * (2 - square)


def holds_at(eps: float, square: Fraction) -> bool:
    """The certificate's inequality c^2 > eps^2 (2 - eps^2) with eps < 1, exactly.

    In integers: a/b > p^2 (2 q^2 - p^2) / q^4 with eps = p/q, without common divisors.
    """
    if not eps < 1:
        return False
    p, q = (x * x for x in eps.as_integer_ratio())
    return square.numerator * q * q > square.denominator * p * (2 * q - p)


def at_most_square(value: float, square: Fraction) -> bool:
    """value^2 <= square, exactly."""
    p, q = value.as_integer_ratio()
    return p * p * square.denominator <= square.numerator * q * q


def exact_moment_share(matrix, ridge, vector) -> Fraction:
    """x^T A x / x^T x in natural coordinates, by 1 - ridge |Q^-1 x|^2 / x^T Q^-1 x."""
    solved = exact_solve(matrix, vector)
    size = dot(vector, solved)
    return 1 - Fraction(ridge) * dot(solved, solved) / size if size else Fraction(0)


def exact_root(square: Fraction) -> Fraction:
    """Square root of a rational to 400 binary places of its own size."""
    half = (square.denominator.bit_length() - square.numerator.bit_length()) // 2
    scale = 400 + max(half, 0)
    return Fraction(math.isqrt(int(square * 4**scale)), 2**scale)


def ridge_threshold(eps: float, share: Fraction) -> Fraction:
    """T(eps, y) = eps sqrt(y) + eps^2 (h t + g y), as printed in ridge.py."""
    e = Fraction(eps)
    h = (1 + exact_root(kappa_square(eps))) / 2
    t = 1 / (1 - e)
    return e * exact_root(share) + e * e * (h * t + (t * t - Fraction(1, 2)) * share)


def holds_with_ridge(eps: float, square: Fraction, share: Fraction) -> bool:
    """The inequality c > T(eps, y) of the bound under a ridge."""
    return eps < 1 and exact_root(square) > ridge_threshold(eps, share)


def root(square: Fraction) -> float:
    """Square root to a few units in the last place, also of tiny rationals."""
    return _root(square.numerator, square.denominator)


def _root(top: int, bottom: int) -> float:
    """sqrt(top / bottom) from an integer square root of some 60 bits."""
    half = (bottom.bit_length() - top.bit_length()) // 2 + 60
    if half >= 0:
        scaled = (top << 2 * half) // bottom
    else:
        scaled = top // (bottom << -2 * half)
    return math.ldexp(math.isqrt(scaled), -half)


def breaking_radius(square: Fraction) -> float:
    """The least double at which the inequality of `holds_at` fails."""
    top, bottom = square.numerator, square.denominator
    eps = _root(top, bottom) / math.sqrt(1 + _root(max(bottom - top, 0), bottom))
    steps = 0
    while eps > 0 and not holds_at(eps, square):
        eps, steps = math.nextafter(eps, 0.0), steps + 1
    while holds_at(eps, square):
        eps, steps = math.nextafter(eps, 2.0), steps + 1
    if steps > 50:
        raise ValueError("the first guess was too far off")
    return eps


def as_integers(array) -> tuple[list, int]:
    """Floats as integers over one common power-of-two denominator."""
    array = np.asarray(array, np.float64)
    ratios = [float(x).as_integer_ratio() for x in array.ravel()]
    common = max((q for _, q in ratios), default=1)
    flat = [p * (common // q) for p, q in ratios]
    width = array.shape[-1]
    if array.ndim == 1:
        return flat, common
    return [flat[i : i + width] for i in range(0, len(flat), width)], common


def adjugate(matrix: list[list[int]]) -> tuple[list[list[int]], int]:
    """Adjugate and determinant of a positive definite integer matrix (Bareiss)."""
    k = len(matrix)
    table = [
        [*row, *(1 if i == j else 0 for j in range(k))] for i, row in enumerate(matrix)
    ]
    previous = 1
    for p in range(k):
        pivot = table[p][p]
        if pivot <= 0:
            raise ValueError("not positive definite")
        for i in range(k):
            if i != p:
                factor = table[i][p]
                table[i] = [
                    (pivot * x - factor * y) // previous
                    for x, y in zip(table[i], table[p], strict=True)
                ]
        previous = pivot
    return [row[k:] for row in table], previous


@dataclass(frozen=True)
class Pair:
    """The exact truth about `first` against `second` for one target."""

    first: int
    second: int
    sign: int
    square: Fraction


class Exact:
    """All pairs of a training set in integer arithmetic, without any rounding."""

    def __init__(self, train, ridge, weights=None):
        phi, common = as_integers(train)
        n, k = len(phi), len(phi[0])
        p, q = float(ridge).as_integer_ratio()
        scaled = [
            [
                q * sum(row[a] * row[b] for row in phi)
                + (n * p * common * common if a == b else 0)
                for b in range(k)
            ]
            for a in range(k)
        ]
        self.inverse, determinant = adjugate(scaled)
        # Q^-1 is this multiple of `inverse`.
        self.factor = Fraction(q * n * common * common, determinant)
        self.ridge = Fraction(float(ridge))
        r = as_integers(np.ones(n) if weights is None else weights)[0]
        self.rows = [[w * x for x in row] for w, row in zip(r, phi, strict=True)]
        half = [self.apply(row) for row in self.rows]
        self.gram = [
            [sum(x * y for x, y in zip(row, h, strict=True)) for h in half]
            for row in self.rows
        ]

    def apply(self, vector: Sequence[int]) -> list[int]:
        """A positive multiple of Q^-1 x."""
        return [
            sum(a * x for a, x in zip(r, vector, strict=True)) for r in self.inverse
        ]

    def moment_share(self, vector: Sequence[int]) -> Fraction:
        """x^T A x / x^T x in natural coordinates, A = I - ridge Q^-1; 0 for x = 0."""
        z = self.apply(vector)
        size = sum(a * b for a, b in zip(vector, z, strict=True))
        fixed = self.ridge * self.factor * sum(a * a for a in z)
        return 1 - fixed / size if size else Fraction(0)

    def share(self, target, pair: Pair) -> Fraction:
        """a_u^2 + a_v^2 of the bound under a ridge, for one pair of one target."""
        rows = self.rows[pair.first], self.rows[pair.second]
        difference = [a - b for a, b in zip(*rows, strict=True)]
        return self.moment_share(as_integers(target)[0]) + self.moment_share(difference)

    def proves(self, target, pair: Pair, eps: float) -> bool:
        """Whether the closed form or, with a ridge, the bound under it holds at eps."""
        if holds_at(eps, pair.square):
            return True
        return self.ridge > 0 and holds_with_ridge(
            eps, pair.square, self.share(target, pair)
        )

    def certified(self, target, eps: float) -> set[tuple[int, int]]:
        """(winner, loser) of every pair that is proven at eps."""
        return {
            (p.first, p.second) if p.sign > 0 else (p.second, p.first)
            for p in self.pairs(target)
            if p.sign and self.proves(target, p, eps)
        }

    def pairs(self, target) -> list[Pair]:
        """Every unordered pair, i < j, for a raw target."""
        t, _ = as_integers(target)
        z = self.apply(t)
        size = sum(a * b for a, b in zip(t, z, strict=True))
        score = [sum(a * b for a, b in zip(z, row, strict=True)) for row in self.rows]
        out = []
        for i, j in itertools.combinations(range(len(score)), 2):
            gap = score[i] - score[j]
            length = self.gram[i][i] + self.gram[j][j] - 2 * self.gram[i][j]
            sign = (gap > 0) - (gap < 0)
            square = Fraction(gap * gap, size * length) if gap else Fraction(0)
            out.append(Pair(i, j, sign, square))
        return out


# ------------------------------------------------------------------------- brute force


def certified_pairs(pairs: Iterable[Pair], eps: float) -> set[tuple[int, int]]:
    """(winner, loser) of every pair for which the inequality holds at eps."""
    return {
        (p.first, p.second) if p.sign > 0 else (p.second, p.first)
        for p in pairs
        if p.sign and holds_at(eps, p.square)
    }


def rank_bounds(order: set[tuple[int, int]], n: int) -> np.ndarray:
    """[1 + certified above i, n - certified below i], by counting, [n, 2]."""
    return np.array(
        [
            [
                1 + sum(loser == i for _, loser in order),
                n - sum(winner == i for winner, _ in order),
            ]
            for i in range(n)
        ]
    )


def top_k(order: set[tuple[int, int]], n: int, k: int):
    """Members certified in, out of, and neither in nor out of the k highest."""
    inside = [i for i in range(n) if sum(winner == i for winner, _ in order) >= n - k]
    outside = [i for i in range(n) if sum(loser == i for _, loser in order) >= k]
    # k >= n puts everybody inside; nobody can then be outside.
    rest = [i for i in range(n) if i not in inside and i not in outside]
    return inside, outside, rest
