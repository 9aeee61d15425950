"""Decisions of a review: reading them, and the labels they make.

Decisions come back from a browser or a spreadsheet, so they are checked field by field,
and they carry a fingerprint of the labels that were reviewed: decisions about other
labels, or about the same ones in another order, are refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from natgeo.errors import ArgumentError, DataError

KINDS = ("accept", "relabel", "skip")
_LARGEST = 256 * 2**20
_FIELDS = ("fingerprint", "examples", "index", "decision", "given", "label")


@dataclass(frozen=True)
class Decision:
    """What a person said about the label of one example.

    Attributes:
        index: of the example.
        kind: `accept`, `relabel` or `skip`.
        given: its label when it was reviewed, as a class number.
        label: the label it should have.
    """

    index: int
    kind: str
    given: int
    label: int


@dataclass(frozen=True, eq=False)
class Decisions:
    """All decisions of one review.

    Attributes:
        fingerprint: of the labels that were reviewed.
        examples: how many there are.
        rows: one for each example that was decided.
    """

    fingerprint: str
    examples: int
    rows: tuple[Decision, ...]

    @property
    def changed(self) -> np.ndarray:
        """Indices of the examples that get another label."""
        rows = [row.index for row in self.rows if row.kind == "relabel"]
        return np.array(sorted(rows), np.intp)

    def apply(self, labels: Any, names: Sequence[str] | None = None) -> np.ndarray:
        """The cleaned labels, [N], a copy.

        Args:
            labels: the labels that were reviewed, as class numbers, [N].
            names: of the examples, if the review had names.

        Raises:
            DataError: if they are not the labels that were reviewed.
        """
        array = np.asarray(labels)
        if array.shape != (self.examples,):
            raise DataError(
                f"The decisions are about {self.examples:,} examples, the labels have "
                f"shape {array.shape}. Name the labels that were scanned."
            )
        if fingerprint(array, names) != self.fingerprint:
            raise DataError(
                "The decisions are about other labels: the fingerprint differs. Name "
                "the labels that were scanned, unchanged and in the same order."
            )
        cleaned = array.copy()
        for row in self.rows:
            if int(array[row.index]) != row.given:
                raise DataError(
                    f"The decision about example {row.index} says that its label was "
                    f"{row.given}; it is {array[row.index]}. Review it again."
                )
            if row.kind == "relabel":
                cleaned[row.index] = row.label
        return cleaned


def fingerprint(labels: Any, names: Iterable[str] | None = None) -> str:
    """SHA-256 of the labels in their order, and of the names of the examples if any.

    Args:
        labels: class numbers, [N].
        names: identifiers of the examples, such as file names, [N].
    """
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(
            f"labels has dtype {numbers.dtype} and shape {numbers.shape}: expected one "
            f"whole number for each example."
        )
    sha = hashlib.sha256(f"natgeo labels {len(numbers)}\n".encode())
    sha.update(np.ascontiguousarray(numbers, "<i8").tobytes())
    if names is not None:
        sha.update(json.dumps(list(names), ensure_ascii=True).encode())
    return sha.hexdigest()


def read_decisions(path: str | os.PathLike) -> Decisions:
    """Reads decisions as CSV or JSON, as the review page writes them.

    Raises:
        ArgumentError: if there is no such file.
        DataError: naming the line or entry that cannot be used and why.
    """
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file: name the downloaded decisions.")
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{file} is larger than {_LARGEST // 2**20} MiB.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}.") from None
    entries = _from_json(file, text) if text.lstrip()[:1] == "{" else _rows(file, text)
    if not entries:
        raise DataError(f"{file} holds no decisions: review some examples first.")
    prints = {str(entry["fingerprint"]) for _, entry in entries}
    sizes = {_whole(file, where, "examples", entry) for where, entry in entries}
    if len(prints) != 1 or len(sizes) != 1:
        raise DataError(
            f"{file} mixes decisions of several reviews: {len(prints)} fingerprints. "
            f"Apply each file alone."
        )
    size, seen, rows = sizes.pop(), dict[int, str](), []
    for where, entry in entries:
        row = _decision(file, where, entry, size)
        if row.index in seen:
            raise DataError(
                f"{file}, {where}: example {row.index} was decided in "
                f"{seen[row.index]} already. Keep one of them."
            )
        seen[row.index] = where
        rows.append(row)
    return Decisions(prints.pop(), size, tuple(rows))


def _rows(file: Path, text: str) -> list[tuple[str, dict]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        head = reader.fieldnames or []
        missing = [name for name in _FIELDS if name not in head]
        if missing:
            raise DataError(
                f"{file} has no column {missing[0]!r}: expected the CSV or JSON that "
                f"the review page downloads."
            )
        return [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise DataError(f"{file} is not readable CSV: {error}.") from None


def _from_json(file: Path, text: str) -> list[tuple[str, dict]]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not readable JSON: {error}.") from None
    if body.get("natgeo_decisions") != 1 or not isinstance(body.get("decisions"), list):
        raise DataError(f"{file} holds no decisions of a review in format 1.")
    shared = {name: body.get(name) for name in ("fingerprint", "examples")}
    rows = body["decisions"]
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{file}, entry {place} is not an object.")
    return [(f"entry {place}", {**row, **shared}) for place, row in enumerate(rows)]


def _decision(file: Path, where: str, entry: dict, size: int) -> Decision:
    kind = entry.get("decision")
    if kind not in KINDS:
        raise DataError(
            f"{file}, {where}: the decision is {str(kind)[:40]!a}, expected one of "
            f"{', '.join(KINDS)}."
        )
    index, given, label = (
        _whole(file, where, name, entry) for name in ("index", "given", "label")
    )
    if index >= size:
        raise DataError(
            f"{file}, {where}: there is no example {index}, only {size:,} of them, "
            f"numbered from 0."
        )
    if (kind == "relabel") == (label == given):
        raise DataError(
            f"{file}, {where}: a decision to {kind} example {index} cannot turn label "
            f"{given} into {label}."
        )
    return Decision(index, kind, given, label)


def _whole(file: Path, where: str, name: str, entry: dict) -> int:
    value = entry.get(name)
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    if type(text) is int and 0 <= text < 2**53:
        return text
    _refuse(file, where, name, value)


def _refuse(file: Path, where: str, name: str, value: Any) -> NoReturn:
    raise DataError(
        f"{file}, {where}: {name} is {str(value)[:40]!a}, expected a whole number from "
        f"0 up."
    )
