"""The least value of a bilinear form over the order-2 ball, proven.

With s = u.v and n = |u| |v| in natural coordinates (certificates.md, section 3), the
form u^T M v is at least

    min { A / s1^2 - B / s2^2 : (s1 - 1)^2 + (s2 - 1)^2 <= eps^2 },
    A = (n + s) / 2,   B = (n - s) / 2

(von Neumann's trace inequality; the proof is in `threats.Wasserstein2`), and this is
attained at zero ridge. Three facts make the minimum one-dimensional and monotone.

(1) A, B >= 0, so the value falls with s1 and rises with s2: mirrored at 1 and pushed
outwards, every point of the disc is beaten by one of the arc s1 = 1 + eps x,
s2 = 1 - eps y, x^2 + y^2 = 1, x, y >= 0. With x = (1 - t^2) / (1 + t^2) and
y = 2t / (1 + t^2), t in [0, 1], no sine is needed; x falls and y rises with t.

(2) On a < t < b the value is at least A / s1(a)^2 - B / s2(b)^2. Its slope in t has the
sign of A y s2^3 - B x s1^3, which lies between A y(a) s2(b)^3 - B x(a) s1(a)^3 and
A y(b) s2(a)^3 - B x(b) s1(b)^3. Where that sign is known, the least value is at an end.

(3) The coefficient of s, (1/s1^2 + 1/s2^2) / 2, is positive, and that of n,
(1/s1^2 - 1/s2^2) / 2, is not: a lower bound of s and an upper bound of n give a lower
bound of the minimum. As a minimum of linear functions it is concave in s, so a chord
between two of its lower bounds is one as well.

Cells of t are halved until their bound is within 2^-44 of the best value seen. Every
cell, finished early or not, counts with its own lower bound, so that the result is one
whatever the steering does.

Rounding. Cell ends are dyadic numbers of few bits, hence exact. x, y and eps y carry at
most 8 relative roundings, s1 at most 10, so that A / s1^2 is off by less than 2^-48 of
itself; s2 is bounded through 1 - eps y, where only the last subtraction can cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from natgeo.certify.bounds import TINY

_DOWN, _UP = 1 - 2.0**-47, 1 + 2.0**-47
_CLOSE = 2.0**-44
_HALVINGS = 50  # a cell end then has at most 50 bits
_NODES = 4097


def least(scores: np.ndarray, norms: np.ndarray, eps: float) -> np.ndarray:
    """Lower bounds of the least value of forms over the ball, [P].

    Args:
        scores: lower bounds of s = u.v, [P].
        norms: upper bounds of n = |u| |v|, [P].
        eps: radius; from 1 on nothing is known and the result is -inf.
    """
    scores, norms = np.broadcast_arrays(np.float64(scores), np.float64(norms))
    out = np.full(scores.shape, -np.inf)
    known = np.isfinite(scores) & np.isfinite(norms)
    if eps < 1:
        # Norms are brought between 1/2 and 1 by powers of two, so that no product of
        # the search can underflow; only the way back can round, by one step.
        exponents = np.frexp(norms[known])[1]
        s, n = (np.ldexp(x[known], -exponents) for x in (scores, norms))
        with np.errstate(over="ignore"):
            found = np.ldexp(_search(*_parts(s, n), eps), exponents)
        out[known] = np.nextafter(found, -np.inf)
    return out


def least_quick(scores: np.ndarray, norms: np.ndarray, eps: float) -> np.ndarray:
    """The same bounds, looser by about eps / 10^8 of the norms, for millions of forms.

    Interpolates n h(s / n) between exact nodes; h is concave, so chords lie below it.
    """
    scores, norms = np.broadcast_arrays(np.float64(scores), np.float64(norms))
    heights = _nodes(float(eps))
    known = np.isfinite(scores) & np.isfinite(norms) & (norms > 0)
    with np.errstate(all="ignore"):
        # 2^-50 covers the roundings of the quotient and of the place: both stay below
        # the true ones, where h, which rises, is lower. The nodes are exact.
        cosine = np.clip(scores / np.where(known, norms, 1) - 2.0**-50, -1, 1)
        cosine = np.where(known, cosine, -1)
        place = (cosine + 1) * ((_NODES - 1) / 2)
        index = np.minimum(place.astype(np.int64), _NODES - 2)
        share = place - index
        left, right = heights[index], heights[index + 1]
        height = left * (1 - share) + right * share
        # Rounding of the chord; all heights of one cell are about as large.
        height -= 2.0**-48 * (np.abs(left) + np.abs(right))
        value = norms * height
        value -= 2.0**-50 * np.abs(value) + TINY
    zero = (norms == 0) & np.isfinite(scores) & (eps < 1)
    known &= ~np.isnan(value)
    return np.where(known, value, np.where(zero, -TINY, -np.inf))


def _parts(scores: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and B, each off by at most one relative rounding."""
    # |s| <= n holds for the true values, so clipping keeps a lower bound of s.
    scores = np.clip(scores, -norms, norms)
    return norms / 2 + scores / 2, norms / 2 - scores / 2


@dataclass(frozen=True, eq=False)
class _Points:
    """Bounds of the arc at some t: s1 and s2 rounded both ways, x and y."""

    x: np.ndarray
    y: np.ndarray
    stretched: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _points(t: np.ndarray, eps: float) -> _Points:
    square = 1 + t * t
    x, y = (1 - t) * (1 + t) / square, 2 * t / square
    short = eps * y
    # 1 - z loses one relative rounding of its own.
    low = np.maximum((1 - short * _UP) * (1 - 2.0**-51), 0)
    high = (1 - short * _DOWN) * (1 + 2.0**-51)
    return _Points(x, y, 1 + eps * x, low, high)


def _value(
    rising: np.ndarray, falling: np.ndarray, s1: np.ndarray, s2: np.ndarray
) -> np.ndarray:
    """Lower bound of A / s1^2 - B / s2^2 for s1 as computed and s2 from below."""
    value = rising / (s1 * s1) * _DOWN - falling / (s2 * s2) * _UP
    value = np.nextafter(value, -np.inf) - TINY
    return np.where(np.isnan(value), -np.inf, value)


def _search(rising: np.ndarray, falling: np.ndarray, eps: float) -> np.ndarray:
    """Branch and bound over t for every pair (A, B)."""
    out, best = np.full(len(rising), np.inf), np.full(len(rising), np.inf)
    which = np.arange(len(rising))
    start, end = np.zeros(len(rising)), np.ones(len(rising))
    for step in range(_HALVINGS + 1):
        a, b = rising[which], falling[which]
        with np.errstate(all="ignore"):
            low, seen = _bound(a, b, start, end, eps)
            np.minimum.at(best, which, seen)
            found = best[which]
            room = _CLOSE * (a + b + np.abs(found))
            # Not "low < ..." alone: a bound of -inf must be refined, not believed.
            finished = (low >= found - room) | (step == _HALVINGS)
        np.minimum.at(out, which[finished], low[finished])
        which, start, end = which[~finished], start[~finished], end[~finished]
        middle = (start + end) / 2
        which = np.concatenate([which, which])
        start, end = np.concatenate([start, middle]), np.concatenate([middle, end])
        if not len(which):
            break
    return out


def _bound(
    rising: np.ndarray,
    falling: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower bounds on cells of t, and the least value seen at their ends."""
    left, right = _points(start, eps), _points(end, eps)
    low = _value(rising, falling, left.stretched, right.low)
    at_left = _value(rising, falling, left.stretched, left.low)
    at_right = _value(rising, falling, right.stretched, right.low)
    grows = (
        rising * left.y * right.low**3 * _DOWN
        > falling * left.x * left.stretched**3 * _UP
    )
    falls = (
        rising * right.y * left.high**3 * _UP
        < falling * right.x * right.stretched**3 * _DOWN
    )
    low = np.where(grows, at_left, np.where(falls, at_right, low))
    return low, np.minimum(at_left, at_right)


@lru_cache(maxsize=16)
def _nodes(eps: float) -> np.ndarray:
    """Lower bounds of h at equally spaced cosines from -1 to 1."""
    heights = least(np.linspace(-1, 1, _NODES), np.ones(_NODES), eps)
    heights.flags.writeable = False
    return heights
