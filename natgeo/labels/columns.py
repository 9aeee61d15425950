"""How the columns of a file become numbers, learned once and applied to later files.

Numbers, and dates as days, keep their values; where some are missing, the median stands
in and a second column says so. Text of few different entries becomes one indicator for
each. Other text is taken for sentences: an indicator for each common word. Columns that
cannot tell the right labels from the wrong ones, or that give the label away, are left
out with a reason.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from natgeo.cells import MISSING

FEW_ENTRIES = 20  # text with no more different ones becomes indicators
MOST_WORDS, RAREST = 500, 5  # of sentences; a word is in at least so many rows
_ALMOST_ALL = 0.9  # a column with such a share of numbers is one of numbers
_FEWEST_ROWS = 8  # so many are in order by chance once in 8! = 40,320 times
_EPOCH = datetime(1970, 1, 1)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")


@dataclass(frozen=True)
class Column:
    """How one column of a file is read.

    Attributes:
        name: in the head of the file.
        kind: "number", "entry" or "text".
        words: what the indicators of entries or text stand for.
        median: of numbers; stands for missing ones.
        gaps: whether numbers are missing in the table this was learned from.
    """

    name: str
    kind: str
    words: tuple[str, ...] = ()
    median: float = 0.0
    gaps: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of numbers that it makes, D of them."""
        if self.kind == "number":
            return (self.name, f"{self.name} missing")[: 1 + self.gaps]
        mark = "=" if self.kind == "entry" else "~"
        return tuple(f"{self.name}{mark}{word}" for word in self.words)

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """[N, D] float32 of cells, N of them; words it does not know count as none."""
        if self.kind == "number":
            values = numbers(cells)
            missing = np.isnan(values)
            values[missing] = self.median
            both = np.stack([values, missing], axis=1)[:, : 1 + self.gaps]
            return both.astype(np.float32)
        place = {word: at for at, word in enumerate(self.words)}
        out = np.zeros((len(cells), len(place)), np.float32)
        for row, cell in enumerate(cells):
            for word in [cell] if self.kind == "entry" else _words(cell):
                if word in place:
                    out[row, place[word]] = 1
        return out


def learn(name: str, cells: Sequence[str], labels: Sequence[str]) -> Column | str:
    """How a column is read, or in words why it is left out.

    Args:
        name: of the column.
        cells: without spaces around them, [N].
        labels: the label of each row, [N].
    """
    entries = set(cells)
    if len(entries) == 1:
        return "has one value"
    if len(entries) == len(set(labels)) == len(set(zip(cells, labels, strict=True))):
        return "says the same as the label"
    values = numbers(cells)
    known = values[~np.isnan(values)]
    if _counts_rows(values):
        return "numbers the rows"
    filled = sum(cell.lower() not in MISSING for cell in cells)
    if len(known) and len(known) >= _ALMOST_ALL * filled:
        gaps = len(known) < len(values)
        return Column(name, "number", median=float(np.median(known)), gaps=gaps)
    if len(entries) <= FEW_ENTRIES:
        return Column(name, "entry", tuple(sorted(entries)))
    seen = Counter(word for cell in cells for word in _words(cell))
    common = [w for w, n in seen.most_common(MOST_WORDS) if RAREST <= n < len(cells)]
    if not common:
        return "is text without words that occur again"
    return Column(name, "text", tuple(sorted(common)))


def numbers(cells: Sequence[str]) -> np.ndarray:
    """Cells as numbers, [N] float64; dates in days, NaN for anything else.

    Commas separate thousands if they can do so in every cell, else decimals.
    """
    commas = [cell for cell in cells if "," in cell]
    mark = "" if all(map(_THOUSANDS.fullmatch, commas)) else "."
    return np.array([_number(cell.replace(",", mark)) for cell in cells], np.float64)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = _days(cell)
    # Squares of larger ones are too much for float32: they stand for missing ones.
    return value if abs(value) < 1e18 else math.nan


def _days(cell: str) -> float:
    try:
        date = datetime.fromisoformat(cell).replace(tzinfo=None)
    except ValueError:
        return math.nan
    return (date - _EPOCH).total_seconds() / 86400


def _counts_rows(values: np.ndarray) -> bool:
    """Whole numbers, each larger than the one before: an identifier, or an order."""
    if len(values) < _FEWEST_ROWS or np.isnan(values).any() or (values % 1).any():
        return False
    return bool((np.diff(values) > 0).all())


def _words(cell: str) -> set[str]:
    return set(re.findall(r"\w+", cell.lower()))
