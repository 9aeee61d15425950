"""Spans: pairs of ends that hold a real number, with every operation rounded outwards.

Each of the operations below computes an end with one correctly rounded operation and
moves it one double outwards, so the exact result stays inside. NaN becomes the whole
line: nothing is known then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Span:
    """Numbers known to lie between `low` and `high`, arrays or scalars of one shape."""

    low: Any
    high: Any

    @classmethod
    def around(cls, middle: Any, room: Any) -> Span:
        """Everything within `room` of `middle`."""
        return _outward(middle - room, middle + room)

    def __add__(self, other: Span) -> Span:
        return _outward(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Span) -> Span:
        return _outward(self.low - other.high, self.high - other.low)

    def __neg__(self) -> Span:
        return Span(-self.high, -self.low)

    def __mul__(self, other: Span) -> Span:
        with np.errstate(over="ignore", invalid="ignore"):
            ends = np.stack(
                [
                    self.low * other.low,
                    self.low * other.high,
                    self.high * other.low,
                    self.high * other.high,
                ]
            )
        return _outward(ends.min(axis=0), ends.max(axis=0))

    @property
    def size(self) -> Any:
        """Upper bounds of the absolute values."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def meet(self, other: Span) -> Span:
        """What two proofs leave together."""
        return Span(np.maximum(self.low, other.low), np.minimum(self.high, other.high))

    def take(self, places: np.ndarray | slice) -> Span:
        """The spans at `places`."""
        return Span(self.low[places], self.high[places])


def _outward(low: Any, high: Any) -> Span:
    low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    unknown = np.isnan(low) | np.isnan(high)
    return Span(np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high))
