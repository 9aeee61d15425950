"""A result document as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from natgeo.display import at_least, at_most, percent, short

_WIDTH = 96
# Radii shown in the terminal; the page and the JSON hold the whole curve.
_SHOWN_RADII = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def render(document: dict[str, Any]) -> str:
    """The document as text of at most 96 columns, without colours or control codes."""
    out = StringIO()
    console = Console(file=out, width=_WIDTH, no_color=True, highlight=False)
    console.print(document["title"], markup=False)
    for row in document.get("summary", []):
        line = f"  {row['label']}: {row['value']}  ({row['note']})"
        console.print(line, markup=False, soft_wrap=True)
    for part in _parts(document):
        console.print()
        console.print(part, markup=False)
    return out.getvalue().rstrip()


def _parts(document: dict[str, Any]) -> Iterator[Any]:
    if "curve" in document:
        yield _curve(document["curve"])
    for target in document.get("targets", []):
        yield _target(target)
    if "pair" in document:
        yield _pair(document["pair"])
    if "scan" in document:
        yield from _scan(document["scan"], "review" in document)
    if "review" in document:
        yield _review(document["review"], len(document["scan"]["suspicious"]))
    if "convex" in document:
        yield from _convex(document["convex"])
    if "guarantee" in document:
        yield document["guarantee"]["says"]
        if document["guarantee"].get("scale"):
            yield from _scale(document["guarantee"]["scale"])
        yield "\n".join(f"- {line}" for line in document["guarantee"]["does_not_say"])


def _curve(curve: dict[str, Any]) -> Table:
    table = _table(
        "Share of pairs whose order is settled, by radius",
        "eps",
        "certified (order 2)",
        "first-order natural*",
        "first-order Euclidean*",
    )
    for place, radius in enumerate(curve["radii"]):
        if radius in _SHOWN_RADII:
            table.add_row(
                f"{radius:g}",
                *(
                    percent(curve[name][place]) if curve[name] else "-"
                    for name in (
                        "certified",
                        "sensitivity_natural",
                        "sensitivity_euclidean",
                    )
                ),
            )
    table.caption = "* sensitivity, not a certificate; Euclidean radii are matched"
    return table


def _scale(scale: dict[str, Any]) -> Iterator[Any]:
    if scale["says"]:
        yield "\n".join(f"- {line}" for line in scale["says"])
    table = _table(
        "Known changes of these data, natural distance*",
        "change",
        "of the covariance",
        "of the examples",
    )
    for row in scale["rows"] or []:
        cells = (row["covariance"], row["moved"])
        table.add_row(row["change"], *("-" if c is None else short(c) for c in cells))
    table.caption = (
        "* measured, not certified. A certificate at eps covers a change whose "
        "covariance moves by at most eps, however far its examples move."
    )
    yield table


def _target(target: dict[str, Any]) -> Table:
    title = f"Target {target['target']}"
    if target.get("label") is not None:
        title += f": a {target['label']}, predicted {target['predicted']}"
    eps = target.get("eps")
    ball = "under the threat" if eps is None else f"at eps = {eps:g}"
    table = _table(
        f"{title}. Top proponents, rank certified {ball}",
        "training example",
        "label",
        "score",
        "certified rank",
    )
    for row in target["proponents"]:
        note = " (flipped)" if row["flipped"] else ""
        table.add_row(
            str(row["index"]),
            f"{row['label'] if row['label'] is not None else '-'}{note}",
            f"{row['score']:.4g}",
            f"{row['lowest']} to {row['highest']}",
        )
    top = target["top_k"]
    table.caption = (
        f"top {top['k']}: {top['inside']} certified in, {top['undecided']} undecided, "
        f"{top['outside']} certified out"
    )
    return table


def _pair(pair: dict[str, Any]) -> str:
    text = f"{pair['claim']}\nProven up to radius {at_least(pair['radius'])}."
    if pair["counterexample"]:
        found = pair["counterexample"]
        outcome = "swaps the pair" if found["flips"] else "does not swap the pair"
        text += (
            f" A perturbed training set at distance {at_most(found['cost'])} "
            f"{outcome}: gap {found['gap_before']:.3g} "
            f"becomes {found['gap_after']:.3g}."
        )
    return text


def _scan(scan: dict[str, Any], reviewed: bool) -> Iterator[Table]:
    if scan["known_flips"] is not None:
        table = _table(
            f"Detectors of {scan['known_flips']} wrong labels",
            "detector",
            "AUROC",
            "found in the top 20 %",
        )
        for row in scan["detectors"]:
            table.add_row(
                row["name"], f"{row['auroc']:.4f}", f"{100 * row['recall_at_20']:.1f} %"
            )
        yield table
    if reviewed:
        return  # the queue says more
    table = _table(
        "Most suspicious labels", "rank", "training example", "label", "suspicion"
    )
    for row in scan["suspicious"]:
        note = " (flipped)" if row["flipped"] else ""
        given = row["given"] if row["given"] is not None else "-"
        table.add_row(
            str(row["rank"]),
            str(row["index"]),
            f"{given}{note}",
            f"{row['score']:.4g}",
        )
    yield table


def _convex(convex: dict[str, Any]) -> Iterator[Any]:
    for target in convex["targets"]:
        table = _table(
            f"Row {target['row']}: {target['label']}, predicted {target['predicted']}. "
            f"Influence on its loss, intervals at eps = {convex['eps']:g}",
            "training row",
            "label",
            "influence",
            "proven interval",
            "first order*",
            "loss without it",
        )
        for row in target["influences"]:
            proven = "nothing proven"
            if row["low"] is not None:
                proven = f"{at_least(row['low'])} to {at_most(row['high'])}"
            table.add_row(
                str(row["row"]),
                row["label"],
                f"{row['influence']:.4g}",
                proven,
                f"± {row['half_width']:.2g}",
                f"{row['left_out']:+.2g}",
            )
        table.caption = "* not a certificate: worst-case retraining leaves it"
        yield table
    table = _table("Largest self-influence", "training row", "label", "self-influence")
    for row in convex["suspects"]:
        table.add_row(str(row["row"]), row["label"], f"{row['score']:.4g}")
    yield table
    yield "\n".join(f"- {line}" for line in [convex["says"], *convex["notes"]] if line)


def _review(review: dict[str, Any], top: int) -> Table:
    classes = review["classes"]
    table = _table(
        "Most suspicious labels", "rank", "example", "given", "more likely", "p"
    )
    for row in review["queue"][:top]:
        name = row["name"] if row["name"] is not None else str(row["index"])
        other, share = row["suggested"], row["confidence"]
        table.add_row(
            str(row["rank"]),
            name + (" (wrong)" if row["wrong"] else ""),
            classes[row["given"]],
            "-" if other is None else classes[other],
            "-" if share is None else percent(share),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", caption_style="")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table
