"""Figures of certification curves: the certified share of all pairs over the radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from natgeo.display import given, percent
from natgeo.report.drawing import (
    CERTIFIED,
    EUCLIDEAN,
    HALO,
    INK,
    MUTED,
    NATURAL,
    drawable,
    percentages,
    svg,
)

CURVES = (
    ("certified", "certified (order 2)", CERTIFIED, "-", 0.5),
    ("sensitivity_natural", "first-order, natural", NATURAL, (0, (5, 2)), 0.72),
    (
        "sensitivity_euclidean",
        "first-order, Euclidean",
        EUCLIDEAN,
        (0, (1.2, 1.6)),
        0.28,
    ),
)
_STYLES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))


def certification_curve(
    curve: Mapping[str, Any], *, eps: float | None = None, narrow: bool = False
) -> str:
    """Certified fraction over the radius, with the first-order curves beside it.

    Args:
        curve: the `curve` section of a checked document.
        eps: a radius to mark.
        narrow: draw it for a phone rather than for a desktop.

    Returns:
        A data URI.
    """
    radii = curve["radii"]

    def draw(axes: Axes) -> None:
        _share_axes(axes, radii[0], radii[-1])
        for name, label, colour, style, level in CURVES:
            if curve[name] is not None:
                axes.plot(
                    radii,
                    curve[name],
                    color=colour,
                    linestyle=style,
                    linewidth=2.6 if name == "certified" else 1.8,
                    zorder=3,
                    clip_on=False,
                )
                words = label.removeprefix("first-order, ") if narrow else label
                words = words.removesuffix(" (order 2)") if narrow else words
                room = 0.62 if narrow else 0.7
                _label_curve(axes, radii, curve[name], (words, colour, level), room)
        if eps is not None and radii[0] <= eps <= radii[-1]:
            _mark_radius(axes, curve, eps, "\n" if narrow else " ")

    return svg((3.6, 3.3) if narrow else (8.6, 3.7), draw)


def compared_curves(
    curves: Mapping[str, Mapping[str, Any]], *, level: float | None = None
) -> str:
    """Certification curves of up to four data sets in one figure.

    Certified shares are blue, first-order natural ones orange; each data set has its
    own line style.

    Args:
        curves: name of a data set -> `curve` section of its document.
        level: a share to mark, with the places where the curves cross it.

    Returns:
        A data URI.
    """
    low = min(curve["radii"][0] for curve in curves.values())
    high = max(curve["radii"][-1] for curve in curves.values())

    def draw(axes: Axes) -> None:
        _share_axes(axes, low, high)
        for (name, curve), style in zip(curves.items(), _STYLES, strict=False):
            for key, label, colour, *_ in CURVES[:2]:
                first = key == "certified"
                axes.plot(
                    curve["radii"],
                    curve[key],
                    color=colour,
                    linestyle=style,
                    linewidth=2.2 if first else 1.6,
                    label=f"{drawable(name)}, {'certified' if first else label}",
                    zorder=3,
                    clip_on=False,
                )
                if level is not None:
                    _mark_crossing(axes, curve["radii"], curve[key], level, colour)
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.8, zorder=2)
        handles, labels = axes.get_legend_handles_labels()
        # The certified curves first.
        order = [*range(0, len(handles), 2), *range(1, len(handles), 2)]
        axes.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="upper right",
            frameon=False,
            fontsize=8.5,
            handlelength=3.2,
        )

    return svg((8.6, 3.7), draw)


def _mark_crossing(
    axes: Axes,
    radii: Sequence[float],
    shares: Sequence[float],
    level: float,
    colour: str,
) -> None:
    """A dot where a falling curve passes the level."""
    above = sum(share >= level for share in shares)
    if not 0 < above < len(radii):
        return
    crossing = _crossing(radii, shares, above - 1, level)
    axes.plot([crossing], [level], "o", color=colour, markersize=6, zorder=6)


def _crossing(
    radii: Sequence[float], shares: Sequence[float], last: int, level: float
) -> float:
    """Where a curve passes the level after its point `last`, on a log scale."""
    drop = (shares[last] - level) / (shares[last] - shares[last + 1])
    return radii[last] * (radii[last + 1] / radii[last]) ** drop


def _share_axes(axes: Axes, low: float, high: float) -> None:
    """Axes of a share of all pairs over a radius on a log scale."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.04)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    percentages(axes.yaxis)
    axes.grid(axis="y")
    axes.set_xlabel("radius of the ball, natural distance (log scale)")
    axes.set_title("share of all pairs", loc="left", color=MUTED, fontsize=9)


def _label_curve(
    axes: Axes,
    radii: Sequence[float],
    shares: Sequence[float],
    label: tuple[str, str, float],
    room: float,
) -> None:
    """Labels a falling curve where it passes a level: (words, colour, level).

    The label stands on the right, or on the left where less than 1 - `room` is left.
    """
    words, colour, level = label
    above = [i for i, share in enumerate(shares) if share >= level]
    last = above[-1] if above else 0
    start, stop = radii[0], radii[-1]
    height = min(level, shares[last]) if above else shares[0]
    crossing = radii[last]
    if above and last + 1 < len(radii):
        crossing = _crossing(radii, shares, last, level)
    late = crossing > start * (stop / start) ** room
    place: dict[str, Any] = {
        "xytext": (-7 if late else 7, 0 if above else 8),
        "ha": "right" if late else "left",
        "va": "center" if above else "bottom",
    }
    axes.annotate(
        words,
        (crossing, height),
        textcoords="offset points",
        color=colour,
        fontweight="bold",
        fontsize=9,
        zorder=5,
        bbox=HALO,
        **place,
    )


def _mark_radius(axes: Axes, curve: Mapping[str, Any], eps: float, gap: str) -> None:
    """A vertical line at a radius, with the certified share if the curve has it."""
    axes.axvline(eps, color=INK, linewidth=0.8, zorder=2)
    text = f"ε = {given(eps)}"
    for radius, share in zip(curve["radii"], curve["certified"], strict=True):
        if abs(radius - eps) <= 1e-9 * eps:
            axes.plot([eps], [share], "o", color=CERTIFIED, markersize=7, zorder=6)
            text += f":{gap}{percent(share)} certified"
    # The curves fall, so the space to the right of the line is free at the top.
    start, stop = curve["radii"][0], curve["radii"][-1]
    late = eps > start * (stop / start) ** 0.65
    axes.annotate(
        text,
        (eps, 1.04),
        xytext=(-5 if late else 5, -1),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=9,
        zorder=6,
        bbox=HALO,
    )
