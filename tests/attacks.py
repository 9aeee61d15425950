"""Attacks on certified pairs that share no code and no idea with the certificate.

Every attack displaces the stored training features directly, [N, K], scales the
displacement to a given order-2 natural cost, recomputes Q' with all its terms and
solves with it. What is attacked is natgeo's own radius; everything else here is plain
NumPy and SciPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from natgeo.certify.rankings import certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.geometry.natural import natural_geometry
from tests import oracles


@dataclass(frozen=True, eq=False)
class Problem:
    """Pairs that natgeo certifies, as bilinear forms.

    Attributes:
        train: training features, [N, K].
        ridge: lambda.
        left: u of each pair, [P, K].
        right: v of each pair, [P, K].
        radii: certified radius of each pair, [P].
        seed: for the attacks.
    """

    train: np.ndarray
    ridge: float
    left: np.ndarray
    right: np.ndarray
    radii: np.ndarray
    seed: int


def random_problem(seed, ridge, *, pairs, n=15, k=4) -> Problem:
    """A random geometry with pairs that natgeo certifies at some radius."""
    rng = np.random.default_rng(1000 + seed)
    train = rng.normal(size=(n, k)) @ rng.normal(size=(k, k))
    targets = rng.normal(size=(-(-pairs // 3), k))
    # Some nearly parallel to a difference: radii close to one.
    targets[::4] = train[0] - train[1] + 0.3 * targets[::4]
    rankings = certify_rankings(
        natural_geometry(train, ridge), targets, Wasserstein2(0.01)
    )
    left, right, radii = [], [], []
    while len(radii) < pairs:
        t = int(rng.integers(len(targets)))
        i, j = (int(x) for x in rng.choice(n, size=2, replace=False))
        radius = rankings.radius(target=t, above=i, below=j)
        if radius > 1e-6:
            left.append(targets[t])
            right.append(train[i] - train[j])
            radii.append(radius)
    return Problem(train, ridge, np.array(left), np.array(right), np.array(radii), seed)


def values(problem: Problem, displaced: np.ndarray) -> np.ndarray:
    """u^T Q'^-1 v of each pair for its own displaced training set, [P, N, K] -> [P]."""
    k = displaced.shape[2]
    q = np.einsum("pna,pnb->pab", displaced, displaced) / displaced.shape[1]
    q += problem.ridge * np.eye(k)
    solved = np.linalg.solve(q, problem.right[:, :, None])[:, :, 0]
    return np.einsum("pk,pk->p", problem.left, solved)


def costs(problem: Problem, moves: np.ndarray) -> np.ndarray:
    """Order-2 natural cost of displacements [P, N, K] in the metric of the stored Q."""
    inverse = np.linalg.inv(oracles.covariance(problem.train, problem.ridge))
    return np.sqrt(np.einsum("pna,ab,pnb->pn", moves, inverse, moves).mean(axis=1))


def scaled(problem: Problem, moves: np.ndarray, share: float) -> np.ndarray:
    """The displacements with cost `share` of each pair's radius."""
    factor = share * problem.radii / costs(problem, moves)
    return moves * factor[:, None, None]


def random_displacements(problem: Problem, share: float, *, tries: int) -> np.ndarray:
    """The least value of each pair over random displacements, some of low rank."""
    rng = np.random.default_rng(problem.seed)
    pairs, (n, k) = len(problem.radii), problem.train.shape
    root = np.linalg.cholesky(oracles.covariance(problem.train, problem.ridge))
    worst = np.full(pairs, np.inf)
    for number in range(tries):
        if number % 3 == 0:
            moves = rng.normal(size=(pairs, n, k)) @ root.T
        elif number % 3 == 1:  # one linear map for everybody
            maps = rng.normal(size=(pairs, k, k))
            moves = np.einsum("na,pab->pnb", problem.train, maps)
        else:  # a single point moves far
            moves = np.zeros((pairs, n, k))
            moves[np.arange(pairs), rng.integers(n, size=pairs)] = (
                rng.normal(size=(pairs, k)) @ root.T
            )
        for sign in (1, -1):
            moved = problem.train + scaled(problem, sign * moves, share)
            worst = np.minimum(worst, values(problem, moved))
    return worst


def gradient_attack(problem: Problem, share: float, *, steps: int) -> np.ndarray:
    """Projected gradient descent on every coordinate of every training feature.

    d(u^T Q'^-1 v) / d phi'_i = -(1/N) (a b^T + b a^T) phi'_i with a = Q'^-1 u and
    b = Q'^-1 v; the steepest direction of the natural metric is Q times that.
    """
    rng = np.random.default_rng(problem.seed + 1)
    pairs, (n, k) = len(problem.radii), problem.train.shape
    q = oracles.covariance(problem.train, problem.ridge)
    moves = scaled(problem, rng.normal(size=(pairs, n, k)) @ q, share)
    worst = np.full(pairs, np.inf)
    for step in range(steps):
        displaced = problem.train + moves
        worst = np.minimum(worst, values(problem, displaced))
        moving = np.einsum("pna,pnb->pab", displaced, displaced) / n
        moving += problem.ridge * np.eye(k)
        a = np.linalg.solve(moving, problem.left[:, :, None])[:, :, 0]
        b = np.linalg.solve(moving, problem.right[:, :, None])[:, :, 0]
        slope = np.einsum("pn,pk->pnk", np.einsum("pnk,pk->pn", displaced, b), a)
        slope += np.einsum("pn,pk->pnk", np.einsum("pnk,pk->pn", displaced, a), b)
        length = 1 / (1 + step / 20)
        moves = moves + length * scaled(problem, slope @ q, share)
        # Back into the ball; nearly always onto its surface.
        excess = np.maximum(costs(problem, moves) / (share * problem.radii), 1)
        moves = moves / excess[:, None, None]
    return worst


def scipy_attack(problem: Problem, share: float) -> float:
    """The least value of the first pair found by L-BFGS on the sphere of that cost.

    The displacement is z scaled to its cost, so every trial point is allowed.
    """
    n, k = problem.train.shape
    q = oracles.covariance(problem.train, problem.ridge)
    inverse = np.linalg.inv(q)
    eps = share * float(problem.radii[0])
    u, v = problem.left[0], problem.right[0]

    def value_and_slope(flat):
        z = flat.reshape(n, k)
        metric = z @ inverse / n
        length = math.sqrt(float(np.sum(metric * z)))
        displaced = problem.train + z * (eps / length)
        moved = displaced.T @ displaced / n + problem.ridge * np.eye(k)
        a, b = np.linalg.solve(moved, np.stack([u, v], axis=1)).T
        slope = -(np.outer(displaced @ b, a) + np.outer(displaced @ a, b)) / n
        along = float(np.sum(slope * z)) / length**2
        return float(u @ b), (eps / length * (slope - along * metric)).ravel()

    rng = np.random.default_rng(problem.seed + 2)
    worst = math.inf
    for _ in range(6):
        start = (rng.normal(size=(n, k)) @ np.linalg.cholesky(q).T).ravel()
        found = scipy.optimize.minimize(
            value_and_slope,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": 400},
        )
        worst = min(worst, float(found.fun))
    return worst


def witness(problem: Problem, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and costs of the closed-form map of certificates.md, section 3."""
    q = oracles.covariance(problem.train, problem.ridge)
    root = np.linalg.cholesky(q)
    inverse = np.linalg.inv(root)
    displaced = []
    for u, v, radius in zip(problem.left, problem.right, problem.radii, strict=True):
        eps = share * radius
        x, y = inverse @ u, inverse @ v
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        e1, e2 = x + y, x - y
        e1, e2 = e1 / np.linalg.norm(e1), e2 / np.linalg.norm(e2)
        t = math.sqrt(2 - eps * eps)
        a = math.pi / 4 - math.asin(eps / math.sqrt(2))
        s1, s2 = t * math.cos(a), t * math.sin(a)
        bend = (
            np.eye(len(u)) + (s1 - 1) * np.outer(e1, e1) + (s2 - 1) * np.outer(e2, e2)
        )
        displaced.append(problem.train @ (root @ bend @ inverse).T)
    displaced = np.array(displaced)
    return values(problem, displaced), costs(problem, displaced - problem.train)


# ------------------------------------------------- the exact problem under a ridge


@dataclass(frozen=True, eq=False)
class Form:
    """u^T N^-1 v with N = I - A + G G^T, in natural coordinates where A is diagonal.

    Attributes:
        spectrum: eigenvalues of A, the moment of the data, in [0, 1], [K].
        left: u, [K], a unit vector.
        right: v, [K], a unit vector.
    """

    spectrum: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def cosine(self) -> float:
        """u.v."""
        return float(self.left @ self.right)

    @property
    def share(self) -> float:
        """a_u^2 + a_v^2."""
        return float(self.spectrum @ (self.left**2 + self.right**2))

    def value(self, move: np.ndarray) -> float:
        """u^T N^-1 v after G = A^(1/2) + move, [K, K]."""
        g = np.diag(np.sqrt(self.spectrum)) + move
        return float(
            self.left
            @ np.linalg.solve(np.diag(1 - self.spectrum) + g @ g.T, self.right)
        )


def cheapest_break(form: Form, *, starts: int, seed: int = 0) -> np.ndarray:
    """The smallest displacement found that makes u^T N^-1 v vanish, [K, K].

    With x = N^-1 v and y = G^T x: u.x = 0, and G has to satisfy G^T x = y and
    G y = w = v - (I - A) x, which needs |y|^2 = x.w. The least |G - A^(1/2)|_F^2 is

        |p|^2/|x|^2 + |q|^2/|y|^2 - (x.q)^2 / (|x|^2 |y|^2),
        p = y - A^(1/2) x,   q = w - A^(1/2) y.

    So the search is over the directions of x and y; their length follows.
    """
    k, rng = len(form.left), np.random.default_rng(seed)
    kernel = np.zeros(k)
    kernel[np.argmin(form.spectrum)] = 1.0
    flat = np.sqrt(form.spectrum)
    side = form.right - (form.left @ form.right) * form.left
    guesses = [np.concatenate([side, flat * side + size * kernel]) for size in (0, 1)]
    guesses += list(rng.normal(size=(starts, 2 * k)))
    best, least = np.zeros((k, k)), math.inf
    for guess in guesses:
        found = scipy.optimize.minimize(
            lambda z: _break(form, z)[0],
            guess,
            method="L-BFGS-B",
            options={"maxiter": 150, "ftol": 1e-12},
        )
        if found.fun < least:
            least, best = found.fun, _break(form, found.x)[1]
    return best


def _break(form: Form, flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Squared cost and displacement for directions of x and y."""
    k, root = len(form.left), np.sqrt(form.spectrum)
    x, y = flat[:k], flat[k:]
    x = x - (form.left @ x) * form.left
    size = y @ y + x @ ((1 - form.spectrum) * x)
    factor = (x @ form.right) / size
    x, y = factor * x, factor * y
    p = y - root * x
    q = form.right - (1 - form.spectrum) * x - root * y
    xx, yy = x @ x, y @ y
    if not (xx > 1e-200 and yy > 1e-200):
        return 1e3, np.zeros((k, k))
    move = np.outer(x, p) / xx + np.outer(q, y) / yy
    move -= (x @ q) / (xx * yy) * np.outer(x, y)
    return float(np.sum(move * move)), move


def climb(form: Form, eps: float, *, starts: int, seed: int = 0) -> float:
    """The least u^T N^-1 v over |D|_F = eps by steepest descent from many starts."""
    k, rng = len(form.left), np.random.default_rng(seed)
    root, rest = np.diag(np.sqrt(form.spectrum)), np.diag(1 - form.spectrum)
    worst = math.inf
    for number in range(starts):
        move = rng.normal(size=(k, k))
        if number % 3 == 1:
            move = np.outer(form.left + form.right, rng.normal(size=k))
        for step in range(60):
            move = move * (eps / np.linalg.norm(move))
            g = root + move
            a, b = np.linalg.solve(
                rest + g @ g.T, np.stack([form.left, form.right], axis=1)
            ).T
            worst = min(worst, float(form.left @ b))
            slope = (np.outer(a, b) + np.outer(b, a)) @ g
            pace = eps / np.linalg.norm(slope)
            move = slope if step % 2 else move + pace * slope
    return worst
