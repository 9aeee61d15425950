"""A CSV file with a label column, as arrays."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from natgeo.cells import read_cells
from natgeo.errors import ArgumentError, DataError

_FEW_WORDS = 20  # a text column with no more different entries becomes indicators


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Numbers and labels of a table.

    Attributes:
        x: [N, D], float32, as they stand; text columns of few words as indicators.
        y: class numbers, [N], int32.
        classes: entries of the label column, in order of the class numbers.
        columns: name of each of the D columns.
        head: all columns of the file, in order.
        rows: all cells of the file as text, [N][len(head)].
        label: name of the label column.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    label: str

    def words(self, index: int, most: int = 12) -> str:
        """A row in words: the first columns with their cells."""
        cells = zip(self.head, self.rows[index], strict=True)
        shown = [f"{name}: {cell}" for name, cell in cells if name != self.label]
        rest = f" … {len(shown) - most} more" if len(shown) > most else ""
        return " · ".join(shown[:most])[:600] + rest

    def with_labels(self, y: np.ndarray) -> bytes:
        """The same file with other labels, as CSV."""
        place = self.head.index(self.label)
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.head)
        for row, number in zip(self.rows, y, strict=True):
            cells = list(row)
            cells[place] = self.classes[int(number)]
            writer.writerow(cells)
        return out.getvalue().encode()


def read_table(
    path: str | os.PathLike,
    label: str,
    *,
    ignore: Sequence[str] = (),
    like: LabelledTable | None = None,
) -> LabelledTable:
    """Reads a CSV file with a head line.

    Args:
        path: the file, UTF-8.
        label: name of the label column.
        ignore: columns to leave out, such as identifiers.
        like: a table whose classes and columns this one must have.

    Raises:
        ArgumentError: if there is no such file or column.
        DataError: for empty cells, columns of free text, or a single class; the message
            names the column and line.
    """
    head, rows = read_cells(Path(path))
    for name in (label, *ignore):
        if name not in head:
            raise ArgumentError(
                f"{path} has no column {name!r}; it has {', '.join(head[:20])}."
            )
    given = [row[head.index(label)].strip() for row in rows]
    empty = [place for place, word in enumerate(given) if not word]
    if empty:
        raise DataError(
            f"{path}, line {empty[0] + 2}: the label column {label!r} is empty "
            f"({len(empty)} lines). Fill it in, or remove the lines."
        )
    classes = in_order(set(given)) if like is None else like.classes
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is not a class of the first table.")
    if len(classes) == 1:
        raise DataError(
            f"{path} has one class only, {classes[0]!r}: a wrong label can only be "
            f"seen among several classes."
        )
    used = [name for name in head if name != label and name not in ignore]
    x, columns = _numbers(Path(path), head, rows, used, like)
    if not columns:
        raise DataError(f"{path} has no column besides the label.")
    number = {name: place for place, name in enumerate(classes)}
    y = np.array([number[word] for word in given], np.int32)
    return LabelledTable(x, y, tuple(classes), columns, head, rows, label)


def in_order(words: set[str]) -> tuple[str, ...]:
    """Numbers by size, anything else by the alphabet."""
    try:
        return tuple(sorted(words, key=lambda word: (float(word), word)))
    except ValueError:
        return tuple(sorted(words))


def _numbers(
    path: Path,
    head: tuple[str, ...],
    rows: tuple[tuple[str, ...], ...],
    used: list[str],
    like: LabelledTable | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Columns as numbers, and their names; refuses free text by name."""
    parts: list[np.ndarray] = []
    names: list[str] = []
    refused = []
    for name in used:
        place = head.index(name)
        cells = [row[place].strip() for row in rows]
        empty = [line for line, cell in enumerate(cells) if not cell]
        if empty:
            raise DataError(
                f"{path}, line {empty[0] + 2}: column {name!r} is empty ({len(empty)} "
                f"lines). Fill it in, or leave the column out with --ignore."
            )
        values = _floats(cells)
        words = sorted(set(cells))
        if like is not None and name not in like.columns:
            prefix = f"{name}="
            words = [
                c.removeprefix(prefix) for c in like.columns if c.startswith(prefix)
            ]
            values = None
        if values is not None:
            parts.append(values)
            names.append(name)
        elif like is not None or len(words) <= _FEW_WORDS:
            for word in words:
                parts.append(np.array([cell == word for cell in cells], np.float32))
                names.append(f"{name}={word}")
        else:
            refused.append(name)
    if refused:
        raise DataError(
            f"{path}: {', '.join(map(repr, refused[:8]))} hold text with more than "
            f"{_FEW_WORDS} different entries, which has no use as a number. Leave them "
            f"out with --ignore, or encode them first."
        )
    if like is not None and tuple(names) != like.columns:
        raise DataError(
            f"{path} does not have the columns of the first table: "
            f"{', '.join(like.columns[:10])}."
        )
    if not parts:
        return np.zeros((len(rows), 0), np.float32), ()
    return np.stack(parts, axis=1).astype(np.float32), tuple(names)


def _floats(cells: list[str]) -> np.ndarray | None:
    """The cells as finite numbers, None if one of them is none."""
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return None
    finite = all(math.isfinite(value) and abs(value) < 1e30 for value in values)
    return np.array(values, np.float32) if finite else None
