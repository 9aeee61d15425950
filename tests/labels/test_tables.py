"""CSV files: numbers, words, and columns that are refused by name."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.labels.tables import read_table

TEXT = """age,colour,kind,id
1.5,red,10,x1
2,"blue, light",9,x2
-3e1,red,10,x3
4,red,9,x4
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TEXT)
    return path


def test_numbers_words_and_labels(file):
    found = read_table(file, "kind", ignore=["id"])
    assert found.columns == ("age", "colour=blue, light", "colour=red")
    np.testing.assert_array_equal(
        found.x, [[1.5, 0, 1], [2, 1, 0], [-30, 0, 1], [4, 0, 1]]
    )
    assert found.classes == ("9", "10")  # numbers by their size
    assert found.y.tolist() == [1, 0, 1, 0]
    assert found.words(1) == "age: 2 · colour: blue, light · id: x2"


def test_only_the_label_column_changes(file):
    found = read_table(file, "kind", ignore=["id"])
    rows = list(csv.DictReader(io.StringIO(found.with_labels(1 - found.y).decode())))
    assert [row["kind"] for row in rows] == ["9", "10", "9", "10"]
    before = list(csv.DictReader(io.StringIO(TEXT)))
    for row, old in zip(rows, before, strict=True):
        assert {**row, "kind": old["kind"]} == old


def test_a_second_table_like_the_first(file, tmp_path):
    first = read_table(file, "kind", ignore=["id"])
    other = tmp_path / "other.csv"
    other.write_text("id,age,kind\nz,7,9\n")
    with pytest.raises(DataError, match="columns of the first table: 'colour'"):
        read_table(other, "kind", ignore=["id"], like=first)
    other.write_text("new,colour,age,kind\nz,green,7,9\nz,red,,9\n")
    found = read_table(other, "kind", like=first)
    np.testing.assert_array_equal(found.x, [[7, 0, 0], [1.75, 0, 1]])
    other.write_text("age,colour,kind\n7,red,8\n")
    with pytest.raises(DataError, match="'8' is not a class"):
        read_table(other, "kind", like=first)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,kind\n1,x\n2,y\n1,z\n2,w\n", "has 4 different entries in 4 rows"),
        ("a,kind\n1,x\n1,y\n1,x\n1,y\n", "no column of use besides the label; 'a' has"),
        ("\x00\x01", "it holds zero bytes"),
        ("a,kind\n1,x\n2,\n", "line 3: the label column 'kind' is empty"),
        ("a,kind\n1,x\n2,x\n", "one class only, 'x'"),
        ("a,kind\n1,x\n2\n", "line 3 has 1 cells"),
        ("a,a,kind\n1,1,x\n", "two columns 'a'"),
        ("kind\nx\ny\n", "no column of use besides the label."),
        ("", "no rows"),
        ("a,kind\n", "no rows"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(path, "kind")


def rows(*columns):
    """A CSV with the columns a, b, ... and a label."""
    names = "abcdefgh"[: len(columns)]
    lines = [
        [*cells, f"k{n % 2}"] for n, cells in enumerate(zip(*columns, strict=True))
    ]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([[*names, "kind"], *lines])
    return out.getvalue()


def test_what_cannot_help_is_left_out_with_its_reason(tmp_path):
    path = tmp_path / "table.csv"
    count = range(30)
    path.write_text(
        rows(
            [f"user {n}" for n in count],  # every word but one is unique
            [100 + 3 * n for n in count],
            ["same" for _ in count],
            [n % 2 for n in count],
            [f"id{n}" for n in count],
            [n % 7 for n in count],
        )
    )
    found = read_table(path, "kind")
    assert found.left_out == {
        "a": "is text without words that occur again",
        "b": "numbers the rows",
        "c": "has one value",
        "d": "says the same as the label",
        "e": "is text without words that occur again",
    }
    assert found.columns == ("f",)


def test_numbers_with_gaps_dates_and_text(tmp_path):
    path = tmp_path / "table.csv"
    count = range(40)
    path.write_text(
        rows(
            ["NA" if n == 3 else n % 5 for n in count],
            [f"1970-01-{1 + n % 28:02d}" for n in count],
            [f"Word{n}, {'GOOD' if n % 4 else 'bad'} one!" for n in count],
            [f"{n % 3},{n % 10}" for n in count],  # decimals
            [f"{n % 9 + 1},{n % 5}00.5" for n in count],  # thousands
        )
    )
    found = read_table(path, "kind")
    names = ("a", "a missing", "b", "c~bad", "c~good", "d", "e")
    assert found.columns == names
    n = np.arange(40)
    want = [n % 5, n == 3, n % 28, n % 4 == 0, n % 4 > 0, n % 3 + n % 10 / 10]
    want.append((n % 9 + 1) * 1000 + n % 5 * 100 + 0.5)
    want[0][3] = 2  # the median
    np.testing.assert_allclose(found.x, np.stack(want, axis=1), rtol=1e-6)


def test_files_as_programs_write_them(tmp_path):
    plain = 'größe;kind\n1,5;a\n\n2;"b\nc"\n;;\n3;a\n2;"b\nc"\n'.replace(";;", ";")
    path = tmp_path / "table.csv"
    for encoding in ("utf-8", "utf-8-sig", "cp1252", "utf-16"):
        path.write_text(plain, encoding=encoding, newline="\r\n")
        found = read_table(path, "kind")
        assert found.columns == ("größe",)
        assert found.x[:, 0].tolist() == [1.5, 2, 3, 2]
        assert found.lines == (2, 4, 7, 8)  # where they begin


def test_columns_that_are_not_there(file):
    with pytest.raises(ArgumentError, match="no column 'sort'; it has age, colour"):
        read_table(file, "sort")
    with pytest.raises(ArgumentError, match="not a file"):
        read_table(file.parent / "none.csv", "kind")
