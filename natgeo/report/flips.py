"""A figure of stability: certified radius against flips under resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from natgeo.errors import DataError
from natgeo.report.drawing import CERTIFIED, MUTED, RULE, svg


def flips_figure(comparison: Any) -> str:
    """How often pairs flip under resampling, over their certified radius.

    A vertical line marks the radius that half of the resamples stay within. Pairs to
    its left may flip although they are certified at smaller radii: the resamples leave
    those balls.

    Args:
        comparison: from `evaluate.against_certificates`.

    Returns:
        A data URI.

    Raises:
        DataError: if no pair has a certified radius.
    """
    radius, flips = np.asarray(comparison.radius), np.asarray(comparison.flips)
    seen = radius > 0
    if not seen.any():
        raise DataError(
            "No pair of the sample has a certified radius: nothing to draw."
        )
    needed = float(np.median(comparison.distances))

    def draw(axes: Axes) -> None:
        axes.grid(True, color=RULE)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.scatter(
            radius[seen], flips[seen], s=12, color=CERTIFIED, alpha=0.5, linewidths=0
        )
        axes.axvline(needed, color=MUTED, linewidth=1, linestyle=(0, (5, 2)))
        words = f"half of the resamples within {needed:.2g} "
        place: Any = {"xy": (needed, 0.97), "xycoords": axes.get_xaxis_transform()}
        axes.annotate(words, **place, ha="right", va="top", color=MUTED)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("certified radius, natural units")
        axes.set_ylabel("flips under resampling")

    return svg((8.6, 3.7), draw)
