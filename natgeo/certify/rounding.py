"""Proven error terms between the stored features and their computed natural features.

The whitener R ~ L^-1 is an untrusted hint: whatever it is, this module bounds, from the
data, how far R Q R^T is from the identity and how far each computed row is from R phi.
Everything certified rests on the two inequalities below (soundness.md, section 3).

With E = R Q R^T - I and ||E||_2 <= eta < 1, for all x and y:

    |x^T Q^-1 y - (Rx).(Ry)| <= eta / (1 - eta) |Rx| |Ry|

because Q^-1 = R^T (I + E)^-1 R and ||(I + E)^-1 - I|| <= eta / (1 - eta). Hence, if the
whitened cosine (Rx).(Ry) / (|Rx| |Ry|) is at least c_R, the true natural cosine obeys

    c >= c_R - eta (1 + c_R)            whenever the right side is positive,

since the numerator is at least (c_R - eta/(1 - eta)) |Rx||Ry| and the denominator at
most |Rx| |Ry| / (1 - eta).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from natgeo.certify import environment
from natgeo.certify.bounds import TINY, U, gamma, norm, row_norms, upward
from natgeo.errors import UnfitEnvironmentError
from natgeo.geometry.blocks import regular_blocks
from natgeo.geometry.natural import NaturalGeometry

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class NaturalRows:
    """Computed natural rows with proven errors.

    Attributes:
        rows: the computed R x, [B, K], float64.
        norms: upper bounds of the norms of `rows`, [B].
        errors: upper bounds of norm(rows - R x) for the exact x, [B].
    """

    rows: np.ndarray
    norms: np.ndarray
    errors: np.ndarray

    @property
    def true_norms(self) -> np.ndarray:
        """Upper bounds of norm(R x), [B]."""
        return upward(self.norms + self.errors)

    def take(self, indices: np.ndarray | slice) -> NaturalRows:
        """The rows at `indices`."""
        return NaturalRows(
            self.rows[indices], self.norms[indices], self.errors[indices]
        )

    def scaled(self, factors: np.ndarray) -> NaturalRows:
        """Rows of R (f_i x_i) for exact factors f, [B]."""
        size = np.abs(factors)
        return NaturalRows(
            self.rows * factors[:, None],
            upward(size * self.norms * (1 + 2 * U)),
            upward(size * (self.errors + U * self.norms)),
        )


@dataclass(frozen=True, eq=False)
class Proof:
    """What is proven about the rounding errors of one geometry.

    Attributes:
        geometry: the geometry it is about.
        eta: bound of ||R Q R^T - I||_2; nothing is certified unless eta < 1.
        train: natural rows of the training set without residual weights, [N, K].
        weighted: the same with each row times its residual weight; for statements.
        whitener_norm: upper bound of the Frobenius norm of R.
    """

    geometry: NaturalGeometry
    eta: float
    train: NaturalRows
    weighted: NaturalRows
    whitener_norm: float

    @property
    def holds(self) -> bool:
        """Whether Q is proven positive definite, so that verdicts can be issued."""
        return bool(self.eta < 1)

    @property
    def stretch(self) -> float:
        """Upper bound of natural norms over whitened ones, 1 / sqrt(1 - eta)."""
        return float(upward(1 / np.sqrt(1 - self.eta))) if self.holds else np.inf

    def whiten(
        self, rows: np.ndarray, formation: np.ndarray | float = 0.0
    ) -> NaturalRows:
        """Natural rows of float64 vectors x, [B, K].

        Args:
            rows: vectors x as computed.
            formation: bounds of norm(x - exact x), for vectors that are themselves
                rounded, [B] or a scalar.
        """
        whitened = rows @ self.geometry.whitener.T
        gain = self.whitener_norm
        errors = gamma(rows.shape[1]) * row_norms(rows) * gain + formation * gain
        return NaturalRows(whitened, row_norms(whitened), upward(errors))

    def needed_cosine(self, kappa: float) -> float:
        """The whitened cosine that proves a natural cosine above kappa.

        c_R (1 - eta) - eta > kappa if c_R > (kappa + eta) / (1 - eta); rounded up.
        """
        if not self.holds:
            return np.inf
        return float(upward((kappa + self.eta) / (1 - self.eta)))


def prove(geometry: NaturalGeometry, *, hold: bool = True) -> Proof:
    """Bounds the rounding errors of a geometry from its stored features.

    Args:
        geometry: the natural geometry of the training set.
        hold: keep the natural rows, [N, K]. Without them, for statements that stream
            their rows, `train.rows` is [N, 0] and one block is held at a time.

    Raises:
        UnfitEnvironmentError: if float64 arithmetic or a matrix product is not sound
            on this machine.
    """
    environment.require_sound_arithmetic()
    with np.errstate(over="ignore", invalid="ignore"):
        return _prove(geometry, hold)


def _prove(geometry: NaturalGeometry, hold: bool) -> Proof:
    n, k = geometry.train.shape
    whitener, ridge = geometry.whitener, geometry.ridge
    gain = norm(whitener)

    raw, norms = [], []
    gram, blocks = np.zeros((k, k)), 0
    for features, rows in _checked_blocks(geometry, hold):
        raw.append(row_norms(features))
        norms.append(row_norms(rows))
        gram += rows.T @ rows
        blocks += 1
    raw_norms = np.concatenate(raw)
    errors = upward(gamma(k) * raw_norms * gain)
    natural = geometry.natural if hold else np.empty((n, 0))
    train = NaturalRows(natural, np.concatenate(norms), errors)

    # E as computed, then what its computation can have lost: the sum of n outer
    # products in blocks, the division, the ridge term and their sum.
    computed = norm(gram / n + ridge * (whitener @ whitener.T) - np.eye(k))
    total = norm(train.norms)
    eta1 = upward(
        computed / (1 - 2 * U)
        + gamma(min(n, _BLOCK) + blocks + 3) * total * total / n
        + gamma(k + 4) * ridge * gain * gain
        + TINY
    )
    # The rows are themselves off by dY: ||Y^T Y - X^T X|| <= 2 ||X|| ||dY|| + ||dY||^2.
    rho = upward(norm(train.errors) / np.sqrt(n))
    eta = float(upward(eta1 + 2 * rho * np.sqrt(1 + eta1) + rho * rho))
    column = geometry.train.column("weights") if hold else None
    weighted = train if column is None else train.scaled(geometry.weights)
    return Proof(
        geometry,
        eta if np.isfinite(eta) else np.inf,
        train,
        weighted,
        gain,
    )


def _checked_blocks(
    geometry: NaturalGeometry, hold: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features and natural rows, `_BLOCK` at a time, float64.

    Freivalds' check of the whitening product on a random sign vector is part of it.

    Raises:
        UnfitEnvironmentError: if the large product disagrees with two small ones.
    """
    k = geometry.width
    signs = np.random.default_rng(k).choice([-1.0, 1.0], k)
    shadow = geometry.whitener.T @ signs
    sizes = np.abs(geometry.whitener).T @ np.ones(k)
    start = 0
    for block in regular_blocks(geometry.train.blocks(_BLOCK), _BLOCK):
        rows = np.asarray(block, np.float64)
        stop = start + len(rows)
        natural = geometry.natural[start:stop] if hold else rows @ geometry.whitener.T
        room = upward(gamma(4 * k) * (np.abs(rows) @ sizes) * 2)
        # An overflow gives NaN here and an infinite eta later: undecided, not unfit.
        if (np.abs(natural @ signs - rows @ shadow) > room).any():
            raise UnfitEnvironmentError(
                "A matrix product on this machine does not agree with the same product "
                "by vectors; no verdict can be issued. Run `natgeo doctor`."
            )
        yield rows, natural
        start = stop
