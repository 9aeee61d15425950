"""The house style of all figures: colours, lines, axes and the SVG that holds them.

Drawn with matplotlib's object interface, so nothing global changes and nothing needs a
display; the same values give the same bytes. Colours are from Okabe and Ito's palette,
and every colour is backed by a line style or a label. Each figure has its own light
background, which keeps it legible on a dark page.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FixedLocator, FuncFormatter

from natgeo.display import visible

# Certified results are blue wherever they appear; first-order curves never are.
CERTIFIED, NATURAL, EUCLIDEAN = "#0063a6", "#c04f00", "#6b6f76"
INK, MUTED, RULE, PAPER = "#1c2530", "#5b6470", "#dfe3e8", "#ffffff"
HALO = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
LINES = (
    (CERTIFIED, "-"),
    (NATURAL, (0, (5, 2))),
    ("#00795a", (0, (1.2, 1.6))),
    ("#a04a86", (0, (6, 2, 1.2, 2))),
    ("#8a6d00", (0, (3, 1.5))),
    (EUCLIDEAN, (0, (1, 3))),
)
_FONT = "DejaVu Sans"  # comes with matplotlib: the same measures on every machine
_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_STYLE: dict[Any, Any] = {
    "font.family": [_FONT],
    "font.size": 9.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "natgeo",
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


def percentages(axis: Any) -> None:
    """Marks an axis of shares from 0 to 1 in quarters."""
    axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def drawable(text: str, longest: int = 28) -> str:
    """A short, inert form of a name, in characters that the font has."""
    font = FT2Font(findfont(_FONT))
    known = "".join(c if font.get_char_index(ord(c)) else "□" for c in visible(text))
    known = known if len(known) <= longest else known[: longest - 1] + "…"
    return known.replace("_", "‗", 1) if known.startswith("_") else known


def svg(inches: tuple[float, float], draw: Any) -> str:
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
