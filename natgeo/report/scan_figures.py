"""Figures of a label scan: how suspicion is distributed, and how detectors do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes

from natgeo.display import count
from natgeo.report.drawing import (
    CERTIFIED,
    LINES,
    MUTED,
    NATURAL,
    RULE,
    drawable,
    percentages,
    svg,
)


def score_histogram(histogram: Mapping[str, Any]) -> str:
    """How many examples have which score, with the end of the review queue marked.

    Args:
        histogram: the `review.histogram` section of a checked document.

    Returns:
        A data URI.
    """
    edges, wrong = histogram["edges"], histogram["wrong"]

    def draw(axes: Axes) -> None:
        places = edges[:-1]
        widths = [b - a for a, b in pairwise(edges)]
        bars: dict[str, Any] = {"width": widths, "align": "edge", "linewidth": 0}
        axes.bar(places, histogram["counts"], color="#9fb3c8", label="all", **bars)
        if wrong is not None:
            axes.bar(places, wrong, color=NATURAL, label="known to be wrong", **bars)
            axes.legend(loc="center", frameon=False, fontsize=8.5)
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(0, max(histogram["counts"]) * 2 + 1)
        axes.set_xlim(edges[0], edges[-1])
        axes.yaxis.set_major_formatter(lambda value, _: count(round(value)))
        if histogram["cut"] is not None:
            axes.axvline(histogram["cut"], color=CERTIFIED, linewidth=1.4)
            axes.text(
                histogram["cut"],
                0.97,
                " review queue → ",
                transform=axes.get_xaxis_transform(),
                color=CERTIFIED,
                fontsize=8.5,
                ha="right" if histogram["cut"] > (edges[0] + edges[-1]) / 2 else "left",
                va="top",
            )
        axes.set_xlabel("suspicion")
        axes.set_title("examples", loc="left", color=MUTED, fontsize=9)

    return svg((4.2, 2.9), draw)


def detector_curves(detectors: Sequence[Mapping[str, Any]]) -> str | None:
    """Share of the known flips found over the share of examples inspected.

    Args:
        detectors: the `scan.detectors` section of a checked document; those without a
            recall curve are left out, and six at most are drawn.

    Returns:
        A data URI, or None if there is nothing to draw.
    """
    known = [detector for detector in detectors if detector["recall_curve"]]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1.4, zorder=1)
        axes.text(0.56, 0.53, "chance", color=MUTED, fontsize=8, rotation=34, va="top")
        _share_lines(axes, known, "recall_curve", 1.8)
        axes.set_xlabel("examples inspected, most suspicious first")
        axes.set_title("known flips found", loc="left", color=MUTED, fontsize=9)

    return svg((3.9, 2.9), draw) if known else None


def roc_curves(detectors: Sequence[Mapping[str, Any]]) -> str | None:
    """Share of wrong labels found over the share of right ones that are flagged.

    Args:
        detectors: the `scan.detectors` section of a checked document; those without a
            curve are left out, and six at most are drawn.

    Returns:
        A data URI, or None if there is nothing to draw.
    """
    known = [detector for detector in detectors if detector["roc_curve"]]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1.4, zorder=1)
        _share_lines(axes, known, "roc_curve", 1.6)
        axes.set_xlabel("right labels flagged")
        axes.set_title("wrong labels found", loc="left", color=MUTED, fontsize=9)

    return svg((3.9, 2.9), draw) if known else None


def _share_lines(
    axes: Axes, detectors: Sequence[Mapping[str, Any]], curve: str, width: float
) -> None:
    """A line for each detector, the first one in front, between shares of 0 and 1."""
    for detector, (colour, style) in zip(detectors, LINES, strict=False):
        x, y = zip(*detector[curve], strict=True)
        first = detector is detectors[0]
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=style,
            linewidth=2.4 if first else width,
            label=drawable(detector["name"]),
            zorder=4 if first else 3,
            clip_on=False,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    percentages(axes.xaxis)
    percentages(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="lower right", frameon=False, fontsize=8.5, handlelength=2.6)
