"""The certified order of training examples by self-influence, without N x N or N x K.

"i has more self-influence than j" is the sign of u^T M v with u = w_i - w_j and
v = w_i + w_j (certificates.md, section 2). With a = |w_i|^2, b = |w_j|^2, g = w_i.w_j,

    u.v = a - b,      |u|^2 |v|^2 = (a + b)^2 - 4 g^2,

so the order is certified if (a - b)^2 > kappa^2 ((a + b)^2 - 4 g^2), and, since g^2 is
not negative, already if a - b > kappa (a + b). The second test needs norms alone: it is
decided for all pairs by sorting. Only the pairs that it leaves open, those of similar
self-influence, are held against the first, tile by tile along the sorted order. Only
the closed form is used; under a ridge a single verdict may prove a little more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from natgeo import checks
from natgeo.certify.bounds import gamma, row_norms, upward
from natgeo.certify.pairs import products
from natgeo.certify.ranks import TopK, rank_intervals, top_k
from natgeo.certify.rounding import NaturalRows, Proof, prove
from natgeo.certify.threats import Wasserstein2
from natgeo.geometry.natural import KEPT_BYTES, NaturalGeometry, self_influence
from natgeo.progress import Progress

_ROWS, _COLUMNS = 512, 8192
_PART_BYTES = 32 * 2**20  # of natural rows; two parts are held
_LARGEST = 2.0**500  # of a squared norm; its square cannot overflow
_SMALLEST = 2.0**-900
_DOWN = 1 - 2.0**-40  # covers the few roundings of a lower bound


@dataclass(frozen=True, eq=False)
class SelfInfluenceOrder:
    """What is proven about the order of the training examples by self-influence.

    All of it holds for the same ball, so it holds together.

    Attributes:
        proof: the rounding proof, without the natural rows.
        threat: the order-2 natural ball.
        values: self-influence as computed, [N], float64.
        below: how many examples are certified to have less than each one, [N].
        above: how many are certified to have more, [N].
    """

    proof: Proof
    threat: Wasserstein2
    values: np.ndarray
    below: np.ndarray
    above: np.ndarray

    @property
    def pairs(self) -> int:
        """Number of unordered pairs, N (N - 1) / 2."""
        return len(self.values) * (len(self.values) - 1) // 2

    @property
    def fraction(self) -> float:
        """Share of all pairs whose order is certified; 0 if there are none."""
        return int(self.below.sum()) / max(self.pairs, 1)

    def ranks(self) -> np.ndarray:
        """Certified [lowest, highest] rank of every example, [N, 2]; 1 is the most."""
        return rank_intervals(self.above, self.below)

    def top(self, count: int) -> TopK:
        """Which examples are certified to be in, and out of, the `count` highest."""
        return top_k(checks.count("count", count), self.above, self.below)


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Proven bounds of |R phi|^2, the largest first.

    Attributes:
        order: index of each example, [N].
        low: lower bounds, [N].
        high: upper bounds, [N].
        floor: above j by norms alone if floor_i > ceiling_j, [N].
        ceiling: see `floor`, [N].
    """

    order: np.ndarray
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray
    ceiling: np.ndarray


def certify_self_influence(
    geometry: NaturalGeometry, eps: float, *, progress: bool = False
) -> SelfInfluenceOrder:
    """Proves the order of the training examples by self-influence, as far as it goes.

    Holds one tile of pairs and a few numbers for each example; natural features only if
    all of them fit into 256 MiB. The time grows with the number of pairs of similar
    self-influence, within about 2 sqrt(2) eps of each other.

    Args:
        geometry: the natural geometry of the training set.
        eps: radius of the order-2 natural ball; nothing is certified from 1 on.
        progress: show a bar on standard error if it takes over a second.

    Raises:
        ArgumentError: for a radius that is negative, not finite or not a number.
        UnfitEnvironmentError: if this machine's arithmetic fails the self-test.
    """
    threat = Wasserstein2(eps)
    proof = prove(geometry, hold=_is_held(geometry))
    values = self_influence(geometry)
    with np.errstate(over="ignore", invalid="ignore"):
        needed = proof.needed_cosine(threat.kappa())
        ranked = _ranked(proof, values, needed)
        below, above = _by_norms(ranked)
        if np.isfinite(needed):
            for winners, losers, first, second in _by_products(
                proof, ranked, needed, progress
            ):
                below[first] += winners
                above[second] += losers
    original = np.argsort(ranked.order)
    return SelfInfluenceOrder(proof, threat, values, below[original], above[original])


def _is_held(geometry: NaturalGeometry) -> bool:
    n, k = geometry.train.shape
    return "natural" in vars(geometry) or 8 * n * k <= KEPT_BYTES


def _ranked(proof: Proof, values: np.ndarray, needed: float) -> _Sorted:
    """Bounds of squared norms and of both sides of the test by norms, sorted."""
    width = proof.geometry.width
    order = np.argsort(-values, kind="stable")
    norms, errors = proof.train.norms[order], proof.train.errors[order]
    squares = values[order]
    root = np.sqrt(squares) * (1 - gamma(width + 4)) * _DOWN - errors
    # Below 2^-900 underflow may have added to the computed square.
    low = np.where(squares > _SMALLEST, np.square(np.maximum(root, 0)) * _DOWN, 0.0)
    high = upward(np.square(norms + errors))
    usable = (high < _LARGEST) & np.isfinite(low)
    low, high = np.where(usable, low, -np.inf), np.where(usable, high, np.inf)
    # a - b > needed (a + b), with a - needed a rounded down and b + needed b up.
    reach = upward(needed * high)
    floor = np.nextafter(low - reach, -np.inf)
    return _Sorted(order, low, high, floor, upward(high + reach))


def _by_norms(ranked: _Sorted) -> tuple[np.ndarray, np.ndarray]:
    """Examples certified below, and above, each one by norms alone, [N] each."""
    below = np.searchsorted(np.sort(ranked.ceiling), ranked.floor, side="left")
    floors = np.sort(ranked.floor)
    above = len(floors) - np.searchsorted(floors, ranked.ceiling, side="right")
    return below.astype(np.int64), above.astype(np.int64)


def _by_products(
    proof: Proof, ranked: _Sorted, needed: float, progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, slice, slice]]:
    """Pairs that the norms leave open: how many each row wins, each column loses.

    Columns beyond the last one that any row leaves open are not visited.
    """
    count, width = len(ranked.order), proof.geometry.width
    size = max(_ROWS, min(_COLUMNS, _PART_BYTES // (8 * width)))
    # From q on, no ceiling is above this.
    reached = np.maximum.accumulate(ranked.ceiling[::-1])[::-1]
    with Progress("certifying the order", count, visible=progress) as bar:
        for left in range(0, count, size):
            top = slice(left, min(left + size, count))
            rows, least = _rows(proof, ranked, top), ranked.floor[top].min()
            end = max(int(np.searchsorted(-reached, -least, side="right")), top.stop)
            for right in range(left, end, size):
                part = slice(right, min(right + size, end))
                columns = rows if right == left else _rows(proof, ranked, part)
                part = slice(right, right + len(columns.rows))
                for start in range(top.start, top.stop, _ROWS):
                    inner = slice(start, min(start + _ROWS, top.stop))
                    local = slice(inner.start - left, inner.stop - left)
                    near = _open_columns(reached, ranked.floor[inner], inner, part)
                    if near.stop > near.start:
                        here = slice(near.start - right, near.stop - right)
                        won = _won(
                            (rows.take(local), inner),
                            (columns.take(here), near),
                            ranked,
                            needed,
                        )
                        yield won.sum(axis=1), won.sum(axis=0), inner, near
            bar.advance(top.stop - top.start)


def _open_columns(
    reached: np.ndarray, floors: np.ndarray, rows: slice, part: slice
) -> slice:
    """The columns of a part that some of the rows leave open."""
    end = int(np.searchsorted(-reached, -floors.min(), side="right"))
    return slice(max(part.start, rows.start), min(part.stop, end))


def _rows(proof: Proof, ranked: _Sorted, place: slice) -> NaturalRows:
    """Natural rows of some places of the sorted order, with their errors."""
    geometry, indices = proof.geometry, ranked.order[place]
    if _is_held(geometry):
        natural = geometry.natural[indices]
    else:
        features = np.asarray(geometry.train.rows(indices), np.float64)
        natural = features @ geometry.whitener.T
    # The errors hold for any order of summation; the norms are of these very rows.
    return NaturalRows(natural, row_norms(natural), proof.train.errors[indices])


def _won(
    left: tuple[NaturalRows, slice],
    right: tuple[NaturalRows, slice],
    ranked: _Sorted,
    needed: float,
) -> np.ndarray:
    """Which pairs are certified by products and not by norms, [R, C] booleans.

    Bounds are rounded to the safe side: 2 |g| from below, a + b from above, so that
    their difference bounds (a + b) - 2 |g| from above.
    """
    (rows, a), (columns, b) = left, right
    found, room = products(rows, columns)
    twice = 2 * np.maximum(np.nextafter(np.abs(found) - room, -np.inf), 0)
    total = upward(ranked.high[a, None] + ranked.high[b])
    length = upward(needed * needed * (total - twice) * (total + twice))
    gap = np.maximum(ranked.low[a, None] - ranked.high[b], 0) * _DOWN
    proven = np.square(gap) * _DOWN > length
    return proven & ~(ranked.floor[a, None] > ranked.ceiling[b])
