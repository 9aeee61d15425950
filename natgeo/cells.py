"""The cells of a CSV file, as text: what every table of the library is read from."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path
from typing import NamedTuple

from natgeo.errors import ArgumentError, DataError

# Cells that say that nothing is known, in lower case.
MISSING = frozenset({"", "na", "nan", "null", "none", "n/a", "#n/a", "?"})
_DELIMITERS = ",;\t|"


class Cells(NamedTuple):
    """A table as text.

    Attributes:
        head: names of the columns, as they stand.
        rows: cells as they stand, [N][len(head)].
        lines: the line of the file in which each row begins, [N], from 1.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]


def read_cells(file: Path) -> Cells:
    """The head line of a CSV file and the rows below it; empty ones are left out.

    Args:
        file: UTF-8 or UTF-16 with or without a byte order mark, or else Windows-1252;
            commas, semicolons, tabs or bars, whichever gives the head most cells.

    Raises:
        ArgumentError: if there is no such file.
        DataError: for what is no CSV, rows of another length, repeated names, or a
            table without rows.
    """
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file: name a table.")
    try:
        (_, head), *rows = _records(_decoded(file)) or [(1, ())]
    except (csv.Error, UnicodeError, OSError) as error:
        raise DataError(
            f"{file} cannot be read as CSV ({error}): write it with commas, in UTF-8."
        ) from None
    if not rows:
        raise DataError(f"{file} holds no rows below a head line of column names.")
    bare = [name.strip() for name in head]
    for name in bare:
        if bare.count(name) > 1:
            raise DataError(f"{file} has two columns {name!r}: rename one.")
    for line, row in rows:
        if len(row) != len(head):
            raise DataError(
                f"{file}, line {line} has {len(row)} cells, the head line "
                f"{len(head)}. Repair the line."
            )
    return Cells(head, tuple(row for _, row in rows), tuple(line for line, _ in rows))


def _decoded(file: Path) -> str:
    found = file.read_bytes()
    if found.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return found.decode("utf-16")
    if b"\0" in found:
        raise csv.Error("it holds zero bytes, which no text has")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError:
        return found.decode("cp1252")


def _records(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Every row with something in it, after the line in which it begins."""
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True
    )
    found, begin = [], 1
    for row in lines:
        if any(cell.strip() for cell in row):
            found.append((begin, tuple(row)))
        begin = lines.line_num + 1
    return found


def _delimiter(text: str) -> str:
    """What splits the first line into most cells; the comma among equals."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(
        _DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), ()))
    )
