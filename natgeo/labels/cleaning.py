"""What cleaning bought: the same training run before, after, and with a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.labels.sources import checked_labels

ARMS = ("before", "after", "removed", "removed at random")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Test accuracy of the same training run on four versions of the labels.

    Attributes:
        accuracy: name -> test accuracy of each seed, [S]: `before` (given labels),
            `after` (cleaned labels), `removed` (without the examples whose label
            changed), `removed at random` (without as many others, drawn at random).
        changed: how many labels the cleaning changed.
    """

    accuracy: dict[str, np.ndarray]
    changed: int

    def mean(self, arm: str) -> float:
        """Mean test accuracy of an arm over the seeds."""
        return float(self.accuracy[arm].mean())

    @property
    def gain(self) -> np.ndarray:
        """Test accuracy after cleaning minus before, seed by seed, [S]."""
        return np.asarray(self.accuracy["after"] - self.accuracy["before"])

    def describe(self) -> str:
        """The comparison in words."""
        seeds = len(self.accuracy["before"])
        arms = ", ".join(f"{name} {100 * self.mean(name):.1f} %" for name in ARMS)
        spread = ""
        if seeds > 1:
            spread = f", standard deviation {100 * self.gain.std(ddof=1):.1f}"
        return (
            f"Test accuracy with {self.changed} labels changed ({seeds} seed"
            f"{'' if seeds == 1 else 's'}): {arms}. Cleaning bought "
            f"{100 * self.gain.mean():+.1f} points{spread}."
        )


def compare_cleaning(
    train: Callable[[Any, np.ndarray, int], Callable[[Any], Any]],
    x: Any,
    given: Any,
    cleaned: Any,
    x_test: Any,
    y_test: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
) -> Comparison:
    """Retrains before and after cleaning, and with random removal of as many.

    Args:
        train: `train(x, y, seed)` -> a function from inputs to predicted labels, [N],
            or to logits, [N, classes].
        x: training inputs, [N, ...].
        given: labels before cleaning, [N].
        cleaned: labels after cleaning, [N].
        x_test: test inputs, [M, ...].
        y_test: test labels that are to be trusted, [M].
        seeds: one run of each arm for each.

    Raises:
        ArgumentError: if no seeds are given.
        DataError: if labels do not fit the inputs, or nothing was changed.
    """
    x, x_test = np.asarray(x), np.asarray(x_test)
    before, after = checked_labels(given, len(x)), checked_labels(cleaned, len(x))
    truth = checked_labels(y_test, len(x_test))
    changed = np.flatnonzero(before != after)
    if not len(changed):
        raise DataError("given and cleaned are the same labels: nothing to compare.")
    if not len(seeds):
        raise ArgumentError("seeds is empty: name at least one.")
    others = np.flatnonzero(before == after)
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        rng = np.random.default_rng(checks.count("seed", seed, low=0))
        drawn = rng.permutation(len(x))[: len(changed)]
        versions = {
            "before": (np.arange(len(x)), before),
            "after": (np.arange(len(x)), after),
            "removed": (others, before),
            "removed at random": (np.setdiff1d(np.arange(len(x)), drawn), before),
        }
        for arm, (rows, labels) in versions.items():
            predict = train(x[rows], labels[rows].astype(np.int32), int(seed))
            said = np.asarray(predict(x_test))
            said = said.argmax(axis=1) if said.ndim == 2 else said
            found[arm].append(float((said == truth).mean()))
    return Comparison(
        {arm: np.array(values) for arm, values in found.items()}, len(changed)
    )
