"""Tables from files: CSV by the standard library, Parquet by pyarrow if installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.cells import MISSING, read_cells
from natgeo.errors import ArgumentError, DataError

MOST_CATEGORIES = 200


@dataclass(frozen=True, eq=False)
class Labelled:
    """A table ready to be fitted.

    Attributes:
        x: [N, d], float64.
        y: labels, [N]: integers, floats or text.
        names: of the d columns of x.
        notes: what was done to the table, in words.
    """

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Columns of a CSV or Parquet file, by name, in order: numbers or text.

    The first line of a CSV file names the columns; `read_cells` says what it may be. A
    column whose cells are all whole numbers is int64, all numbers float64, else text.

    Raises:
        ArgumentError: for a missing file, another kind of file, or missing pyarrow.
        DataError: for a malformed table, repeated names, or a missing value.
    """
    file = Path(path)
    if not file.is_file():
        raise ArgumentError(f"{file} is not a file: name a .csv or .parquet table.")
    if file.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(file)
    if file.suffix.lower() == ".csv":
        return _read_csv(file)
    raise ArgumentError(f"{file}: expected a name that ends in .csv or .parquet.")


def labelled(
    columns: dict[str, np.ndarray],
    label: str,
    *,
    drop: Sequence[str] = (),
    one_hot: Sequence[str] = (),
) -> Labelled:
    """Splits off the label and turns the other columns into numbers.

    Args:
        columns: from `read_table`.
        label: name of the label column.
        drop: columns that are left out.
        one_hot: columns of which each value becomes a column of zeros and ones.

    Raises:
        ArgumentError: for names that the table does not have.
        DataError: for text columns that nobody asked to drop or encode; names one.
    """
    for name in (label, *drop, *one_hot):
        if name not in columns:
            raise ArgumentError(
                f"There is no column {name!r}: the table has "
                f"{', '.join(map(repr, list(columns)[:20]))}."
            )
    parts: dict[str, np.ndarray] = {}
    notes = [f"dropped {name!r}, as asked" for name in drop]
    for name, values in columns.items():
        if name == label or name in drop:
            continue
        if name in one_hot:
            parts |= _one_hot(name, values)
        elif values.dtype.kind not in "iufb":
            raise DataError(
                f"Column {name!r} holds text ({str(values[_first_text(values)])!r} in "
                f"row {_first_text(values)}). Pass --one-hot {name} to make a column "
                f"of each of its {len(np.unique(values))} values, or --drop {name}."
            )
        else:
            parts[name] = values.astype(np.float64)
    constant = [name for name, v in parts.items() if np.all(v == v[0])]
    notes += [f"dropped {name!r}: it is constant" for name in constant]
    kept = {name: v for name, v in parts.items() if name not in constant}
    if not kept:
        raise DataError("No column is left beside the label that tells rows apart.")
    return Labelled(
        np.stack(list(kept.values()), axis=1), columns[label], tuple(kept), tuple(notes)
    )


def _one_hot(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    categories = np.unique(values)
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"Column {name!r} has {len(categories):,} different values, at most "
            f"{MOST_CATEGORIES} are made columns. Drop it with --drop {name}."
        )
    return {f"{name}={c}": (values == c).astype(np.float64) for c in categories}


def _first_text(values: np.ndarray) -> int:
    for i, value in enumerate(values):
        try:
            float(value)
        except ValueError:
            return i
    return 0


def _read_csv(file: Path) -> dict[str, np.ndarray]:
    names, rows, _ = read_cells(file)
    return {
        name: _typed(file, name, np.array(column, str))
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def _typed(file: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Text cells as int64, float64 or stripped text."""
    stripped = np.strings.strip(values)
    missing = np.isin(np.strings.lower(stripped), list(MISSING))
    if missing.any():
        raise _gap(file, name, int(np.argmax(missing)), int(missing.sum()))
    for kind in (np.int64, np.float64):
        try:
            return stripped.astype(kind)
        except (ValueError, OverflowError):
            continue
    return stripped


def _read_parquet(file: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ArgumentError(
            f"{file}: Parquet needs pyarrow. Install natgeo[parquet], or write the "
            f"table as CSV."
        ) from None
    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from None
    if not table.num_rows:
        raise DataError(f"{file} holds no rows.")
    _require_names(file, table.column_names)
    return {
        name: _from_arrow(file, name, table.column(name)) for name in table.column_names
    }


def _from_arrow(file: Path, name: str, column: Any) -> np.ndarray:
    if column.null_count:
        first = next(i for i, cell in enumerate(column) if not cell.is_valid)
        raise _gap(file, name, first, column.null_count)
    values = np.asarray(column.to_numpy())
    if values.dtype.kind in "iub":
        return values
    if values.dtype.kind == "f":
        bad = np.isnan(values)
        if bad.any():
            raise _gap(file, name, int(np.argmax(bad)), int(bad.sum()))
        return values
    return values.astype(str)


def _require_names(file: Path, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise DataError(f"{file} has several columns named {repeated[0]!r}.")


def _gap(file: Path, name: str, row: int, count: int) -> DataError:
    return DataError(
        f"{file}: column {name!r} has no value in row {row} ({count} such rows). Drop "
        f"the column with --drop, or remove or fill these rows yourself."
    )
