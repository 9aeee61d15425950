"""A label scan as something a person can act on: the review section of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from natgeo.display import at_most, count, given, percent
from natgeo.errors import ArgumentError
from natgeo.labels.scan import SHARES, LabelScan, Suspect

_BINS = 60
Shown = Callable[[int], str | None]


def review_section(
    scan: LabelScan,
    *,
    fingerprint: str,
    classes: Sequence[str],
    top: int = 500,
    eps: float | None = 0.01,
    name: Shown = lambda index: None,
    words: Shown = lambda index: None,
    picture: Shown = lambda index: None,
    wrong: np.ndarray | None = None,
) -> dict[str, Any]:
    """The review queue, what the model confuses, and what of the order is certified.

    Args:
        scan: with labels.
        fingerprint: of the labels, from `labels.cleaning.fingerprint`.
        classes: name of each class.
        top: how many examples are queued, most suspicious first; 10,000 at most.
        eps: radius of the certified part; None leaves it out.
        name: file name or identifier of an example.
        words: its text, or its row of a table in words.
        picture: its thumbnail, as a data URI.
        wrong: which labels are known to be wrong, [N] booleans.

    Raises:
        ArgumentError: if the scan does not know the labels.
    """
    if scan.labels is None:
        raise ArgumentError(
            "A review needs the given labels: scan_labels(store, labels=y)."
        )
    top = min(top, len(scan.labels), 10_000)
    suspects = scan.suspects(top, eps=eps)

    def shown(index: int) -> dict[str, Any]:
        assert scan.labels is not None
        return {
            "given": int(scan.labels[index]),
            "name": name(index),
            "text": words(index),
            "thumbnail": picture(index),
        }

    queue = [
        {
            **shown(one.index),
            "index": one.index,
            "rank": one.rank,
            "score": one.score,
            "suggested": one.suggested,
            "confidence": _share(one.confidence),
            "given_probability": _share(one.given_probability),
            "supports_given": list(one.supports_given),
            "supports_suggested": list(one.supports_suggested),
            "lowest": one.lowest,
            "highest": one.highest,
            "wrong": None if wrong is None else bool(wrong[one.index]),
        }
        for one in suspects
    ]
    named = {i for s in suspects for i in (*s.supports_given, *s.supports_suggested)}
    section = {
        "fingerprint": fingerprint,
        "examples": len(scan.labels),
        "classes": list(classes),
        "detector": scan.detector,
        "queue": queue,
        "others": {str(i): shown(i) for i in sorted(named)},
        "confusion": _confusion(suspects),
        "histogram": _histogram(scan, top, wrong),
        "disagree": None,
        "certified": None if eps is None else _certified(scan, eps),
    }
    if scan.suggestion is not None:
        likelier = scan.suggestion.confidence > scan.suggestion.given
        section["disagree"] = int(likelier.sum())
    return section


def summary(section: dict[str, Any]) -> list[dict[str, str]]:
    """The scan at a glance, in plain words."""
    size, queued = section["examples"], len(section["queue"])
    tiles = [
        {
            "label": "Examples scanned",
            "value": count(size),
            "note": f"in {len(section['classes'])} classes, by {section['detector']}",
        },
        {
            "label": "To review",
            "value": count(queued),
            "note": f"the most suspicious {percent(queued / size)}, worst first",
        },
    ]
    if section["disagree"] is not None:
        tiles.append(
            {
                "label": "The model would say otherwise",
                "value": count(section["disagree"]),
                "note": "examples whose given label it does not find likeliest",
            }
        )
    if section["certified"] is not None:
        shares = section["certified"]["shares"]
        tenth = min(shares, key=lambda row: abs(row["share"] - 0.1))
        tiles.append(
            {
                "label": f"Certified in the top {_round(tenth['share'])} %",
                "value": f"{count(tenth['inside'])} of {count(tenth['count'])}",
                "note": f"by self-influence, at eps = "
                f"{given(section['certified']['eps'])}",
            }
        )
    return tiles


def guarantee_in_words(scan: LabelScan, eps: float) -> dict[str, Any]:
    """What the certified part of a scan says, and what it does not."""
    order = scan.certify(eps)
    geometry = scan.geometry
    return {
        "says": f"For the {geometry.train.shape[0]:,} stored loss features with "
        f"SHA-256 {geometry.train.digest()[:12]}... and ridge {geometry.ridge.hex()}: "
        f"a certified pair keeps its order of self-influence, a certified rank "
        f"interval holds the rank and a certified member of the top 5, 10 or 20 % "
        f"stays in, all at once, under {order.threat.describe()}. "
        f"{percent(order.fraction)} of the {order.pairs:,} pairs are certified. The "
        f"feature map is held fixed. Rounding is included "
        f"(eta = {at_most(order.proof.eta)}).",
        "does_not_say": [
            "Nothing about whether a label is wrong: what is certified is the order of "
            "suspicion by self-influence, not that the suspicion is justified.",
            f"Nothing about other detectors. The queue is ordered by {scan.detector}"
            + ("." if scan.detector == "self-influence" else ", which is an estimate."),
            "Nothing about retraining: the network and its features are held fixed; "
            "only the training distribution inside the formula moves.",
            "Undecided means that no proof was found; it does not mean that the order "
            "is fragile. Ties are always undecided.",
        ],
    }


def _share(value: float | None) -> float | None:
    """A probability, without the rounding that may carry it past one."""
    return None if value is None else min(max(value, 0.0), 1.0)


def _round(share: float) -> str:
    return f"{100 * share:g}"


def _confusion(suspects: Sequence[Suspect]) -> list[dict[str, int]]:
    """How often each label is suspected to be each other one, most often first."""
    pairs = Counter(
        (one.given, one.suggested)
        for one in suspects
        if one.given is not None
        and one.suggested is not None
        and (one.confidence or 0) > (one.given_probability or 0)
    )
    return [
        {"given": a or 0, "suggested": b or 0, "count": number}
        for (a, b), number in pairs.most_common(10_000)
    ]


def _histogram(scan: LabelScan, top: int, wrong: np.ndarray | None) -> dict[str, Any]:
    values = np.asarray(scan.scores[scan.detector], np.float64)
    counts, edges = np.histogram(values, _BINS)
    found = None
    if wrong is not None:
        found = np.histogram(values[wrong], edges)[0].tolist()
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "wrong": found,
        "cut": float(np.sort(values)[::-1][top - 1]),
    }


def _certified(scan: LabelScan, eps: float) -> dict[str, Any]:
    order = scan.certify(eps)
    shares = []
    for share in SHARES:
        size = max(1, round(share * len(order.values)))
        found = order.top(size)
        shares.append(
            {
                "share": share,
                "count": size,
                "inside": len(found.inside),
                "outside": len(found.outside),
                "undecided": len(found.undecided),
            }
        )
    return {"eps": float(eps), "fraction": order.fraction, "shares": shares}
