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
from natgeo.certify.bounds import not_below, upward
from natgeo.certify.data_threats import Add, Delete, Replace, Wasserstein1
from natgeo.certify.moving import Moving
from natgeo.certify.rounding import Proof
from natgeo.certify.spectral import spectral_norm
from natgeo.display import given

__all__ = [
    "Add",
    "Delete",
    "Euclidean2",
    "Moving",
    "Replace",
    "Wasserstein1",
    "Wasserstein2",
    "WassersteinInfinity",
]


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


_NORMS: WeakKeyDictionary[Proof, float] = WeakKeyDictionary()


def _whitener_norm(proof: Proof) -> float:
    """Upper bound of ||R||_2; computed once for each proof."""
    if proof not in _NORMS:
        _NORMS[proof] = spectral_norm(proof.geometry.whitener)
    return _NORMS[proof]
