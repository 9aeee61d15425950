"""How many pairs of real digits are certified, and how many the first-order bound has.

The setting of the demo (17,226 parameters, K = 256, ridge 0) over several seeds of data
order, training and projection.

Run `python -m benchmarks.digits`; add `--quick` for one seed, or `--keep` to replace
the stored results, the figure and the table of the README.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo import demo
from natgeo.display import percent
from natgeo.report.curve_figures import certification_curve

RADII = (0.001, 0.01, 0.03, 0.1)
NAMES = ("certified", "sensitivity_natural", "sensitivity_euclidean")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    rows = []
    for seed in range(1 if is_quick() else 5):
        document = demo.run(seed)
        rows.append(report("digits", **_row(seed, document)))
        ours, theirs = (np.array(document["curve"][name]) for name in NAMES[:2])
        if (ours < theirs).any():
            raise SystemExit(
                "the first-order bound has more pairs than the certificate"
            )
        if seed == 0 and "--keep" in sys.argv:
            _keep_figure(document["curve"])
    if "--keep" in sys.argv:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "digits.jsonl").write_text(lines)
        replace_in_readme("digits", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: mean over seeds, each number rounded down."""
    head = "| eps | certified (exact) | first-order natural | first-order Euclidean |"
    lines = [head, "|---|---|---|---|"]
    for place, radius in enumerate(RADII):
        cells = [
            percent(float(np.mean([row[name][place] for row in rows])))
            for name in NAMES
        ]
        lines.append(f"| {radius:g} | {cells[0]} | {cells[1]} | {cells[2]} |")
    return "\n".join(lines)


def _row(seed: int, document: dict[str, Any]) -> dict[str, Any]:
    curve, geometry, scan = (document[name] for name in ("curve", "geometry", "scan"))
    places = [curve["radii"].index(radius) for radius in RADII]
    return {
        "seed": seed,
        **{name: geometry[name] for name in ("N", "M", "K", "condition", "eta")},
        "eps": RADII,
        **{name: [curve[name][place] for place in places] for name in NAMES},
        "amplification_median": curve["amplification_median"],
        "amplification_max": curve["amplification_max"],
        "auroc": {row["name"]: row["auroc"] for row in scan["detectors"]},
        "recall_at_20": {row["name"]: row["recall_at_20"] for row in scan["detectors"]},
    }


def _keep_figure(curve: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    picture = certification_curve(curve, eps=demo.EPS)
    (RESULTS / "curve.svg").write_bytes(base64.b64decode(picture.partition(",")[2]))


if __name__ == "__main__":
    main()
