"""Which of two training examples influences a target more, certified with retraining.

A pair (i, j) is certified if I(i, t) - I(j, t) keeps its sign on every distribution of
the ball of `proven_interval`. The difference is one functional, so what moves both
influences together does not count against it (`differences.py`); where disjoint
intervals prove more, they count too. Ties and pairs without a proof are undecided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.verdict import CERTIFIED, REFUTED, UNDECIDED
from natgeo.convex.attack import Attack, attack
from natgeo.convex.differences import Smooth, Squared, smooth, squared
from natgeo.convex.intervals import ProvenIntervals, guarantee, proven_interval
from natgeo.convex.outputs import Targets

_BLOCK = 256


@dataclass(frozen=True, eq=False)
class InfluenceVerdict:
    """What is proven about one pair of training examples.

    Attributes:
        status: "certified", "refuted" (retraining on the attached data breaks the
            order) or "undecided" (no proof found; not evidence that it is fragile).
        claim: the order in words.
        reason: why it is undecided, or empty.
        attack: the perturbed data that refute it, or None.
    """

    status: str
    claim: str
    reason: str = ""
    attack: Attack | None = None

    def __bool__(self) -> bool:
        raise TypeError(
            "A verdict has three values: compare verdict.status with 'certified', "
            "'refuted' or 'undecided'."
        )


@dataclass(frozen=True, eq=False)
class InfluenceRanking:
    """Certificates for the order of influences on one target.

    All certificates hold for the same ball, so they hold together, and so do ranks.

    Attributes:
        target: the one target.
        intervals: the proven interval of every example.
        pairwise: bounds pairs by differences.
    """

    target: Targets
    intervals: ProvenIntervals
    pairwise: Squared | Smooth

    @property
    def pairs(self) -> int:
        """Number of unordered pairs of examples."""
        n = len(self.intervals.train)
        return n * (n - 1) // 2

    @cached_property
    def _decided(self) -> tuple[np.ndarray, np.ndarray]:
        """How many examples are certified above and below each, [B] both."""
        n = len(self.intervals.train)
        above, below = np.zeros((2, n), np.int64)
        for start in range(0, n, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, n))
            signs = self._signs(rows)
            above[rows], below[rows] = (signs < 0).sum(1), (signs > 0).sum(1)
        return above, below

    @property
    def fraction(self) -> float:
        """Share of all pairs whose order is certified; 0 if there are none."""
        return float(self._decided[1].sum() / max(self.pairs, 1))

    @property
    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Proven lowest and highest rank of each example, [B]; 1 is the largest."""
        above, below = self._decided
        return 1 + above, len(above) - below

    @property
    def guarantee(self) -> str:
        """What a certified order says, in words."""
        found = self.intervals
        return (
            "A certified pair keeps the order of its influences, and a rank stays in "
            "its interval, all at once. "
            + guarantee(found.model, found.radius, 0, found.output)
        )

    def verdict(
        self, *, above: int, below: int, attacked: bool = False, **options: Any
    ) -> InfluenceVerdict:
        """Whether one example's influence stays above another's.

        Args:
            above: place in `intervals.train` of the example claimed to be higher.
            below: place of the other one.
            attacked: look for perturbed data that break an unproven order.
            options: for `attack`.

        Raises:
            ArgumentError: for places out of range.
        """
        n = len(self.intervals.train)
        i, j = checks.index("above", above, n), checks.index("below", below, n)
        first, second = (int(self.intervals.train[place]) for place in (i, j))
        claim = (
            f"training example {first} has a larger influence on the "
            f"{self.target.output} of the target than example {second}"
        )
        if self._signs(np.array([i]))[0, j] > 0:
            return InfluenceVerdict(CERTIFIED, claim)
        if attacked and i != j:
            eps = self.intervals.radius
            found = attack(
                self.target, first, eps, rival=second, upward=False, **options
            )
            if found.value < 0 and found.cost <= eps:
                return InfluenceVerdict(REFUTED, claim, attack=found)
        reason = "a tie" if i == j else "no proof found at this radius"
        return InfluenceVerdict(UNDECIDED, claim, reason)

    def _signs(self, rows: np.ndarray) -> np.ndarray:
        """1 where the row's example is certified above the column's, -1 below, else 0.

        Compared with "is greater" alone, so that NaN certifies nothing.
        """
        low, high = self.intervals.low, self.intervals.high
        gap, room = self.pairwise.bound(rows)
        up = (gap > room) | (low[rows][:, None] > high[None])
        down = (-gap > room) | (high[rows][:, None] < low[None])
        return up.astype(np.int8) - down.astype(np.int8)


def certify_influence_ranking(
    target: Targets, radius: float, *, train: Any = None, index: int = 0
) -> InfluenceRanking:
    """Certifies the order of the influences of training examples on one target.

    Args:
        target: as in `proven_interval`.
        radius: of the ball, not negative.
        train: the examples to rank; None for all. Squared loss takes thousands; the
            other losses hold N m numbers for each.
        index: which of the targets.

    Raises:
        ArgumentError: as `proven_interval`, or if memory does not hold the gradients.
    """
    intervals = proven_interval(target, train, radius, index=index)
    one = target.take(index)
    if one.model.classes is None:
        return InfluenceRanking(one, intervals, squared(one, intervals))
    return InfluenceRanking(one, intervals, smooth(one, intervals))
