"""The cells of a CSV file, as text: what every table of the library is read from."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from natgeo.errors import ArgumentError, DataError


def read_cells(file: Path) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The head line of a CSV file and the lines below it; empty lines are left out.

    Args:
        file: commas, UTF-8 with or without a byte order mark.

    Raises:
        ArgumentError: if there is no such file.
        DataError: for what is no CSV, lines of another length, repeated names, or a
            table without rows.
    """
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file: name a table.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        head, *rows = [tuple(line) for line in lines if line] or [()]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{file} cannot be read as CSV ({error}): write it with commas, in UTF-8."
        ) from None
    if not rows:
        raise DataError(f"{file} holds no rows below a head line of column names.")
    for name in head:
        if head.count(name) > 1:
            raise DataError(f"{file} has two columns {name!r}: rename one.")
    for place, row in enumerate(rows):
        if len(row) != len(head):
            raise DataError(
                f"{file}, line {place + 2} has {len(row)} cells, the head line "
                f"{len(head)}. Repair the line."
            )
    return head, tuple(rows)
