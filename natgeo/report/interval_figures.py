"""Figures of intervals: certified ranks, and influences with their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from natgeo.display import count
from natgeo.report.drawing import CERTIFIED, HALO, INK, MUTED, NATURAL, PAPER, svg

MOST_ROWS = 12


def rank_intervals(target: Mapping[str, Any], *, size: int | None = None) -> str:
    """Certified rank intervals of a target's top proponents, on a log scale.

    Args:
        target: an entry of the `targets` section of a checked document.
        size: number of training examples N, the worst possible rank; if it is not
            known, the worst rank shown.

    Returns:
        A data URI.
    """
    shown = target["proponents"][:MOST_ROWS]
    worst = max([2, size or 0, *(row["highest"] for row in shown)])

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(0.88, worst * 1.15)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        ticks = [rank for rank in (1, 10, 100, 1000, 10_000, 100_000) if rank < worst]
        ticks = [rank for rank in ticks if rank * 2.5 < worst] + [worst]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(round(x))))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(shown)), [f"#{row['index']}" for row in shown])
        axes.tick_params(axis="y", colors=INK)
        for place, row in enumerate(shown):
            _interval(axes, place, row, worst)
        axes.set_xlabel("certified rank, 1 is the highest (log scale)")

    return svg((3.9, 0.72 + 0.235 * max(len(shown), 2)), draw)


def _interval(axes: Axes, place: int, row: Mapping[str, Any], worst: int) -> None:
    low, high = row["lowest"], row["highest"]
    nothing = low == 1 and high >= worst
    colour = "#a8afb8" if nothing else CERTIFIED
    style: dict[str, Any] = {"color": colour, "solid_capstyle": "butt", "zorder": 3}
    axes.plot([low, high], [place, place], linewidth=2 if nothing else 5, **style)
    if low == high:
        axes.plot([low], [place], "s", color=colour, markersize=6, zorder=4)
    if row["rank"] is not None:
        axes.plot(
            [row["rank"]],
            [place],
            "o",
            color=PAPER,
            markeredgecolor=INK,
            markersize=5,
            zorder=5,
        )
    text = "no bound proven" if nothing else f"{count(low)}–{count(high)}"
    text = count(low) if low == high else text
    late = high > worst**0.7
    axes.annotate(
        text,
        (high, place),
        xytext=(-2 if late else 6, 5.5 if late else 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="center",
        fontsize=8,
        color=MUTED if nothing else colour,
        zorder=6,
        bbox=HALO,
    )


def influence_intervals(target: Mapping[str, Any]) -> str:
    """Influences on a target: proven intervals, and first-order ones inside them.

    Args:
        target: an entry of `convex.targets` of a checked document.

    Returns:
        A data URI.
    """
    shown = target["influences"][:MOST_ROWS]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [f"#{row['row']}" for row in shown])
        axes.tick_params(axis="y", length=0, colors=INK)
        axes.grid(axis="x")
        for place, row in enumerate(shown):
            centre, half = row["influence"], row["half_width"]
            if row["low"] is not None and row["high"] is not None:
                ends = [row["low"], row["high"]]
                axes.plot(
                    ends,
                    [place] * 2,
                    color=CERTIFIED,
                    linewidth=6,
                    alpha=0.45,
                    solid_capstyle="butt",
                )
            ends = [centre - half, centre + half]
            axes.plot(
                ends,
                [place] * 2,
                color=NATURAL,
                linewidth=1.8,
                solid_capstyle="butt",
                zorder=4,
            )
            axes.plot([centre], [place], "o", color=INK, markersize=4, zorder=5)
        axes.set_xlabel("influence on the loss, per unit of weight")

    return svg((5.6, 0.8 + 0.25 * max(len(shown), 2)), draw)
