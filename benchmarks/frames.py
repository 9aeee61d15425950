"""Tables as people have them, as text: words, gaps, identifiers, numbers.

From scikit-learn and the Debian packages r-cran-mlbench and r-cran-kernlab, found and
read as in `benchmarks/tables.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from natgeo.errors import DataError

# Name -> package, table in it, label column.
FROM_R = {
    "BreastCancer": ("mlbench", "BreastCancer", "Class"),
    "DNA": ("mlbench", "DNA", "Class"),
    "Glass": ("mlbench", "Glass", "Type"),
    "HouseVotes84": ("mlbench", "HouseVotes84", "Class"),
    "Ionosphere": ("mlbench", "Ionosphere", "Class"),
    "Letter": ("mlbench", "LetterRecognition", "lettr"),
    "PimaIndians": ("mlbench", "PimaIndiansDiabetes2", "diabetes"),
    "Satellite": ("mlbench", "Satellite", "classes"),
    "Shuttle": ("mlbench", "Shuttle", "Class"),
    "Sonar": ("mlbench", "Sonar", "Class"),
    "Soybean": ("mlbench", "Soybean", "Class"),
    "Vehicle": ("mlbench", "Vehicle", "Class"),
    "Vowel": ("mlbench", "Vowel", "Class"),
    "Zoo": ("mlbench", "Zoo", "type"),
    "income": ("kernlab", "income", "INCOME"),
    "spam": ("kernlab", "spam", "type"),
}
FROM_SKLEARN = ("iris", "wine", "breast_cancer", "digits")


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as text.

    Attributes:
        head: names of the columns.
        rows: cells, [N][len(head)]; empty where nothing is known.
        label: name of the label column.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    label: str

    @property
    def labels(self) -> list[str]:
        """The label of each row."""
        place = self.head.index(self.label)
        return [row[place] for row in self.rows]

    def write(self, file: Path, labels: Sequence[str]) -> None:
        """Writes a CSV file with other labels."""
        place = self.head.index(self.label)
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(self.head)
            for row, label in zip(self.rows, labels, strict=True):
                writer.writerow([*row[:place], label, *row[place + 1 :]])


def load(name: str, most: int, library: Path = tables.LIBRARY) -> Frame:
    """A table by its name, `most` random rows of it that have a label, in their order.

    Raises:
        UnfitEnvironmentError: for a package that is not there.
        DataError: if a file is not what its name says.
    """
    frame = _from_sklearn(name) if name in FROM_SKLEARN else _from_r(name, library)
    labelled = [
        row for row, label in zip(frame.rows, frame.labels, strict=True) if label
    ]
    kept = np.sort(np.random.default_rng(0).permutation(len(labelled))[:most])
    return Frame(frame.head, tuple(labelled[place] for place in kept), frame.label)


def _from_sklearn(name: str) -> Frame:
    found = tables.from_sklearn(name)
    rows = [
        (*map(_text, numbers), found.classes[number])
        for numbers, number in zip(found.x, found.y, strict=True)
    ]
    return Frame((*found.columns, "kind"), tuple(rows), "kind")


def _from_r(name: str, library: Path) -> Frame:
    package, stem, label = FROM_R[name]
    file = tables.r_file(name, library, package, stem)
    frame = tables.read_r(file).get(stem)
    if frame is None or label not in getattr(frame, "columns", ()):
        raise DataError(f"{file} holds no table {stem!r} with a column {label!r}.")
    cells = [map(_text, frame[column]) for column in frame.columns]
    return Frame(tuple(map(str, frame.columns)), tuple(zip(*cells, strict=True)), label)


def _text(value: Any) -> str:
    """A cell; empty for what R calls NA."""
    if str(value) in ("None", "nan", "<NA>"):
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)
