"""The review queue of a document: what it must fulfil, and how the page carries it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from natgeo import display
from natgeo.errors import DataError

_TEXTS = ("name", "text")
# What could end the element that holds the data, or start one.
_ESCAPES = {c: f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def check_review(review: Mapping[str, Any]) -> None:
    """Refuses a queue that does not fit together.

    Raises:
        DataError: naming the first field that does not.
    """
    classes, size = len(review["classes"]), review["examples"]
    seen: set[int] = set()
    for place, row in enumerate(review["queue"]):
        where = f"review.queue[{place}]"
        for name in ("given", "suggested"):
            if row[name] is not None:
                _check_class(f"{where}.{name}", row[name], classes)
        for name, most in (("index", size - 1), ("rank", size), ("highest", size)):
            if row[name] is not None and row[name] > most:
                raise DataError(
                    f"{where}.{name} is {row[name]}: expected at most {most}, for "
                    f"{size} examples (review.examples)."
                )
        if row["index"] in seen:
            raise DataError(
                f"{where}.index is {row['index']}, listed before: each example once."
            )
        seen.add(row["index"])
    for number, other in (review["others"] or {}).items():
        if not number.isdecimal():
            raise DataError(
                f"review.others has a name that is no index: {number[:20]!a}."
            )
        _check_class(f"review.others.{number}.given", other["given"], classes)
    for place, cell in enumerate(review["confusion"] or []):
        for name in ("given", "suggested"):
            _check_class(f"review.confusion[{place}].{name}", cell[name], classes)
    histogram = review["histogram"]
    if histogram is not None:
        bins = len(histogram["edges"]) - 1
        for name in ("counts", "wrong"):
            if histogram[name] is not None and len(histogram[name]) != bins:
                raise DataError(
                    f"review.histogram.{name} has {len(histogram[name])} values: "
                    f"expected {bins}, one between each two edges."
                )


def _check_class(where: str, value: int, classes: int) -> None:
    if value >= classes:
        raise DataError(
            f"{where} is {value}: expected a class from 0 to {classes - 1} "
            f"(review.classes has {classes})."
        )


def queue_json(review: Mapping[str, Any]) -> str:
    """What the script of the page reads, as JSON that is inert inside HTML.

    Everything invisible in a string is spelled out; nothing can end the element.
    """
    data = {
        "fingerprint": review["fingerprint"],
        "examples": review["examples"],
        "classes": [display.visible(name) for name in review["classes"]],
        "queue": [_shown(row) for row in review["queue"]],
        "others": {
            number: _shown(other) for number, other in (review["others"] or {}).items()
        },
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return "".join(_ESCAPES.get(character, character) for character in text)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what is absent, its strings made visible."""
    return {
        key: display.visible(value) if key in _TEXTS else value
        for key, value in row.items()
        if value is not None
    }
