"""The certified fraction from a uniform sample of pairs, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from natgeo import checks
from natgeo.errors import ArgumentError


@dataclass(frozen=True)
class Estimate:
    """Certified fractions estimated from a sample; the truth is within [low, high].

    Each interval holds the exact fraction of its target (and radius) with probability
    of at least `level` over the choice of the sample; not all of them at once.

    Attributes:
        fraction: share of the sampled pairs that is certified, [M] or [M, G].
        low: lower ends of the Clopper-Pearson intervals.
        high: upper ends.
        pairs: how many pairs were drawn, with replacement.
        seed: of the sample.
        level: of each interval.
    """

    fraction: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pairs: int
    seed: int
    level: float


def draw_pairs(size: int, pairs: int, seed: int) -> np.ndarray:
    """Uniform unordered pairs of different indices below `size`, [pairs, 2].

    Drawn with replacement, so that the count of any property of theirs is binomial.
    """
    rng = np.random.default_rng(seed)
    first = rng.integers(0, size, pairs)
    second = rng.integers(0, size - 1, pairs)
    return np.stack([first, second + (second >= first)], axis=1)


def drawn(size: int, pairs: int, seed: int, level: float) -> np.ndarray:
    """`draw_pairs`, after refusing what makes no sample and no interval.

    Raises:
        ArgumentError: for a bad number, or fewer than two training examples.
    """
    pairs = checks.count("pairs", pairs)
    seed = checks.count("seed", seed, low=0)
    if not 0 < checks.nonnegative("level", level) < 1:
        raise ArgumentError(f"level={level!r} must lie between 0 and 1.")
    if size < 2:
        raise ArgumentError("one training example has no pairs to sample.")
    return draw_pairs(size, pairs, seed)


def estimate(counts: np.ndarray, pairs: int, seed: int, level: float) -> Estimate:
    """Fractions and intervals from certified counts among `pairs` sampled pairs.

    The interval of Clopper and Pearson (Biometrika 26, 1934) covers with at least its
    level whatever the truth is.
    """
    rest = (1 - level) / 2
    with np.errstate(invalid="ignore"):  # no success, or no failure
        low = stats.beta.ppf(rest, counts, pairs - counts + 1)
        high = stats.beta.ppf(1 - rest, counts + 1, pairs - counts)
    return Estimate(
        fraction=counts / pairs,
        low=np.where(counts == 0, 0.0, low),
        high=np.where(counts == pairs, 1.0, high),
        pairs=pairs,
        seed=seed,
        level=level,
    )
