"""The result document: its format, and reading and writing it.

A document is plain JSON: what a run found, ready to be drawn, with no array and no code
in it. It may come from anywhere, so it is checked field by field before a page is made
from it. What it claims is not re-derived here; that is the work of certificate files.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from natgeo.errors import ArgumentError, DataError
from natgeo.report.queue import check_review
from natgeo.report.schema import DOCUMENT
from natgeo.store.manifest import write_atomically

FORMAT = 1
LARGEST = 64 * 2**20


def check_document(document: dict[str, Any]) -> dict[str, Any]:
    """A checked copy of a document.

    Sections that are absent or null are absent from it; inside a section every optional
    field is present, as None if it was absent.

    Args:
        document: the document as plain Python values.

    Raises:
        ArgumentError: if it is not a dict.
        DataError: naming the first field that cannot be shown and what is expected.

    Examples:
        >>> check_document({"natgeo": "0.1.0", "format": 1, "kind": "demo"})
        Traceback (most recent call last):
        ...
        natgeo.errors.DataError: title is missing: add it.
    """
    if not isinstance(document, dict):
        raise ArgumentError(
            f"document is a {type(document).__name__}: expected a dict, as from "
            f"read_document."
        )
    if type(document.get("format")) is int and document["format"] != FORMAT:
        raise DataError(
            f"format is {document['format']}: this natgeo draws format {FORMAT}. "
            f"Install the natgeo that wrote it."
            if abs(document["format"]) < 2**53
            else f"format is not {FORMAT}: this is not a natgeo document."
        )
    checked = {
        name: value
        for name, value in DOCUMENT("", document).items()
        if value is not None
    }
    if "curve" in checked:
        _check_curve(checked["curve"])
    size = checked["geometry"]["N"] if "geometry" in checked else math.inf
    for t, target in enumerate(checked.get("targets", [])):
        for p, proponent in enumerate(target["proponents"]):
            _check_interval(f"targets[{t}].proponents[{p}]", proponent, size)
    if "pair" in checked:
        _check_pair(checked["pair"])
    for d, detector in enumerate(checked.get("scan", {}).get("detectors") or []):
        for curve in ("recall_curve", "roc_curve"):
            _check_recall(f"scan.detectors[{d}].{curve}", detector[curve])
    if "review" in checked:
        check_review(checked["review"])
    return checked


def _check_curve(curve: dict[str, Any]) -> None:
    radii = curve["radii"]
    for i, radius in enumerate(radii):
        if not radius > (radii[i - 1] if i else 0):
            raise DataError(
                f"curve.radii[{i}] is {radius:g}: expected positive radii in "
                f"increasing order."
            )
    for name in (
        "certified",
        "euclidean_radii",
        "sensitivity_natural",
        "sensitivity_euclidean",
    ):
        if curve[name] is not None and len(curve[name]) != len(radii):
            raise DataError(
                f"curve.{name} has {len(curve[name])} values: expected one for each "
                f"of the {len(radii)} radii."
            )


def _check_interval(where: str, proponent: dict[str, Any], size: float) -> None:
    low, high = proponent["lowest"], proponent["highest"]
    if low > high:
        raise DataError(
            f"{where}.lowest is {low}, above highest, {high}: expected the best rank "
            f"in lowest and the worst in highest."
        )
    if high > size:
        raise DataError(
            f"{where}.highest is {high}: expected a rank of at most {size}, the "
            f"number of training examples (geometry.N)."
        )
    if proponent["rank"] is not None and not low <= proponent["rank"] <= high:
        raise DataError(
            f"{where}.rank is {proponent['rank']}: expected a rank inside the "
            f"certified interval, {low} to {high}."
        )


def _check_pair(pair: dict[str, Any]) -> None:
    if pair["above"] == pair["below"]:
        raise DataError(
            f"pair.below is {pair['below']}, the same example as pair.above: expected "
            f"two different training examples."
        )
    beyond = pair["eps"] is not None and pair["eps"] > pair["radius"]
    if pair["status"] == "certified" and (beyond or pair["radius"] == 0):
        raise DataError(
            f"pair.status is 'certified' with radius {pair['radius']:g} and eps "
            f"{pair['eps']}: expected a positive radius of at least eps, or the "
            f"status 'undecided'."
        )
    found = pair["counterexample"]
    if found and found["flips"] and found["cost"] <= pair["radius"]:
        raise DataError(
            f"pair.counterexample.cost is {found['cost']:g}, within the proven radius "
            f"{pair['radius']:g}: a proof and a counterexample cannot both be right. "
            f"Certify the pair again."
        )


def _check_recall(where: str, curve: list[list[float]] | None) -> None:
    for i, (before, after) in enumerate(
        zip(curve or [], (curve or [])[1:], strict=False)
    ):
        if after[0] < before[0] or after[1] < before[1]:
            raise DataError(
                f"{where}[{i + 1}] is {after}, less than the point before: expected "
                f"points in increasing order."
            )


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads and checks a document.

    Args:
        path: a JSON file, of 64 MiB at most.

    Raises:
        ArgumentError: if there is no such file.
        DataError: naming the file, the field and what is expected there.
    """
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file: name a result document, as JSON.")
    try:
        with open(file, "rb") as handle:
            data = handle.read(LARGEST + 1)
    except OSError as error:
        raise ArgumentError(
            f"Cannot read {file}: {error.strerror}. Name a readable result document."
        ) from None
    if len(data) > LARGEST:
        raise DataError(
            f"{file} is larger than {LARGEST // 2**20} MiB: a result document holds "
            f"thumbnails, not data. Write fewer or smaller ones."
        )
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except RecursionError:
        raise DataError(
            f"{file} is nested too deeply to be a result document: write it again "
            f"with natgeo."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{file} is not readable JSON ({error}): write it again with natgeo."
        ) from None
    if not isinstance(document, dict):
        raise DataError(f"{file} holds no object: expected a result document.")
    try:
        return check_document(document)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _refuse_constant(literal: str) -> NoReturn:
    raise DataError(
        f"{literal} is not JSON and cannot be shown: write null where there is no "
        f"number."
    )


def write_document(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Checks a document and writes it, completely or not at all.

    Args:
        document: the document as plain Python values.
        path: where to write the JSON.

    Raises:
        ArgumentError: if it is not a dict.
        DataError: if a field cannot be shown or the document is too large.
        StoreError: if it cannot be written.
    """
    check_document(document)
    data = json.dumps(document, allow_nan=False, indent=1).encode() + b"\n"
    if len(data) > LARGEST:
        raise DataError(
            f"The document takes {len(data) / 2**20:.0f} MiB, at most "
            f"{LARGEST // 2**20} MiB are read back: show fewer or smaller thumbnails."
        )
    write_atomically(Path(path), data)
