"""Enclosures of x'Q^-1 y, and floors under Q, in exact rationals with no tolerance.

A witness z for a vector x is any guess of Q^-1 x. With r = x - Q z, computed exactly,

    x'Q^-1 y = x'z_y + z_x'r_y + r_x'Q^-1 r_y,    |r_x'Q^-1 r_y| <= |r_x| |r_y| / floor

whenever Q >= floor I (the first two terms use Q z_y = y - r_y). So a good witness gives
a tight enclosure of the form and a bad one a useless enclosure, never a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo.proof.exact import Integers, integers, limbs, root_above


@dataclass(frozen=True, eq=False)
class Solved:
    """A vector x, its witness z, and what is exactly left over.

    Attributes:
        x: the vector, [K].
        z: its witness, [K].
        rest: N (x - Q z), [K].
        slack: upper bound of r'Q^-1 r for r = rest / N.
        count: N.
    """

    x: Integers
    z: Integers
    rest: Integers
    slack: Fraction
    count: int

    def form(self, other: Solved) -> Fraction:
        """x'Q^-1 y without its last term, which `slack` bounds."""
        return self.x.dot(other.z) + self.z.dot(other.rest) / self.count

    def room(self, other: Solved) -> Fraction:
        """Upper bound of the last term."""
        return root_above(self.slack * other.slack)

    def longest(self) -> Fraction:
        """Upper bound of x'Q^-1 x."""
        return self.form(self) + self.slack

    def share(self, ridge: Fraction, floor: Fraction) -> Fraction:
        """Upper bound of a_x^2 = 1 - ridge |Q^-1 x|^2 / x'Q^-1 x.

        Q^-1 x = z + Q^-1 r for r = rest / N, and |Q^-1 r|^2 <= r'Q^-1 r / floor.
        """
        square = self.z.squared()
        lowest = square - 2 * root_above(square * self.slack / floor)
        return 1 - ridge * max(lowest, Fraction(0)) / self.longest()

    def turn_square(self, distance: Fraction) -> Fraction:
        """Upper bound of sin^2 of the angle that a move of x by `distance` makes.

        The term of x'Q^-1 x that `form` leaves out is not negative. 1 if it may be a
        right angle.
        """
        shortest = self.form(self)
        near = distance**2 < shortest
        return distance**2 / shortest if near else Fraction(1)


def solved(
    x: Integers,
    z: Integers,
    applied: Integers,
    count: int,
    ridge: Integers,
    floor: Fraction,
) -> Solved:
    """What a witness leaves over, given Phi'Phi z."""
    rest = x * count - applied - (z * ridge) * count
    slack = rest.squared() / (count * count * floor)
    return Solved(x, z, rest, slack, count)


def is_floor(
    gram: Callable[[], Integers], count: int, ridge: Integers, floor: Fraction
) -> bool:
    """Whether (1/N) gram + ridge I >= floor I > 0 is proven."""
    if 0 < floor <= ridge.entry(0):
        return True
    if not floor > 0:
        return False
    return any(_exceeds(gram(), count, ridge, floor, by) for by in (1.5, 1 + 2.0**-12))


def _exceeds(
    gram: Integers, count: int, ridge: Integers, floor: Fraction, by: float
) -> bool:
    """Whether (1/N) gram + ridge I >= floor I is proven, exactly.

    For any matrix L and any s, if E = N (Q - s I - L L') has norm(E) <= N (s - floor),
    then Q >= s I + L L' - (s - floor) I >= floor I. L is a rounded Cholesky factor, and
    s is `by` times the floor.
    """
    room = by * float(floor)
    if not math.isfinite(room):
        return False
    width = len(gram.values)
    eye = Integers(np.eye(width, dtype=np.int64).astype(object), 0)
    shift = integers(np.array([[room]]))
    target = gram + (eye * ridge) * count - (eye * shift) * count
    guess = _cholesky(target, count)
    if guess is None:
        return False
    factor = limbs(guess)
    rest = target - (factor @ factor.transposed).integers() * count
    slack = Fraction(room) - floor  # room is itself rounded
    return slack > 0 and rest.squared() <= (count * slack) ** 2


def _cholesky(target: Integers, count: int) -> np.ndarray | None:
    """A rounded Cholesky factor of target / N; a guess, believed by nobody."""
    longest = max(int(abs(x)).bit_length() for x in target.values.ravel())
    drop = max(0, longest - 1000)
    rounded = (target.values >> drop).astype(np.float64) / count
    with np.errstate(all="ignore"):
        matrix = np.ldexp(rounded, target.exponent + drop)
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return None
    return factor if np.isfinite(factor).all() else None
