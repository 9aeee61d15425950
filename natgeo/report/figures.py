"""Figures of the report, as SVG data URIs.

Drawn with matplotlib's object interface, so nothing global changes and nothing needs a
display; the same values give the same bytes. Colours are from Okabe and Ito's palette,
and every colour is backed by a line style or a label. Each figure has its own light
background, which keeps it legible on a dark page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from natgeo.display import count, given, percent, visible

# Certified results are blue wherever they appear; first-order curves never are.
CERTIFIED, NATURAL, EUCLIDEAN = "#0063a6", "#c04f00", "#6b6f76"
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
MOST_ROWS = 12
_INK, _MUTED, _RULE, _PAPER = "#1c2530", "#5b6470", "#dfe3e8", "#ffffff"
_HALO = {"facecolor": _PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
_DETECTORS = (
    (CERTIFIED, "-"),
    (NATURAL, (0, (5, 2))),
    ("#00795a", (0, (1.2, 1.6))),
    ("#a04a86", (0, (6, 2, 1.2, 2))),
    ("#8a6d00", (0, (3, 1.5))),
    (EUCLIDEAN, (0, (1, 3))),
)
_STYLES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
_FONT = "DejaVu Sans"  # comes with matplotlib: the same measures on every machine
_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_STYLE: dict[Any, Any] = {
    "font.family": [_FONT],
    "font.size": 9.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "natgeo",
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
}


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

    return _svg((3.6, 3.3) if narrow else (8.6, 3.7), draw)


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
                    label=f"{_drawable(name)}, {'certified' if first else label}",
                    zorder=3,
                    clip_on=False,
                )
                if level is not None:
                    _mark_crossing(axes, curve["radii"], curve[key], level, colour)
        if level is not None:
            axes.axhline(level, color=_INK, linewidth=0.8, zorder=2)
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

    return _svg((8.6, 3.7), draw)


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
    _percentages(axes.yaxis)
    axes.grid(axis="y")
    axes.set_xlabel("radius of the ball, natural distance (log scale)")
    axes.set_title("share of all pairs", loc="left", color=_MUTED, fontsize=9)


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
        bbox=_HALO,
        **place,
    )


def _mark_radius(axes: Axes, curve: Mapping[str, Any], eps: float, gap: str) -> None:
    """A vertical line at a radius, with the certified share if the curve has it."""
    axes.axvline(eps, color=_INK, linewidth=0.8, zorder=2)
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
        bbox=_HALO,
    )


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
        axes.tick_params(axis="y", colors=_INK)
        for place, row in enumerate(shown):
            _interval(axes, place, row, worst)
        axes.set_xlabel("certified rank, 1 is the highest (log scale)")

    return _svg((3.9, 0.72 + 0.235 * max(len(shown), 2)), draw)


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
            color=_PAPER,
            markeredgecolor=_INK,
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
        color=_MUTED if nothing else colour,
        zorder=6,
        bbox=_HALO,
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
        axes.axvline(0, color=_MUTED, linewidth=0.8, zorder=1)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [f"#{row['row']}" for row in shown])
        axes.tick_params(axis="y", length=0, colors=_INK)
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
            axes.plot([centre], [place], "o", color=_INK, markersize=4, zorder=5)
        axes.set_xlabel("influence on the loss, per unit of weight")

    return _svg((5.6, 0.8 + 0.25 * max(len(shown), 2)), draw)


def detector_curves(detectors: Sequence[Mapping[str, Any]]) -> str | None:
    """Share of the known flips found over the share of examples inspected.

    Args:
        detectors: the `scan.detectors` section of a checked document; those without a
            recall curve are left out, and six at most are drawn.

    Returns:
        A data URI, or None if there is nothing to draw.
    """
    known = [detector for detector in detectors if detector["recall_curve"]]
    if not known:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_RULE, linewidth=1.4, zorder=1)
        axes.text(0.56, 0.53, "chance", color=_MUTED, fontsize=8, rotation=34, va="top")
        for detector, (colour, style) in zip(known, _DETECTORS, strict=False):
            x, y = zip(*detector["recall_curve"], strict=True)
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=style,
                linewidth=2.4 if detector is known[0] else 1.8,
                label=_drawable(detector["name"]),
                zorder=4 if detector is known[0] else 3,
                clip_on=False,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        _percentages(axes.xaxis)
        _percentages(axes.yaxis)
        axes.grid(axis="y")
        axes.set_xlabel("examples inspected, most suspicious first")
        axes.set_title("known flips found", loc="left", color=_MUTED, fontsize=9)
        axes.legend(loc="lower right", frameon=False, fontsize=8.5, handlelength=2.6)

    return _svg((3.9, 2.9), draw)


def _percentages(axis: Any) -> None:
    axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _drawable(text: str, longest: int = 28) -> str:
    """A short, inert form of a name, in characters that the font has."""
    font = FT2Font(findfont(_FONT))
    known = "".join(c if font.get_char_index(ord(c)) else "□" for c in visible(text))
    known = known if len(known) <= longest else known[: longest - 1] + "…"
    return known.replace("_", "‗", 1) if known.startswith("_") else known


def _svg(inches: tuple[float, float], draw: Any) -> str:
    """Draws one figure in the house style, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue().replace(f"'{_FONT}'", _STACK)
    encoded = base64.b64encode(drawing.encode()).decode()
    return f"data:image/svg+xml;base64,{encoded}"
