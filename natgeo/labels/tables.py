"""A CSV file with a label column, as arrays."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from natgeo.cells import read_cells
from natgeo.errors import ArgumentError, DataError
from natgeo.labels.columns import Column, learn


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Numbers and labels of a table.

    Attributes:
        x: [N, D], float32; `natgeo.labels.columns` says how they are made.
        y: class numbers, [N], int32.
        classes: entries of the label column, in order of the class numbers.
        encoders: how the columns that are used are read.
        left_out: of the other columns, the name and the reason.
        head: all columns of the file, in order, without spaces around them.
        rows: all cells of the file as text, [N][len(head)].
        lines: of the file, in which each row begins, [N], from 1.
        label: name of the label column.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    encoders: tuple[Column, ...]
    left_out: dict[str, str]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    label: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each of the D columns."""
        return tuple(name for one in self.encoders for name in one.names)

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
        path: the file, as `natgeo.cells.read_cells` reads it.
        label: name of the label column.
        ignore: columns to leave out.
        like: a table whose classes and columns this one must have.

    Raises:
        ArgumentError: if there is no such file or column.
        DataError: for empty labels, labels that are no classes, a single class, or no
            column of use besides; the message names the column and line.
    """
    head, rows, lines = read_cells(Path(path))
    head = tuple(name.strip() for name in head)
    for name in (label, *ignore):
        if name not in head:
            raise ArgumentError(
                f"{path} has no column {name!r}; it has {', '.join(head[:20])}."
            )
    given = [row[head.index(label)].strip() for row in rows]
    classes = _classes(path, label, given, lines) if like is None else like.classes
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is not a class of the first table.")
    used = [name for name in head if name != label and name not in ignore]
    text = {
        name: [row[place].strip() for row in rows]
        for place, name in enumerate(head)
        if name in used
    }
    if like is None:
        found = {name: learn(name, text[name], given) for name in used}
        encoders = tuple(one for one in found.values() if isinstance(one, Column))
        left_out = {name: one for name, one in found.items() if isinstance(one, str)}
    else:
        encoders, left_out = like.encoders, like.left_out
    if not encoders:
        reasons = "".join(f"; {name!r} {why}" for name, why in left_out.items())
        raise DataError(f"{path} has no column of use besides the label{reasons}.")
    missing = [one.name for one in encoders if one.name not in text]
    if missing:
        raise DataError(
            f"{path} does not have the columns of the first table: {missing[0]!r}."
        )
    x = np.concatenate([one.encode(text[one.name]) for one in encoders], axis=1)
    number = {name: place for place, name in enumerate(classes)}
    y = np.array([number[word] for word in given], np.int32)
    return LabelledTable(
        x, y, tuple(classes), encoders, left_out, head, rows, lines, label
    )


def _classes(
    path: str | os.PathLike, label: str, given: list[str], lines: tuple[int, ...]
) -> tuple[str, ...]:
    """The classes of labels that can be scanned.

    Raises:
        DataError: for empty labels, one class, or labels that hardly ever repeat.
    """
    empty = [line for line, word in zip(lines, given, strict=True) if not word]
    if empty:
        raise DataError(
            f"{path}, line {empty[0]}: the label column {label!r} is empty "
            f"({len(empty)} lines). Fill it in, or remove the lines."
        )
    classes = in_order(set(given))
    if len(classes) == 1:
        raise DataError(
            f"{path} has one class only, {classes[0]!r}: a wrong label can only be "
            f"seen among several classes."
        )
    if len(classes) > max(len(given) // 2, 2):
        raise DataError(
            f"{path}: the label column {label!r} has {len(classes):,} different "
            f"entries in {len(given):,} rows. A label is a class that several rows "
            f"have: name another column with --label."
        )
    return classes


def in_order(words: set[str]) -> tuple[str, ...]:
    """Numbers by size, anything else by the alphabet."""
    try:
        return tuple(sorted(words, key=lambda word: (float(word), word)))
    except ValueError:
        return tuple(sorted(words))
