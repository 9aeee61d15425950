"""What may happen to the training distribution; one class per threat.

Every threat comes down to one number: `kappa`. A statement whose natural cosine is c
holds under the threat if c > kappa (certificates.md, section 3). A threat states its
proof in its docstring and bounds its kappa from above in exact rational arithmetic.

`least` bounds how low the form u^T M v itself can go, given s = u.v and n = |u| |v|. If
alpha I <= M^-1 <= beta I for every reachable M, it is at least A / beta - B / alpha
with A = (n + s)/2 and B = (n - s)/2 (von Neumann's trace inequality, as in
`Wasserstein2`); `spreads` lists such (alpha, beta), one of which holds for each M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from weakref import WeakKeyDictionary

import numpy as np

from natgeo import checks
from natgeo.certify import disc
from natgeo.certify.bounds import TINY, not_below, upward
from natgeo.certify.moving import Moving
from natgeo.certify.rounding import Proof
from natgeo.certify.spectral import spectral_norm
from natgeo.display import given


@dataclass(frozen=True)
class Wasserstein2:
    """Any distribution of features within order-2 natural Wasserstein distance eps.

        kappa(eps) = eps sqrt(2 - eps^2),      radius(c) = sqrt(1 - sqrt(1 - c^2))

    The ground metric is d_nat(z, z') = norm(w - w'), fixed at the empirical
    distribution; the support is not bounded. Sound for every ridge, and necessary and
    sufficient when the ridge is 0 and the features have full rank. Under a positive
    ridge verdicts also use the bound of `natgeo.certify.ridge`.

    Proof. (1) Gelbrich's bound makes the reachable second moments a Bures ball, so in
    natural coordinates M^-1 = S^2 with S symmetric positive definite and
    norm_F(S - I) <= eps; the ridge is pseudo-data that the adversary does not move,
    and letting it move only enlarges the ball. (2) With e1, e2 the unit bisectors of
    u and v, u^T M v = |u| |v| (p M_11 - q M_22), p = (1 + c)/2, q = (1 - c)/2. (3) For
    a given spectrum of S, von Neumann's trace inequality gives the least value
    p / s_max^2 - q / s_min^2. (4) Two eigenvalues move on the circle
    (s1 - 1)^2 + (s2 - 1)^2 <= eps^2; the sign flips iff s2 / s1 <= tan(theta / 2), and
    the least ratio on the disc is tan(pi/4 - asin(eps / sqrt 2)). Solve for c.

    Args:
        eps: radius, in natural units (training features have mean squared natural norm
            d_eff). No statement can be certified at eps >= 1.

    Raises:
        ArgumentError: if eps is negative, not finite or not a number.
    """

    eps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", checks.nonnegative("eps", self.eps))

    def kappa(self, proof: Proof | None = None) -> float:
        """The smallest double with kappa^2 >= eps^2 (2 - eps^2); infinite from 1 on."""
        del proof  # the data enter through the metric alone
        if self.eps >= 1:
            return math.inf
        exact = Fraction(self.eps) ** 2
        start = self.eps * math.sqrt(2 - self.eps * self.eps) * (1 - 2.0**-50)
        return not_below(start, exact * (2 - exact))

    def least(self, proof: Proof, scores: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Proven lower bounds of forms u^T M v over the ball, [P]; see `disc.least`.

        Args:
            proof: unused; the data enter through scores and norms alone.
            scores: lower bounds of u.v, [P].
            norms: upper bounds of |u| |v|, [P].
        """
        del proof
        return disc.least(scores, norms, self.eps)

    def least_quick(
        self, proof: Proof, scores: np.ndarray, norms: np.ndarray
    ) -> np.ndarray:
        """The same, a little looser, for millions of forms; see `disc.least_quick`."""
        del proof
        return disc.least_quick(scores, norms, self.eps)

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"every distribution of features within order-2 Wasserstein distance "
            f"{given(self.eps)} of the stored ones, measured by the fixed metric Q^-1"
        )

    @staticmethod
    def radius(cosine: float) -> float:
        """The largest radius that a proven lower bound of the cosine certifies.

        Rounded down until the rational inequality eps^2 (2 - eps^2) < c^2 holds
        exactly, so that the printed number is itself a certified radius.
        """
        if not cosine > 0:
            return 0.0
        # One double below, so that kappa(radius), rounded up, is still below cosine.
        c = float(np.nextafter(min(cosine, 1.0), 0))
        # sqrt(1 - sqrt(1 - c^2)) without the cancellation at small c.
        radius = c / math.sqrt(1 + math.sqrt((1 - c) * (1 + c)))
        square = Fraction(c) ** 2
        while radius > 0:
            eps = Fraction(radius) ** 2
            if eps * (2 - eps) <= square and radius < 1:
                return radius
            radius = float(np.nextafter(radius, 0))
        return 0.0


@dataclass(frozen=True)
class Euclidean2:
    """Any distribution within order-2 Wasserstein distance eps in raw feature space.

        eps_nat = eps / sqrt(lambda_min(Q)),      kappa = that of Wasserstein2(eps_nat)

    This division is the spectral amplification: a move of Euclidean length d has a
    natural length of at most d / sqrt(lambda_min(Q)).

    Proof. norm(w - w')^2 = (phi - phi')^T Q^-1 (phi - phi') <= |phi - phi'|^2 /
    lambda_min(Q), so the same coupling costs at most eps_nat and the ball lies inside
    the natural one. With ||R Q R^T - I|| <= eta, Q >= (1 - eta) R^-1 R^-T, hence
    1 / lambda_min(Q) <= ||R||^2 / (1 - eta).

    Args:
        eps: radius, in feature units.
    """

    eps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", checks.nonnegative("eps", self.eps))

    @staticmethod
    def amplification(proof: Proof) -> float:
        """Proven upper bound of 1 / sqrt(lambda_min(Q))."""
        if not proof.holds:
            return math.inf
        stretch = upward(1 / np.sqrt(1 - proof.eta))
        return float(upward(_whitener_norm(proof) * stretch))

    def natural(self, proof: Proof) -> Wasserstein2:
        """The natural ball that holds this one; of radius 1 if there is none."""
        reach = float(upward(self.eps * self.amplification(proof))) if self.eps else 0.0
        return Wasserstein2(reach if reach < 1 else 1.0)

    def kappa(self, proof: Proof) -> float:
        """That of the natural ball; infinite once its radius reaches 1."""
        return self.natural(proof).kappa()

    def least(self, proof: Proof, scores: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """That of the natural ball; see `Wasserstein2.least`."""
        return self.natural(proof).least(proof, scores, norms)

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"every distribution of features within order-2 Wasserstein distance "
            f"{given(self.eps)} of the stored ones in raw, Euclidean feature space, "
            f"covered by the natural ball that is larger by the spectral amplification "
            f"1 / sqrt(lambda_min(Q))"
        )


@dataclass(frozen=True, init=False)
class WassersteinInfinity(Moving):
    """Every training example, and the target, moves by at most eps.

    Wherever the N training examples go, the distribution stays within order-2 (indeed
    order-infinity) natural distance eps, so `Moving` with all three radii equal covers
    the case in which the examples that a statement names move with the training set.

    Args:
        eps: how far anything may move, in natural distance.
    """

    def __init__(self, eps: float):
        super().__init__(Wasserstein2(eps), target=eps, examples=eps)

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"every training set in which each example is moved by at most natural "
            f"distance {given(self.target)} (order-infinity Wasserstein), the examples "
            f"that the claim names among them, and the target by as much; distances "
            f"are measured by the fixed metric Q^-1"
        )


class _Spread:
    """A threat that is known through the eigenvalues of M^-1 alone."""

    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """Intervals [alpha, beta], one of which holds the eigenvalues of any M^-1.

        None at all, or one that reaches 0, if the theorem does not reach this far.
        """
        raise NotImplementedError

    def least(self, proof: Proof, scores: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Proven lower bounds of forms u^T M v over the threat, [P].

        Args:
            proof: the rounding proof of the geometry.
            scores: lower bounds of u.v, [P].
            norms: upper bounds of |u| |v|, [P].
        """
        ends = self.spreads(proof)
        if not ends or min(alpha for alpha, _ in ends) <= 0:
            return np.full(np.shape(scores), -np.inf)
        # A is not negative, so 1 / beta may be rounded down and 1 / alpha up.
        bounds = [
            between(scores, norms, -_up(-1 / beta), _up(1 / alpha))
            for alpha, beta in ends
        ]
        return np.min(bounds, axis=0)


def between(
    scores: np.ndarray, norms: np.ndarray, lowest: float, highest: float
) -> np.ndarray:
    """Lower bounds of u^T M v for any M with lowest I <= M <= highest I, [P].

    A lowest - B highest, rounded down: A and B carry one relative rounding each, the
    products one more, and the last subtraction is stepped down.
    """
    with np.errstate(all="ignore"):
        scores = np.clip(scores, -norms, norms)
        rising, falling = norms / 2 + scores / 2, norms / 2 - scores / 2
        value = rising * lowest * (1 - 2.0**-50) - falling * highest * (1 + 2.0**-50)
        value = np.nextafter(value, -np.inf) - TINY
    known = np.isfinite(scores) & np.isfinite(norms) & ~np.isnan(value)
    return np.where(known, value, -np.inf)


@dataclass(frozen=True)
class Wasserstein1(_Spread):
    """Any distribution within order-1 natural distance eps, on a bounded support.

        chi = 1 / (1 - 2 R eps),      kappa = R eps / (1 - R eps)

    Without a bound on the support no order-1 statement holds at any radius: a little
    mass may travel as far as it likes.

    Proof. Couple the two distributions optimally. In natural coordinates the covariance
    changes by D = E[w w^T - w' w'^T], and w w^T - w' w'^T is the symmetric part of
    (w - w')(w + w')^T, whose nuclear norm is at most 2 R |w - w'|. So the nuclear norm
    of D is at most 2 R eps, and the largest eigenvalue can be raised by a and the
    smallest lowered by b only if a + b <= 2 R eps; (1 + a) / (1 - b) is largest at
    a = 0. Wielandt's inequality turns chi into kappa = (chi - 1) / (chi + 1).

    Args:
        eps: radius, in natural units.
        support: R, an assumption about every distribution in the ball: no natural norm
            exceeds it. The stored features must satisfy it, rounding included.
    """

    eps: float
    support: float

    def __post_init__(self) -> None:
        for name in ("eps", "support"):
            value = checks.nonnegative(name, getattr(self, name))
            object.__setattr__(self, name, value)

    def kappa(self, proof: Proof | None = None) -> float:
        """R eps / (1 - R eps), rounded up; infinite once 2 R eps reaches 1.

        Infinite too if the stored features are not proven to lie inside R: the proof
        needs both ends of a transport there.
        """
        if proof is not None and not _longest(proof) <= self.support:
            return math.inf
        reach = Fraction(self.support) * Fraction(self.eps)
        return _up(reach / (1 - reach)) if 2 * reach < 1 else math.inf

    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """[1 - 2 R eps, 1] and [1, 1 + 2 R eps].

        The eigenvalues lie in [1 - b, 1 + a] with a + b <= d = 2 R eps. As a function
        of b, A / (1 + d - b) - B / (1 - b) has a slope of the sign of
        (1 - b)^2 / (1 + d - b)^2 - B / A, which falls with b: it rises and then falls,
        so the least value is at b = 0 or at b = d.
        """
        if math.isinf(self.kappa(proof)):
            return []
        change = 2 * Fraction(self.support) * Fraction(self.eps)
        return [(1 - change, Fraction(1)), (Fraction(1), 1 + change)]

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"every distribution of features within order-1 Wasserstein distance "
            f"{given(self.eps)} of the stored ones, measured by the fixed metric Q^-1, "
            f"on the assumption that no natural norm exceeds {given(self.support)}"
        )


@dataclass(frozen=True)
class Delete(_Spread):
    """Any `points` training examples are deleted.

        chi = 1 / (1 - h),  h = (1/N) sum of the largest self-influences,
        kappa = h / (2 - h)

    Proof. With the ridge held fixed in Phi^T Phi + N lambda I, deleting the set D gives
    M^-1 = I - (1/N) sum_D w w^T up to a positive factor, whose eigenvalues lie between
    1 - h and 1: the trace of the sum is at most N h. Sound, not exact. Examples that a
    statement is about are evaluated as they are, whether deleted or not.

    The factor matters for the range of a score, not for a sign. `least` and everything
    made of it are about u^T (Phi'^T Phi' / N + lambda I)^-1 v with the stored N; for
    the mean over the N' examples that are left, with the ridge N lambda / N', multiply
    both ends by N' / N. The same holds for `Add`, with N' above N; `Replace` has
    N' = N.

    Args:
        points: how many examples may be deleted.
    """

    points: int

    def __post_init__(self) -> None:
        # A Python integer: NumPy's narrow ones overflow in exact arithmetic.
        object.__setattr__(self, "points", checks.count("points", self.points, low=0))

    def kappa(self, proof: Proof) -> float:
        """H / (2 - h) from upper bounds of the self-influences; infinite if h >= 1."""
        h = _removed(proof, self.points)
        return _up(h / (2 - h)) if h < 1 else math.inf

    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """[1 - h, 1]."""
        return [(1 - _removed(proof, self.points), Fraction(1))]

    def describe(self) -> str:
        """The threat in words."""
        return f"the deletion of any {self.points} training examples"


@dataclass(frozen=True)
class _NewPoints(_Spread):
    """A number of new examples, and the bound of their natural norms."""

    points: int
    support: float

    def __post_init__(self) -> None:
        # A Python integer: NumPy's narrow ones overflow in exact arithmetic.
        object.__setattr__(self, "points", checks.count("points", self.points, low=0))
        object.__setattr__(self, "support", checks.nonnegative("support", self.support))


@dataclass(frozen=True)
class Add(_NewPoints):
    """Any `points` examples are added.

        chi = 1 + a,  a = points R^2 / N,      kappa = a / (2 + a)

    Proof. M^-1 = I + (1/N) sum of the new w w^T, up to a positive factor, with the
    ridge held fixed in Phi^T Phi + N lambda I; its eigenvalues lie in [1, 1 + a].

    Args:
        points: how many examples may be added.
        support: R, an assumption: no new example has a larger natural norm.
    """

    def kappa(self, proof: Proof) -> float:
        """A / (2 + a), rounded up."""
        a = _added(proof, self.points, self.support)
        return _up(a / (2 + a))

    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """[1, 1 + a]."""
        return [(Fraction(1), 1 + _added(proof, self.points, self.support))]

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"the addition of any {self.points} training examples whose natural norm "
            f"is at most {given(self.support)}"
        )


@dataclass(frozen=True)
class Replace(_NewPoints):
    """Any `points` training examples are replaced by others.

        chi = (1 + a) / (1 - h),      kappa = (a + h) / (2 + a - h)

    Proof. A deletion and an addition: the eigenvalues of M^-1 lie in [1 - h, 1 + a].

    Args:
        points: how many examples may be replaced.
        support: R, an assumption: no new example has a larger natural norm.
    """

    def kappa(self, proof: Proof) -> float:
        """(a + h) / (2 + a - h), rounded up; infinite if h >= 1."""
        h = _removed(proof, self.points)
        a = _added(proof, self.points, self.support)
        return _up((a + h) / (2 + a - h)) if h < 1 else math.inf

    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """[1 - h, 1 + a]."""
        h = _removed(proof, self.points)
        return [(1 - h, 1 + _added(proof, self.points, self.support))]

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"the replacement of any {self.points} training examples by others whose "
            f"natural norm is at most {given(self.support)}"
        )


def _up(value: Fraction) -> float:
    """The smallest double that is not below a rational."""
    rounded = float(value)
    return rounded if rounded >= value else float(np.nextafter(rounded, np.inf))


_NORMS: WeakKeyDictionary[Proof, float] = WeakKeyDictionary()


def _whitener_norm(proof: Proof) -> float:
    """Upper bound of ||R||_2; computed once for each proof."""
    if proof not in _NORMS:
        _NORMS[proof] = spectral_norm(proof.geometry.whitener)
    return _NORMS[proof]


def _longest(proof: Proof) -> float:
    """Upper bound of the largest natural norm of the stored features."""
    if not proof.holds:
        return math.inf
    stretch = upward(1 / (1 - proof.eta))
    return float(upward(np.max(proof.train.true_norms) * np.sqrt(stretch)))


def _removed(proof: Proof, points: int) -> Fraction:
    """Upper bound of (1/N) times the sum of the `points` largest self-influences."""
    count = len(proof.train.norms)
    if not proof.holds or points >= count:
        return Fraction(1)
    # |w|^2 <= |R phi|^2 / (1 - eta), see rounding.py.
    influence = upward(proof.train.true_norms**2 / (1 - proof.eta))
    if points == 0:
        return Fraction(0)
    total = math.fsum(np.sort(influence)[count - points :])
    return Fraction(upward(total)) / count if math.isfinite(total) else Fraction(1)


def _added(proof: Proof, points: int, support: float) -> Fraction:
    return points * Fraction(support) ** 2 / len(proof.train.norms)


# Threats that are a radius alone, by their names on the command line.
THREATS = {"w2": Wasserstein2}
