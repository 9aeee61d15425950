"""What may happen to the training distribution; one class per threat.

Every threat comes down to one number: `kappa`. A statement whose natural cosine is c
holds under the threat if c > kappa (certificates.md, section 3). A threat states its
proof in its docstring and bounds its kappa from above in exact rational arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo import checks
from natgeo.certify.bounds import not_below
from natgeo.display import given


@dataclass(frozen=True)
class Wasserstein2:
    """Any distribution of features within order-2 natural Wasserstein distance eps.

        kappa(eps) = eps sqrt(2 - eps^2),      radius(c) = sqrt(1 - sqrt(1 - c^2))

    The ground metric is d_nat(z, z') = norm(w - w'), fixed at the empirical
    distribution; the support is not bounded. Sound for every ridge, and necessary and
    sufficient when the ridge is 0 and the features have full rank.

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

    def kappa(self) -> float:
        """The smallest double with kappa^2 >= eps^2 (2 - eps^2); infinite from 1 on."""
        if self.eps >= 1:
            return math.inf
        exact = Fraction(self.eps) ** 2
        start = self.eps * math.sqrt(2 - self.eps * self.eps) * (1 - 2.0**-50)
        return not_below(start, exact * (2 - exact))

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


# Adding a threat is one class above and one line here: the contract tests run on it.
THREATS = {"w2": Wasserstein2}
