"""What is asked of a pair: its squared gap against its length, for each target.

The closed form asks for gap^2 > limit D2. Under a ridge a pair may also be proven by
`ridge.pair_limits`; both together are one comparison with a shorter length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.certify import ridge as ridge_bound
from natgeo.certify.bounds import upward
from natgeo.certify.rounding import NaturalRows, Proof

SMALLEST = 2.0**-480  # keeps thresholds and distances clear of underflow


@dataclass(frozen=True, eq=False)
class Limits:
    """A pair is certified if gap^2 / min(D2, slope D2 + share DA2) > limit.

    D2 is its squared distance and DA2 the moment of the data along it, which matter
    only under a ridge (`ridge.pair_limits`). All arrays are [M, G].
    """

    limit: np.ndarray
    slope: np.ndarray
    share: np.ndarray

    def lengths(
        self, distance: np.ndarray, moved: np.ndarray | None, at: Any
    ) -> np.ndarray:
        """The denominator for the targets and thresholds `at` of the arrays."""
        if moved is None:
            return distance
        # An infinite slope (no proof) may give NaN, which fmin ignores.
        return np.fmin(distance, self.slope[at] * distance + self.share[at] * moved)


def asked(
    proof: Proof,
    targets: NaturalRows,
    kappas: Sequence[float],
    radii: Sequence[float | None] | None = None,
    ridge: NaturalRows | None = None,
) -> Limits:
    """What is asked of each target at each kappa.

    The last factor covers the roundings of the square, of the length and of the
    quotient that is compared with the limit.
    """
    needed = np.array([proof.needed_cosine(kappa) for kappa in kappas])
    slope, share = np.full((2, len(targets.rows), len(kappas)), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = targets.true_norms
        squared = upward(sizes[:, None] * needed) ** 2
        # A gap is at most this; where its square could overflow nothing is certified.
        reach = 2 * sizes * np.max(proof.weighted.true_norms)
        squared[~(reach < 2.0**500)] = np.inf
        limit = np.maximum(squared, SMALLEST) * (1 + 2.0**-39)
        if ridge is not None:
            for place, radius in enumerate(radii or []):
                if radius is not None:
                    found = ridge_bound.pair_limits(proof, targets, ridge, radius)
                    unit = upward(np.square(sizes)) / limit[:, place]
                    # At least 2^-40, so that no length underflows.
                    slope[:, place] = np.maximum(upward(found.alpha * unit), 2.0**-40)
                    share[:, place] = upward(found.beta * unit)
    return Limits(limit, slope, share)


def ridge_rows(
    proof: Proof, radii: Sequence[float | None] | None
) -> NaturalRows | None:
    """The ridge part of the training rows, if it can prove anything."""
    useful = proof.geometry.ridge > 0 and proof.holds and radii is not None
    if not (useful and any(radius is not None for radius in radii or [])):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ridge_bound.ridge_rows(proof, proof.weighted)
