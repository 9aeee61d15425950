"""What is asked of a pair: its squared gap against its length, for each target.

The closed form asks for gap^2 > limit D2. Under a ridge a pair may also be proven by
the bound of `ridge.py`, which asks for less where u and v are mostly ridge; both
together are one comparison with a shorter length. Where the evaluated points move too,
the length is longer (`moving.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from natgeo.certify import ridge as ridge_bound
from natgeo.certify.bounds import norm_from_below, upward
from natgeo.certify.moving import add_angles
from natgeo.certify.rounding import NaturalRows, Proof

SMALLEST = 2.0**-480  # keeps thresholds and distances clear of underflow
# No length is shortened by more than the square of this, so that none underflows.
_SHORTEST = 2.0**-30


class Moves(NamedTuple):
    """How far each target, and each example of a pair, may move (`Moving`)."""

    target: float
    examples: float


class Pairs(NamedTuple):
    """What the length of pairs depends on; arrays of one shape.

    Attributes:
        distance: upper bounds of squared natural distances D2.
        shares: upper bounds of a_v^2 (`ridge.py`), or None if they are not used.
        moves: upper bounds of how far v = r_i w_i - r_j w_j moves, or None.
    """

    distance: np.ndarray
    shares: np.ndarray | None = None
    moves: np.ndarray | None = None

    def columns(self, which: np.ndarray) -> Pairs:
        """Some columns of a tile of pairs, each as a row."""
        shares, moves = (
            None if part is None else part[:, which].T
            for part in (self.shares, self.moves)
        )
        return Pairs(self.distance[:, which].T, shares, moves)


@dataclass(frozen=True, eq=False)
class Limits:
    """A pair is certified if gap^2 / lengths(pair) > limit. All arrays are [M, G].

    Attributes:
        limit: what the quotient must exceed; infinite where nothing can hold.
        own: upper bounds of a_u^2 of the target.
        root: with `flat` and `slope`, the bound under a ridge as a share of what the
            closed form needs: root sqrt(y) + flat + slope y, y = a_u^2 + a_v^2.
        flat: see `root`.
        slope: see `root`.
        sine: upper bound of sin(K + a), the angle by which M and the target turn.
        eta: the proven whitening error.
    """

    limit: np.ndarray
    own: np.ndarray
    root: np.ndarray
    flat: np.ndarray
    slope: np.ndarray
    sine: np.ndarray
    eta: float

    def lengths(self, pairs: Pairs, at: Any) -> np.ndarray:
        """The denominator for the targets and thresholds `at` of the arrays."""
        if pairs.moves is not None:
            return self._turned(pairs.distance, pairs.moves, at)
        if pairs.shares is None:
            return pairs.distance
        share = pairs.shares + self.own[at]
        part = np.sqrt(share)
        part *= self.root[at]
        part += self.flat[at]
        share *= self.slope[at]
        part += share
        # No bound is infinite, or NaN; then the closed form is all there is.
        return pairs.distance * np.fmin(np.square(part, out=part), 1.0)

    def apart(self, norms: np.ndarray, moves: np.ndarray, at: Any) -> np.ndarray:
        """For each example of norm n that moves by m its part of a root of a length."""
        sine = self.sine[at]
        cosine = np.sqrt((1 - sine) * (1 + sine))
        needed = upward(sine * norms + moves / cosine)
        return upward((needed + self.eta * norms) / (1 - self.eta))

    def _turned(self, distance: np.ndarray, moves: np.ndarray, at: Any) -> np.ndarray:
        """Where v turns as well; the unit is |u|^2 instead of |u|^2 sin^2.

        With S = sin(K + a), C = cos(K + a), D = |v| and m how far v moves, angles add
        up to less than a right one if D > m / C, and then c > sin(K + a + b) asks for

            c D > S sqrt(D^2 - m^2) + C m.

        The right side grows with D and m, and is at least m / C where D is. As c D is
        at most D, asking for more than m / C too asks for D > m / C.
        """
        sine = self.sine[at]
        cosine = np.sqrt((1 - sine) * (1 + sine))
        whole = upward(np.sqrt(distance))
        rest = np.sqrt(np.maximum((whole - moves) * (whole + moves), 0))
        needed = upward(sine * rest + cosine * moves)
        with np.errstate(divide="ignore"):  # no cosine: nothing is certified
            needed = np.maximum(needed, upward(moves / cosine))
        return np.square(upward((needed + self.eta * whole) / (1 - self.eta)))


def asked(
    proof: Proof,
    targets: NaturalRows,
    kappas: Sequence[float],
    radii: Sequence[float | None] | None = None,
    moves: Moves | None = None,
) -> Limits:
    """What is asked of each target at each kappa.

    The last factor covers the roundings of the square, of the length and of the
    quotient that is compared with the limit.

    Args:
        proof: the rounding proof of the geometry.
        targets: natural rows of the targets, [M, K].
        kappas: thresholds of the threat to the covariance.
        radii: the order-2 radius of each, None where it is not of that threat.
        moves: how far the points of a pair move, if they do.
    """
    shape = len(targets.rows), len(kappas)
    needed = np.array([proof.needed_cosine(kappa) for kappa in kappas])
    sine = np.zeros(shape)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if moves is not None:
            sine = _turned(proof, targets, kappas, moves)
            # The angle is in the length; beyond a right one nothing can hold.
            needed = np.where(sine < 1, 1.0, np.inf)
        sizes = targets.true_norms
        squared = upward(sizes[:, None] * needed) ** 2
        # A gap is at most this; where its square could overflow nothing is certified.
        reach = 2 * sizes * np.max(proof.weighted.true_norms)
        squared[~(reach < 2.0**500)] = np.inf
        limit = np.maximum(squared, SMALLEST) * (1 + 2.0**-39)
        own, curves = np.ones(len(sizes)), np.full((3, len(kappas)), np.inf)
        if _by_ridge(proof, radii):
            own = ridge_bound.shares(proof, targets)
            for place, radius in enumerate(radii or []):
                if radius is not None and 0 < radius < 1:
                    found = ridge_bound.curve(proof.eta, radius)
                    curves[:, place] = upward(found / needed[place])
            curves[1] = np.maximum(curves[1], _SHORTEST)
    own = np.broadcast_to(own[:, None], shape)
    root, flat, slope = (np.broadcast_to(curve, shape) for curve in curves)
    sine, eta = np.minimum(sine, 1.0), min(proof.eta, 1.0)
    return Limits(limit, own, root, flat, slope, sine, eta)


def ridge_rows(
    proof: Proof, radii: Sequence[float | None] | None
) -> NaturalRows | None:
    """The ridge part of the training rows, if it can prove anything."""
    if not _by_ridge(proof, radii):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ridge_bound.ridge_rows(proof, proof.weighted)


def example_moves(proof: Proof, moves: Moves | None) -> np.ndarray | None:
    """How far each weighted training example moves, [N], in whitened coordinates."""
    if moves is None:
        return None
    stretch = math.sqrt(1 + proof.eta) if proof.holds else math.inf
    sizes = np.abs(proof.geometry.weights) * moves.examples
    return upward(sizes * stretch)


def _by_ridge(proof: Proof, radii: Sequence[float | None] | None) -> bool:
    useful = proof.geometry.ridge > 0 and proof.holds and radii is not None
    return useful and any(radius is not None for radius in radii or [])


def _turned(
    proof: Proof, targets: NaturalRows, kappas: Sequence[float], moves: Moves
) -> np.ndarray:
    """Upper bounds of sin(K + a) of each target, [M, G]; infinite beyond pi / 2."""
    found = np.full((len(targets.rows), len(kappas)), np.inf)
    if not proof.holds:
        return found
    for target, place in np.ndindex(*found.shape):
        turn = 0.0
        if moves.target > 0:
            # |u|^2 >= |Ru|^2 / (1 + eta), see rounding.py.
            long = norm_from_below(targets.rows[target]) - targets.errors[target]
            turn = float(upward(moves.target * math.sqrt(1 + proof.eta) / long))
            turn = turn if long > 0 else math.inf
        found[target, place] = add_angles(float(kappas[place]), turn)
    return found
