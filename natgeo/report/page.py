"""The report: a result document as one self-contained HTML page.

The page loads nothing, and says so in its content-security policy. It has no scripts,
but for the review of a label scan: one, inside the page, which the policy names by its
hash. What it shows of the data it writes as text, never as HTML.
Every string of the document is escaped by the template engine, spelled out where it
would be invisible, and isolated so that it cannot reorder the line it stands in. The
page is a function of the document: the same document gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from natgeo import display
from natgeo.report import curve_figures, scan_figures
from natgeo.report.document import check_document
from natgeo.report.interval_figures import (
    MOST_ROWS,
    influence_intervals,
    rank_intervals,
)
from natgeo.report.queue import queue_json
from natgeo.store.manifest import write_atomically

MOST_TARGETS = 24
MOST_SUSPICIOUS = 120
MOST_CLASSES = 20  # in a table of confusions
_KINDS = {
    "demo": "Demonstration",
    "certify": "Certified rankings",
    "scan": "Label-noise scan",
    "attribution": "Certified attribution",
    "convex": "Influence on a convex model",
}
_SECTIONS = (
    "summary",
    "guarantee",
    "geometry",
    "curve",
    "targets",
    "pair",
    "scan",
    "convex",
    "review",
    "provenance",
)


def render(document: dict[str, Any]) -> str:
    """The page of a document, as HTML.

    Args:
        document: the document as plain Python values; it is checked first.

    Raises:
        ArgumentError: if it is not a dict.
        DataError: naming the first field that cannot be shown.
    """
    checked = check_document(document)
    sections = {name: checked.get(name) for name in _SECTIONS}
    eps = _common_radius(checked)
    review = checked.get("review")
    return (
        _environment()
        .get_template("report.html.j2" if review is None else "review.html.j2")
        .render(
            **sections,
            title=checked["title"],
            version=checked["natgeo"],
            kind=_KINDS[checked["kind"]],
            eps=eps,
            curve_view=_curve_view(checked.get("curve"), eps),
            cards=_cards(checked),
            gauge=_gauge(checked.get("pair")),
            scan_view=_scan_view(checked.get("scan")),
            influences=_influences(checked.get("convex")),
            **({} if review is None else _review_view(review, checked.get("scan"))),
        )
    )


def write_report(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes the page of a document, completely or not at all.

    Args:
        document: the document as plain Python values; it is checked first.
        path: where to write the HTML.

    Raises:
        ArgumentError: if the document is not a dict.
        DataError: naming the first field that cannot be shown.
        StoreError: if the page cannot be written.
    """
    write_atomically(Path(path), render(document).encode())


def _common_radius(document: Mapping[str, Any]) -> float | None:
    """The radius that all targets share, or that of the pair if there are none."""
    found = [target["eps"] for target in document.get("targets", [])]
    if not found and "pair" in document:
        found = [document["pair"]["eps"]]
    return found[0] if found and len(set(found)) == 1 else None


def _curve_view(curve: Mapping[str, Any] | None, eps: float | None) -> dict | None:
    if curve is None:
        return None
    drawn = [(name, label) for name, label, *_ in curve_figures.CURVES if curve[name]]
    at_eps = []
    for place, radius in enumerate(curve["radii"]):
        if eps is not None and abs(radius - eps) <= 1e-9 * eps:
            at_eps = [(name, label, curve[name][place]) for name, label in drawn]
    return {
        "wide": curve_figures.certification_curve(curve, eps=eps),
        "narrow": curve_figures.certification_curve(curve, eps=eps, narrow=True),
        "at_eps": at_eps,
        "columns": drawn,
        "rows": [
            (radius, [curve[name][place] for name, _ in drawn])
            for place, radius in enumerate(curve["radii"])
        ],
    }


def _cards(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    size = document["geometry"]["N"] if "geometry" in document else None
    return [
        {
            "target": target,
            "figure": rank_intervals(target, size=size)
            if target["proponents"]
            else None,
            "shown": target["proponents"][:MOST_ROWS],
        }
        for target in document.get("targets", [])[:MOST_TARGETS]
    ]


def _gauge(pair: Mapping[str, Any] | None) -> dict[str, float | None] | None:
    """Places on the radius scale of the pair, in percent of its length."""
    if pair is None:
        return None
    found = pair["counterexample"]
    cost = found["cost"] if found and found["flips"] else None
    end = 1.25 * max(pair["radius"], pair["eps"] or 0, cost or 0)
    if end == 0:
        return None
    return {
        "radius": round(100 * pair["radius"] / end, 2),
        "eps": None if pair["eps"] is None else round(100 * pair["eps"] / end, 2),
        "cost": None if cost is None else round(100 * cost / end, 2),
    }


def _scan_view(scan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if scan is None:
        return None
    suspicious = (scan["suspicious"] or [])[:MOST_SUSPICIOUS]
    known = [row["flipped"] for row in suspicious if row["flipped"] is not None]
    return {
        "figure": scan_figures.detector_curves(scan["detectors"] or []),
        "suspicious": suspicious,
        "known": len(known),
        "found": sum(known),
    }


def _influences(convex: Mapping[str, Any] | None) -> list[tuple]:
    """Each explained row with the figure of its influences."""
    return [
        (
            target,
            influence_intervals(target) if target["influences"] else None,
        )
        for target in ((convex or {}).get("targets") or [])[:MOST_TARGETS]
    ]


def _review_view(
    review: Mapping[str, Any], scan: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The script of the page with its hash, its data, and the figures around it."""
    script = _script()
    digest = hashlib.sha256(script.encode()).digest()
    histogram = review["histogram"]
    return {
        "script": Markup(script),
        "script_hash": base64.b64encode(digest).decode(),
        "queue_json": Markup(queue_json(review)),
        "pictures": any(row["thumbnail"] for row in review["queue"]),
        "histogram": histogram and scan_figures.score_histogram(histogram),
        "roc": scan_figures.roc_curves((scan or {}).get("detectors") or []),
        "certified": review["certified"],
        "confusion": _confusion(review),
    }


def _confusion(review: Mapping[str, Any]) -> dict[str, Any] | None:
    """A table of few classes, the most frequent pairs of many."""
    found, names = review["confusion"] or [], review["classes"]
    if not found:
        return None
    if len(names) > MOST_CLASSES:
        pairs = [
            (names[c["given"]], names[c["suggested"]], c["count"])
            for c in found[:MOST_CLASSES]
        ]
        return {"table": None, "pairs": pairs, "names": None}
    counts = {(c["given"], c["suggested"]): c["count"] for c in found}
    places = range(len(names))
    table = [(names[a], [counts.get((a, b), 0) for b in places]) for a in places]
    return {"table": table, "pairs": None, "names": names}


@lru_cache(maxsize=1)
def _script() -> str:
    """The script of the review, exactly as it is hashed."""
    return (files("natgeo.report") / "templates" / "review.js").read_text("utf-8")


def _isolated(text: str) -> Markup:
    """A string of the document for the text of the page."""
    return Markup("<bdi>{}</bdi>").format(display.visible(text))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("natgeo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        inert=_isolated,
        visible=display.visible,
        count=display.count,
        percent=display.percent,
        short=display.short,
        given=display.given,
        at_least=display.at_least,
        at_most=display.at_most,
    )
    return environment
