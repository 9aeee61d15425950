"""The float64 recipe: many pairs at once, with a proven bound of every rounding.

Any whitener W gives E = W Q W' - I. With norm(E) <= eta < 1 every natural cosine obeys
c >= c_W (1 - eta) - eta for the cosine c_W of whitened vectors, because
Q^-1 = W'(I + E)^-1 W. Here eta and the error of every whitened row are bounded from the
features themselves, for round-to-nearest double precision: a sum of m products in any
order is off by at most gamma(m) sum |x||y|, gamma(m) = m u / (1 - m u), u = 2^-53
(Higham 2002, section 3.1). Written apart from `natgeo.certify`, which it checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from natgeo.errors import UnfitEnvironmentError
from natgeo.proof.data import Data
from natgeo.proof.exact import root_above

_U = 2.0**-53
_BLOCK = 1024
_PAIRS = 4096


@dataclass(frozen=True, eq=False)
class Rows:
    """Computed rows with upper bounds of their norms, [B], and of their errors, [B]."""

    rows: np.ndarray
    norms: np.ndarray
    errors: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """Upper bounds of the norms of the exact rows."""
        return _up(self.norms + self.errors)


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
        self._data, self._whitener = data, whitener
        with np.errstate(over="ignore", invalid="ignore"):
            self._gain = float(_norms(whitener.reshape(1, -1))[0])
            self.train = _joined([self.whiten(x) for x in data.blocks(_BLOCK)])
            self.eta = self._bound_eta(ridge)

    def whiten(self, rows: np.ndarray, formation: np.ndarray | float = 0.0) -> Rows:
        """W x for float64 rows x that are `formation` away from the exact ones."""
        found = rows @ self._whitener.T
        lost = _gamma(rows.shape[1]) * _norms(rows) * self._gain
        return Rows(found, _norms(found), _up(lost + formation * self._gain))

    def norms(self) -> tuple[Fraction, ...]:
        """Upper bounds of all squared natural norms, in falling order.

        |x|^2 in the metric Q^-1 is at most |W x|^2 / (1 - eta).
        """
        if not self.eta < 1:
            return ()
        with np.errstate(over="ignore", invalid="ignore"):
            squares = _up(self.train.reach**2 / (1 - self.eta))
        if not np.isfinite(squares).all():
            return ()
        return tuple(Fraction(x) for x in np.sort(squares)[::-1].tolist())

    def proven(self, pairs: np.ndarray, kappa_square: Fraction) -> np.ndarray:
        """Of which pairs (t, i, j) it is proven that i keeps its place above j, [P].

        Args:
            pairs: whole numbers, [P, 3].
            kappa_square: the square of what a cosine must exceed.
        """
        found = np.zeros(len(pairs), bool)
        if not self.eta < 1 or kappa_square >= 1:
            return found
        needed = float(_up((_root(kappa_square) + self.eta) / (1 - self.eta)))
        places = {index: place for place, index in enumerate(self._data.targets)}
        rows = np.asarray(list(self._data.targets.values()), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            targets = self.whiten(rows)
            for start in range(0, len(pairs), _PAIRS):
                part = pairs[start : start + _PAIRS]
                t = np.array([places[index] for index in part[:, 0].tolist()])
                found[start : start + _PAIRS] = self._proven(
                    _take(targets, t), part[:, 1:], needed
                )
        return found

    def _proven(self, u: Rows, pairs: np.ndarray, needed: float) -> np.ndarray:
        """Which whitened cosines exceed `needed`; the close ones are whitened anew."""
        proven = _exceeds(u, self._whitened_first(pairs), needed)
        rest = np.flatnonzero(~proven)
        if len(rest):
            again = self._subtracted_first(pairs[rest])
            proven[rest] = _exceeds(_take(u, rest), again, needed)
        return proven

    def _whitened_first(self, pairs: np.ndarray) -> Rows:
        """r_i (W x_i) - r_j (W x_j): cheap, and blunt for near duplicates."""
        parts, lost = [], np.zeros(len(pairs))
        for index in pairs.T:
            row, weight = _take(self.train, index), self._data.weights[index]
            parts.append(row.rows * weight[:, None])
            lost += np.abs(weight) * (row.errors + 2 * _U * row.norms)
        found = parts[0] - parts[1]
        norms = _norms(found)
        return Rows(found, norms, _up(lost + 2 * _U * norms))

    def _subtracted_first(self, pairs: np.ndarray) -> Rows:
        """W (r_i x_i - r_j x_j): keeps the digits of near duplicates."""
        parts, lost = [], np.zeros(len(pairs))
        for index in pairs.T:
            rows = np.asarray(self._data.store.rows(index), np.float64)
            weight = self._data.weights[index]
            parts.append(rows * weight[:, None])
            rounded = (np.abs(weight) != 1) * 2 * _U
            lost += rounded * np.abs(weight) * _norms(rows)
        found = parts[0] - parts[1]
        return self.whiten(found, _up(lost + 2 * _U * _norms(found)))

    def _bound_eta(self, ridge: float) -> float:
        count, width = self.train.rows.shape
        gram, blocks = np.zeros((width, width)), 0
        for start in range(0, count, _BLOCK):
            part = self.train.rows[start : start + _BLOCK]
            gram += part.T @ part
            blocks += 1
        found = gram / count + ridge * (self._whitener @ self._whitener.T)
        found -= np.eye(width)
        size = float(_norms(self.train.norms[None])[0])
        # What the sum over rows, the division, the ridge and two additions can lose.
        first = _up(
            float(_norms(found.reshape(1, -1))[0]) / (1 - 2 * _U)
            + _gamma(min(count, _BLOCK) + blocks + 4) * size * size / count
            + _gamma(width + 4) * ridge * self._gain * self._gain
        )
        # The rows are themselves off by D: |(X+D)'(X+D) - X'X| <= 2|X||D| + |D|^2.
        off = _up(float(_norms(self.train.errors[None])[0]) / math.sqrt(count))
        eta = float(_up(first + 2 * off * math.sqrt(1 + first) + off * off))
        return eta if math.isfinite(eta) else math.inf


def _exceeds(u: Rows, v: Rows, needed: float) -> np.ndarray:
    """Whether the whitened cosine of exact rows is proven above `needed`, [B]."""
    product = np.einsum("bk,bk->b", u.rows, v.rows)
    lost = _gamma(u.rows.shape[1]) * u.norms * v.norms
    lost = _up(lost + u.errors * v.norms + u.norms * v.errors + u.errors * v.errors)
    lowest = np.nextafter(product - lost, -np.inf)
    # NaN and ties compare false.
    return np.asarray(lowest > _up(needed * _up(u.reach * v.reach)))


def require_sound_arithmetic() -> None:
    """Round-to-nearest doubles with subnormals, and a matrix product that adds up.

    Raises:
        UnfitEnvironmentError: if one of these fails on this machine.
    """
    one, half = np.float64(1), np.float64(_U)
    rounds = one + half == 1 and one + np.nextafter(half, 1) == 1 + 2 * _U
    tiny = np.float64(2.0**-1030) * np.float64(2.0**10) == 2.0**-1020
    rng = np.random.default_rng(20251209)
    left, right = rng.integers(-(2**20), 2**20, (2, 130, 130))
    honest = (left.astype(float) @ right.astype(float) == left @ right).all()
    if not (rounds and -one - half == -1 and tiny and honest):
        raise UnfitEnvironmentError(
            "Float64 arithmetic is not sound on this machine, so nothing can be "
            "checked with it. Run `natgeo doctor`."
        )


def _up(value):
    """Above the exact value of an expression in non-negative numbers."""
    return value * (1 + 2.0**-40) + 2.0**-900


def _gamma(count: int) -> float:
    return float(_up(count * _U / (1 - count * _U)))


def _norms(rows: np.ndarray) -> np.ndarray:
    """Upper bounds of the norms of rows, scaled so that no square overflows."""
    exponents = np.frexp(np.abs(rows).max(axis=1))[1]
    scaled = np.ldexp(rows, -exponents[:, None])
    sizes = np.sqrt(np.einsum("bk,bk->b", scaled, scaled))
    return _up(np.ldexp(sizes * (1 + _gamma(rows.shape[1] + 4)), exponents))


def _root(square: Fraction) -> float:
    """A double whose exact square is at least the given one."""
    # Not the root of a double: a square that underflows has a root that does not.
    exact = root_above(square)
    root = float(exact)
    return root if root >= exact else math.nextafter(root, math.inf)


def _take(rows: Rows, index: np.ndarray) -> Rows:
    return Rows(rows.rows[index], rows.norms[index], rows.errors[index])


def _joined(parts: list[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.norms for part in parts]),
        np.concatenate([part.errors for part in parts]),
    )
