"""The float64 recipe: many pairs at once, with a proven bound of every rounding.

Any whitener W gives E = W Q W' - I. With norm(E) <= eta < 1 every natural cosine obeys
c >= c_W (1 - eta) - eta for the cosine c_W of whitened vectors, because
Q^-1 = W'(I + E)^-1 W. Here eta and the error of every whitened row are bounded from the
features themselves (`rounding.py`). Written apart from `natgeo.certify`, which it
checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from natgeo.proof.data import Data
from natgeo.proof.rounding import (
    Rows,
    U,
    down,
    float_root,
    gamma,
    joined,
    require_sound_arithmetic,
    row_norms,
    row_norms_below,
    take,
    up,
)

_BLOCK = 1024
_PAIRS = 4096


@dataclass(frozen=True)
class Limit:
    """What a whitened cosine must exceed under one threat.

    Attributes:
        closed: by the closed form.
        eps: radius of an order-2 ball under a positive ridge, or None.
        eta: the proven whitening error.
    """

    closed: float
    eps: float | None
    eta: float

    def needed(self, shares: np.ndarray) -> np.ndarray:
        """By the better of both bounds, for upper bounds of y = a_u^2 + a_v^2, [B].

        T = eps sqrt(y) + eps^2 (h t + g y), with t = 1 / (1 - eps), h = (1 + kappa)/2
        and g = t^2 - 1/2 = 1/2 + t^2 eps (2 - eps).
        """
        if self.eps is None:
            return np.full(np.shape(shares), self.closed)
        eps, t = self.eps, 1 / (1 - self.eps)
        h = (1 + eps * math.sqrt(2 - eps * eps)) / 2
        g = 0.5 + t * t * eps * (2 - eps)
        found = eps * np.sqrt(shares) + eps * eps * (h * t + g * shares)
        return np.fmin(self.closed, up((up(found) + self.eta) / (1 - self.eta)))


class Recipe:
    """The proven whitening of one set of training features.

    Attributes:
        eta: proven bound of the whitening error; nothing holds unless it is below 1.
        train: whitened training features.

    Raises:
        UnfitEnvironmentError: if float64 arithmetic is not sound on this machine.
    """

    def __init__(self, data: Data, whitener: np.ndarray, ridge: float):
        require_sound_arithmetic()
        self._data, self._whitener, self._ridge = data, whitener, ridge
        with np.errstate(over="ignore", invalid="ignore"):
            self._gain = float(row_norms(whitener.reshape(1, -1))[0])
            self.train = joined([self.whiten(x) for x in data.blocks(_BLOCK)])
            self.eta = self._bound_eta(ridge)

    def whiten(self, rows: np.ndarray, formation: np.ndarray | float = 0.0) -> Rows:
        """W x for float64 rows x that are `formation` away from the exact ones."""
        found = rows @ self._whitener.T
        lost = gamma(rows.shape[1]) * row_norms(rows) * self._gain
        return Rows(found, row_norms(found), up(lost + formation * self._gain))

    def norms(self) -> tuple[Fraction, ...]:
        """Upper bounds of all squared natural norms, in falling order.

        |x|^2 in the metric Q^-1 is at most |W x|^2 / (1 - eta).
        """
        if not self.eta < 1:
            return ()
        with np.errstate(over="ignore", invalid="ignore"):
            squares = up(self.train.reach**2 / (1 - self.eta))
        if not np.isfinite(squares).all():
            return ()
        return tuple(Fraction(x) for x in np.sort(squares)[::-1].tolist())

    def proven(
        self, pairs: np.ndarray, kappa_square: Fraction, eps: float | None = None
    ) -> np.ndarray:
        """Of which pairs (t, i, j) it is proven that i keeps its place above j, [P].

        Args:
            pairs: whole numbers, [P, 3].
            kappa_square: the square of what a cosine must exceed.
            eps: radius of an order-2 ball, whose second bound may prove a pair too.
        """
        found = np.zeros(len(pairs), bool)
        if not self.eta < 1 or kappa_square >= 1:
            return found
        limit = self.limit(kappa_square, eps)
        places = {index: place for place, index in enumerate(self._data.targets)}
        rows = np.asarray(list(self._data.targets.values()), np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            targets = self.whiten(rows)
            for start in range(0, len(pairs), _PAIRS):
                part = pairs[start : start + _PAIRS]
                t = np.array([places[index] for index in part[:, 0].tolist()])
                found[start : start + _PAIRS] = self._proven(
                    take(targets, t), part[:, 1:], limit
                )
        return found

    def limit(self, kappa_square: Fraction, eps: float | None) -> Limit:
        """What whitened cosines must exceed; needs eta < 1.

        c >= c_W (1 - eta) - eta > kappa if c_W > (kappa + eta) / (1 - eta).
        """
        useful = eps is not None and 0 < eps < 1 and self._ridge > 0
        closed = float(up((float_root(kappa_square) + self.eta) / (1 - self.eta)))
        return Limit(closed, eps if useful else None, self.eta)

    def shares(self, rows: Rows) -> np.ndarray:
        """Upper bounds of a_x^2, the share of the data in a squared length, [B].

        With z = sqrt(ridge) W'W x it is at most (1 + eta)(1 - |z|^2 / |Wx|^2 + omega),
        omega = eta (3 + 2 eta) / (1 - eta) (natgeo/certify/ridge.py).
        """
        fixed = self.fixed(rows)
        lowest = np.maximum(row_norms_below(fixed.rows) - fixed.errors, 0)
        return self.share_of(lowest, rows.reach)

    def fixed(self, rows: Rows) -> Rows:
        """The part z = sqrt(ridge) W'W x of whitened rows W x that does not move."""
        shrink = math.sqrt(self._ridge) * self._whitener
        found = rows.rows @ shrink
        size = math.sqrt(self._ridge) * self._gain
        # sqrt(ridge) W has spectral norm sqrt(1 + eta) at most.
        lost = gamma(rows.rows.shape[1] + 4) * size * rows.norms
        errors = up(lost + math.sqrt(1 + self.eta) * rows.errors)
        return Rows(found, row_norms(found), errors)

    def share_of(self, fixed: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """The same from lower bounds of |z| and upper bounds of |Wx|."""
        # Squares that overflowed are no lower bounds.
        ratio = np.square(down(np.where(fixed < 2.0**450, fixed, 0) / reach))
        omega = self.eta * (3 + 2 * self.eta) / (1 - self.eta)
        rest = np.maximum(1 - ratio, 0) + 2.0**-50  # the subtraction rounds
        return np.fmin(1.0, up((1 + self.eta) * (rest + omega)))

    def _proven(self, u: Rows, pairs: np.ndarray, limit: Limit) -> np.ndarray:
        """Which whitened cosines exceed the limit; the close ones are whitened anew."""
        found = np.zeros(len(pairs), bool)
        for make in (self._whitened_first, self._subtracted_first):
            rest = np.flatnonzero(~found)
            if len(rest):
                found[rest] = self._exceed(take(u, rest), make(pairs[rest]), limit)
        return found

    def _exceed(self, u: Rows, v: Rows, limit: Limit) -> np.ndarray:
        """By the closed form, and where that fails by the bound under a ridge."""
        found = _exceeds(u, v, limit.closed)
        rest = np.flatnonzero(~found)
        if limit.eps is not None and len(rest):
            left, right = take(u, rest), take(v, rest)
            needed = limit.needed(up(self.shares(left) + self.shares(right)))
            found[rest] = _exceeds(left, right, needed)
        return found

    @cached_property
    def weighted(self) -> Rows:
        """Whitened training features times their residual weights."""
        size, rows = np.abs(self._data.weights), self.train
        with np.errstate(over="ignore", invalid="ignore"):
            found = rows.rows * self._data.weights[:, None]
            lost = size * (rows.errors + 2 * U * rows.norms)
            return Rows(found, row_norms(found), up(lost))

    def target(self, index: int) -> Rows:
        """A whitened target, as a row of its own."""
        row = np.asarray(self._data.targets[index], np.float64)
        return self.whiten(row[None])

    def _whitened_first(self, pairs: np.ndarray) -> Rows:
        """r_i (W x_i) - r_j (W x_j): cheap, and blunt for near duplicates."""
        parts, lost = [], np.zeros(len(pairs))
        for index in pairs.T:
            row, weight = take(self.train, index), self._data.weights[index]
            parts.append(row.rows * weight[:, None])
            lost += np.abs(weight) * (row.errors + 2 * U * row.norms)
        found = parts[0] - parts[1]
        norms = row_norms(found)
        return Rows(found, norms, up(lost + 2 * U * norms))

    def _subtracted_first(self, pairs: np.ndarray) -> Rows:
        """W (r_i x_i - r_j x_j): keeps the digits of near duplicates."""
        parts, lost = [], np.zeros(len(pairs))
        for index in pairs.T:
            rows = np.asarray(self._data.store.rows(index), np.float64)
            weight = self._data.weights[index]
            parts.append(rows * weight[:, None])
            rounded = (np.abs(weight) != 1) * 2 * U
            lost += rounded * np.abs(weight) * row_norms(rows)
        found = parts[0] - parts[1]
        return self.whiten(found, up(lost + 2 * U * row_norms(found)))

    def _bound_eta(self, ridge: float) -> float:
        count, width = self.train.rows.shape
        gram, blocks = np.zeros((width, width)), 0
        for start in range(0, count, _BLOCK):
            part = self.train.rows[start : start + _BLOCK]
            gram += part.T @ part
            blocks += 1
        found = gram / count + ridge * (self._whitener @ self._whitener.T)
        found -= np.eye(width)
        size = float(row_norms(self.train.norms[None])[0])
        # What the sum over rows, the division, the ridge and two additions can lose.
        first = up(
            float(row_norms(found.reshape(1, -1))[0]) / (1 - 2 * U)
            + gamma(min(count, _BLOCK) + blocks + 4) * size * size / count
            + gamma(width + 4) * ridge * self._gain * self._gain
        )
        # The rows are themselves off by D: |(X+D)'(X+D) - X'X| <= 2|X||D| + |D|^2.
        off = up(float(row_norms(self.train.errors[None])[0]) / math.sqrt(count))
        eta = float(up(first + 2 * off * math.sqrt(1 + first) + off * off))
        return eta if math.isfinite(eta) else math.inf


def _exceeds(u: Rows, v: Rows, needed: float | np.ndarray) -> np.ndarray:
    """Whether the whitened cosine of exact rows is proven above `needed`, [B]."""
    product = np.einsum("bk,bk->b", u.rows, v.rows)
    lost = gamma(u.rows.shape[1]) * u.norms * v.norms
    lost = up(lost + u.errors * v.norms + u.norms * v.errors + u.errors * v.errors)
    lowest = np.nextafter(product - lost, -np.inf)
    # NaN and ties compare false.
    return np.asarray(lowest > up(needed * up(u.reach * v.reach)))
