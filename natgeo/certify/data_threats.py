"""Threats that are known through the eigenvalues of M^-1 alone, by the trace.

Few training points that come or go, and moves of order 1 on a bounded support. Their
public place is `natgeo.certify.threats`, whose docstring says what a threat is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo import checks
from natgeo.certify.bounds import TINY, upward
from natgeo.certify.rounding import Proof
from natgeo.display import given


class _Spread(ABC):
    """A threat that is known through the eigenvalues of M^-1 alone."""

    @abstractmethod
    def spreads(self, proof: Proof) -> list[tuple[Fraction, Fraction]]:
        """Intervals [alpha, beta], one of which holds the eigenvalues of any M^-1.

        None at all, or one that reaches 0, if the theorem does not reach this far.
        """

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
