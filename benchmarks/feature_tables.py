"""What the rows of the feature benchmark say: the bars, and the README's tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

WIDTHS = (512, 2048, 4096)
THREADS = (1, 2)
# What natgeo must reach: a share of `none` at every width, and a multiple of traker.
OF_GRADIENTS, OVER_TRAKER = 0.7, {"mlp": 20.0, "resnet9": 8.0}
# The columns of the README's tables: a contender and what it is called there.
COLUMNS = {
    "natgeo": "natgeo",
    "none": "gradients alone",
    "torch": "torch",
    "traker": "traker",
    "dattri": "dattri",
    "bergson": "bergson",
    "natgeo-kronecker": "natgeo Kronecker",
    "bergson-kronecker": "bergson Kronecker",
}


def bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What natgeo reaches of the gradients alone and over traker, on one thread."""
    found = []
    for (model, width), rates in _rates(rows, 1, "samples_per_cpu_s").items():
        if "natgeo" not in rates:
            continue
        row: dict[str, Any] = {"model": model, "K": width}
        if "none" in rates:
            row["of_gradients"] = rates["natgeo"] / rates["none"]
            row["of_gradients_met"] = row["of_gradients"] >= OF_GRADIENTS
        if "traker" in rates:
            row["over_traker"] = rates["natgeo"] / rates["traker"]
            if width == WIDTHS[-1] and model in OVER_TRAKER:
                row["over_traker_met"] = row["over_traker"] >= OVER_TRAKER[model]
        found.append(row)
    return found


def tables(rows: list[dict[str, Any]]) -> str:
    """What the README shows: one thread, two threads, and the share of the peak."""
    parts = [
        "One thread, samples per CPU second:",
        _table(rows, 1, "samples_per_cpu_s", tuple(COLUMNS)),
        "Two threads, samples per second:",
        _table(rows, 2, "samples_per_s", tuple(COLUMNS)),
        "\n".join(_peaks(rows)),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(
    rows: list[dict[str, Any]], threads: int, key: str, columns: Iterable[str]
) -> str:
    names = [COLUMNS[column] for column in columns]
    lines = [f"| model | K | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for (model, width), rates in _rates(rows, threads, key).items():
        cells = [_cell(rates, column) for column in columns]
        lines.append(f"| {model} | {width} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rates: dict[str, float], contender: str) -> str:
    """A rate, and natgeo's own projection of the same kind in comparison."""
    if contender not in rates:
        return "-"
    rate, text = rates[contender], f"{rates[contender]:,.0f}"
    ours = "natgeo-kronecker" if "kronecker" in contender else "natgeo"
    if contender == ours or ours not in rates:
        return text
    if contender == "none":
        return f"{text} ({rates[ours] / rate:.0%})"
    return f"{text} ({_times(rates[ours] / rate)})"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x"


def _peaks(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each thread count: what share of the peak gradients reach."""
    lines = []
    for threads in THREADS:
        made = {
            row["model"]: row
            for row in rows
            if row.get("contender") == "none" and row["threads"] == threads
        }
        if not made:
            continue
        shares = ", ".join(f"{m} {r['share_of_peak']:.1%}" for m, r in made.items())
        peak = np.mean([row["peak_gflops"] for row in made.values()])
        lines.append(
            f"Gradients alone, of the {peak:,.0f} GF/s that a float32 matrix product "
            f"reaches in the same run on {threads} thread{'s' * (threads > 1)}: "
            f"{shares}."
        )
    return lines


def _rates(
    rows: list[dict[str, Any]], threads: int, key: str
) -> dict[tuple[str, int], dict[str, float]]:
    """(model, width) -> contender -> rate; `none` has no width and goes with all."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    mine = [r for r in rows if r["name"] == "features" and r["threads"] == threads]
    for row in mine:
        if row["contender"] != "none":
            case = found.setdefault((row["model"], row["K"]), {})
            case[row["contender"]] = row[key]
    for row in mine:
        if row["contender"] == "none":
            for (model, _), case in found.items():
                if model == row["model"]:
                    case["none"] = row[key]
    return found
