"""Label files: `.npy` arrays, or CSV with a column `label` and perhaps `example`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from natgeo.errors import ArgumentError, DataError
from natgeo.labels.tables import in_order
from natgeo.store.manifest import write_atomically


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as class numbers, with the words they stand for.

    Attributes:
        y: class numbers, [N], int32.
        classes: the word of each class.
        names: identifiers of the examples, or None.
        numeric: whether the words are the class numbers themselves.
    """

    y: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...] | None = None
    numeric: bool = False


def read_labels(path: str | os.PathLike) -> Labels:
    """Reads labels.

    Raises:
        ArgumentError: if there is no such file.
        DataError: if it does not hold one label for each example.
    """
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file of labels.")
    return _from_array(file) if file.suffix == ".npy" else _from_csv(file)


def write_labels(
    path: str | os.PathLike,
    y: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str] | None = None,
) -> None:
    """Writes labels completely or not at all: `.npy` by its suffix, CSV otherwise.

    A `.npy` holds class numbers, a CSV the words, as they are: like every file of data
    it is not meant to be opened in a spreadsheet without a look at the words first.

    Raises:
        StoreError: if the file cannot be written.
    """
    file = Path(path)
    if file.suffix == ".npy":
        out = io.BytesIO()
        np.save(out, np.asarray(y), allow_pickle=False)
        write_atomically(file, out.getvalue())
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label"] if names is None else ["example", "label"])
    for place, number in enumerate(y):
        word = classes[int(number)]
        writer.writerow([word] if names is None else [names[place], word])
    write_atomically(file, text.getvalue().encode())


def _from_array(file: Path) -> Labels:
    try:
        # Mapped, so that a header which claims too much allocates nothing.
        array = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{file} is not a readable .npy array: {error}.") from None
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iuU":
        raise DataError(
            f"{file} has dtype {array.dtype} and shape {array.shape}: expected one "
            f"label for each example, whole numbers or words."
        )
    if array.dtype.kind == "U":
        return _of_words(file, [str(word) for word in array])
    if array.min() < 0 or array.max() >= 10_000:
        raise DataError(
            f"{file} holds labels from {array.min()} to {array.max()}: expected class "
            f"numbers from 0 to at most 9,999."
        )
    classes = tuple(str(number) for number in range(int(array.max()) + 1))
    return Labels(np.asarray(array, np.int32), classes, None, True)


def _from_csv(file: Path) -> Labels:
    try:
        text = file.read_bytes().decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not readable CSV: {error}.") from None
    if not rows or "label" not in rows[0]:
        raise DataError(f"{file} has no column 'label': name it so in its first line.")
    place = rows[0].index("label")
    short = [n for n, row in enumerate(rows) if len(row) != len(rows[0])]
    if short:
        raise DataError(f"{file}, line {short[0] + 1} has another number of cells.")
    names = None
    if "example" in rows[0]:
        names = tuple(row[rows[0].index("example")] for row in rows[1:])
    return _of_words(file, [row[place].strip() for row in rows[1:]], names)


def _of_words(
    file: Path, words: list[str], names: tuple[str, ...] | None = None
) -> Labels:
    if not words:
        raise DataError(f"{file} holds no labels.")
    numeric = all(word.isascii() and word.isdigit() for word in words)
    if numeric and max(map(int, words)) < 10_000:
        y = np.array([int(word) for word in words], np.int32)
        classes = tuple(str(number) for number in range(int(y.max()) + 1))
        return Labels(y, classes, names, True)
    classes = in_order(set(words))
    number = {word: place for place, word in enumerate(classes)}
    return Labels(np.array([number[w] for w in words], np.int32), classes, names)
