"""What a cosine must exceed under a threat, as exact rationals.

A threat with a closed form has one number, kappa. The order-2 ball under a positive
ridge has a second one, T, that depends on how much of u and v is ridge; and where the
evaluated points move, the angles by which they turn are added (FORMAT.md). Square roots
are bounded from above by whole roots of integers, so that nothing here is rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from natgeo.proof import language
from natgeo.proof.exact import root_above


@dataclass(frozen=True)
class Facts:
    """What the thresholds depend on beside the threat itself.

    Attributes:
        rows: number of training examples N.
        floor: a proven lower bound of the eigenvalues of Q.
        norms: upper bounds of the squared natural norms of all training features, in
            falling order; for the threats of `language.NEED_NORMS`.
    """

    rows: int
    floor: Fraction
    norms: Sequence[Fraction] = ()


def kappa_square(threat: Mapping[str, Any], facts: Facts) -> Fraction | None:
    """The square of the closed form; None if nothing can hold.

    Args:
        threat: as `language.threat` returns it.
        facts: of the data.
    """
    kind = threat["kind"]
    if kind in language.NEED_NORMS and len(facts.norms) != facts.rows:
        return None
    if kind in ("w2", "euclidean2", "moving", "winf"):
        return _order_2(threat, facts)
    support = Fraction(threat.get("support", 0.0))
    if kind == "w1":
        reach = support * Fraction(threat["eps"])
        inside = facts.norms[0] <= support**2
        return (reach / (1 - reach)) ** 2 if inside and 2 * reach < 1 else None
    points = threat["points"]
    gone = Fraction(0)
    if kind != "add":
        gone = sum(facts.norms[:points], gone) / facts.rows
    new = points * support**2 / facts.rows
    if gone >= 1 or (kind != "add" and points >= facts.rows):
        return None
    return ((new + gone) / (2 + new - gone)) ** 2


def _order_2(threat: Mapping[str, Any], facts: Facts) -> Fraction | None:
    """kappa^2 = eps^2 (2 - eps^2) of the natural radius."""
    square = Fraction(threat["eps"]) ** 2
    if threat["kind"] == "euclidean2":
        if not facts.floor > 0:
            return None
        square /= facts.floor
    return square * (2 - square) if square < 1 else None


def ridge_square(eps: Fraction, share: Fraction) -> Fraction:
    """The square of an upper bound of T(eps, share), for 0 <= eps < 1.

    T = eps sqrt(y) + eps^2 (h t + g y), h = (1 + kappa)/2, t = 1 / (1 - eps) and
    g = t^2 - 1/2: natgeo/certify/ridge.py has the proof.

    Args:
        eps: radius of the order-2 ball.
        share: an upper bound of y = a_u^2 + a_v^2.
    """
    h = (1 + root_above(eps**2 * (2 - eps**2))) / 2
    t = 1 / (1 - eps)
    g = t * t - Fraction(1, 2)
    return (eps * root_above(share) + eps**2 * (h * t + g * share)) ** 2


def added_square(sines: Sequence[Fraction]) -> Fraction | None:
    """An upper bound of sin^2 of a sum of angles; None from a right angle on.

    Args:
        sines: squares of the sines of the angles, or upper bounds of them.
    """
    total = Fraction(0)
    for square in sines:
        if total + square >= 1:  # sin^2 x + sin^2 y >= 1: x + y >= pi / 2
            return None
        if 0 in (total, square):
            total += square
            continue
        products = total * (1 - square), square * (1 - total)
        total = sum((root_above(part) for part in products), Fraction(0)) ** 2
    return total if total < 1 else None


def distances(threat: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """How far each target, and each named training example, may move."""
    names = {"moving": ("target", "examples"), "winf": ("eps", "eps")}
    found = names.get(threat["kind"])
    if found is None:
        return Fraction(0), Fraction(0)
    return Fraction(threat[found[0]]), Fraction(threat[found[1]])
