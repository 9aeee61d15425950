"""Tables of the LDS benchmark for the README: a row a method, columns by problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.lds_methods import OURS, PLAIN, RIDGE

Row = dict[str, Any]
KEY = ("method", "projector", "K", "ridge", "C", "sketches")


def table(rows: Sequence[Row]) -> str:
    """Scores and CPU seconds of the notable settings, then differences.

    Bold is the best score of a problem, and the best score for each CPU second of those
    that are above chance.
    """
    data = list(dict.fromkeys(row["data"] for row in rows))
    score = [row for row in rows if row["method"] not in ("retraining", "difference")]
    highest, quickest = _best(score, data)
    bold = [*highest, *quickest]
    shown = {_key(row): None for row in score if _notable(row) or row in bold}
    heads = [f"{name} | CPU s (LDS / s)" for name in data]
    lines = [
        f"| method | K | ridge / trace | C | {' | '.join(heads)} |",
        "|---" * (4 + 2 * len(data)) + "|",
    ]
    for key in shown:
        cells = []
        for name in data:
            here = [row for row in score if (row["data"], _key(row)) == (name, key)]
            row = here[0] if here else None
            cells += [_score(row, row in highest), _spent(row, row in quickest)]
        lines.append(f"| {' | '.join([*_named(key), *cells])} |")
    return "\n".join([*lines, *_differences(rows, data)])


def _differences(rows: Sequence[Row], data: Sequence[str]) -> list[str]:
    """Our LDS minus those of the libraries, and the best of ours minus less."""
    made = [row for row in rows if row["method"] == "difference"]
    named = {_difference(row): None for row in made}
    if not named:
        return []
    lines = ["", f"| difference in LDS | {' | '.join(data)} |"]
    lines.append("|---" * (1 + len(data)) + "|")
    for name in named:
        here = {row["data"]: row for row in made if _difference(row) == name}
        cells = [_interval(here[each]) if each in here else "-" for each in data]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _difference(row: Row) -> str:
    if "against" in row:
        return f"best W-TRAK minus {row['against']}"
    setting = f"ridge {row['ridge']:g}, C = {row['C']}"
    return f"W-TRAK minus {row['minus']}, K = {row['K']}, {setting}"


def _key(row: Row) -> tuple:
    return tuple(row.get(name) for name in KEY)


def _notable(row: Row) -> bool:
    if row["method"] != OURS:
        return True
    if row["projector"] != "CountSketch" or row["sketches"] == 3 or row["ridge"] > 0.01:
        return False
    if row["K"] == PLAIN:
        return row["ridge"] == RIDGE and row["C"] != 3
    return row["K"] < PLAIN and row["K"] != 128


def _best(score: Sequence[Row], data: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """The rows of the highest scores, and of the most for each CPU second."""
    held = [row for row in score if row["lds"] is not None]
    timed = [row for row in held if row["cpu_s"] > 0 and row["low"] > 0]
    highest, quickest = [], []
    for name in data:
        here = [row for row in held if row["data"] == name]
        highest += sorted(here, key=lambda row: row["lds"])[-1:]
        here = [row for row in timed if row["data"] == name]
        quickest += sorted(here, key=lambda row: row["lds"] / row["cpu_s"])[-1:]
    return highest, quickest


def _named(key: tuple) -> list[str]:
    about = dict(zip(KEY, key, strict=True))
    name = about["method"]
    if about["projector"] not in (None, "CountSketch"):
        name += f", {about['projector']}"
    if (about["sketches"] or 1) > 1:
        name += f", {about['sketches']} sketches"
    numbers = (about[column] for column in ("K", "ridge", "C"))
    return [name, *("-" if value is None else f"{value:g}" for value in numbers)]


def _score(row: Row | None, best: bool) -> str:
    if row is None:
        return "-"
    text = "not installed" if row["lds"] is None else _interval(row)
    return f"**{text}**" if best else text


def _spent(row: Row | None, best: bool) -> str:
    if row is None or row["lds"] is None or row["cpu_s"] <= 0:
        return "-"
    text = f"{row['cpu_s']:.2f} ({row['lds'] / row['cpu_s']:.2f})"
    return f"**{text}**" if best else text


def _interval(row: Row) -> str:
    return f"{row['lds']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
