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
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TEXT)
    return path


def test_numbers_words_and_labels(file):
    found = read_table(file, "kind", ignore=["id"])
    assert found.columns == ("age", "colour=blue, light", "colour=red")
    np.testing.assert_array_equal(found.x, [[1.5, 0, 1], [2, 1, 0], [-30, 0, 1]])
    assert found.classes == ("9", "10")  # numbers by their size
    assert found.y.tolist() == [1, 0, 1]
    assert found.words(1) == "age: 2 · colour: blue, light · id: x2"


def test_only_the_label_column_changes(file):
    found = read_table(file, "kind", ignore=["id"])
    rows = list(csv.DictReader(io.StringIO(found.with_labels(1 - found.y).decode())))
    assert [row["kind"] for row in rows] == ["9", "10", "9"]
    before = list(csv.DictReader(io.StringIO(TEXT)))
    for row, old in zip(rows, before, strict=True):
        assert {**row, "kind": old["kind"]} == old


def test_a_second_table_like_the_first(file, tmp_path):
    first = read_table(file, "kind", ignore=["id"])
    other = tmp_path / "other.csv"
    other.write_text("id,colour,age,kind\nz,red,7,9\n")
    with pytest.raises(DataError, match="columns of the first"):
        read_table(other, "kind", ignore=["id"], like=first)
    other.write_text("age,colour,kind\n7,red,9\n")
    found = read_table(other, "kind", like=first)
    np.testing.assert_array_equal(found.x, [[7, 0, 1]])
    other.write_text("age,colour,kind\n7,red,8\n")
    with pytest.raises(DataError, match="'8' is not a class"):
        read_table(other, "kind", like=first)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,kind\n1,x\n,y\n", "line 3: column 'a' is empty"),
        ("a,kind\n1,x\n2,\n", "line 3: the label column 'kind' is empty"),
        ("a,kind\n1,x\n2,x\n", "one class only, 'x'"),
        ("a,kind\n1,x\n2\n", "line 3 has 1 cells"),
        ("a,a,kind\n1,1,x\n", "two columns 'a'"),
        ("kind\nx\ny\n", "no column besides the label"),
        ("a,kind\n", "no rows"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(path, "kind")


def test_free_text_is_refused_by_name(tmp_path):
    path = tmp_path / "text.csv"
    lines = [f"{n},word {n},{n % 2}" for n in range(30)]
    path.write_text("\n".join(["a,review,kind", *lines]))
    with pytest.raises(DataError, match="'review' hold text with more than 20"):
        read_table(path, "kind")
    assert read_table(path, "kind", ignore=["review"]).columns == ("a",)


def test_columns_that_are_not_there(file):
    with pytest.raises(ArgumentError, match="no column 'sort'; it has age, colour"):
        read_table(file, "sort")
    with pytest.raises(ArgumentError, match="not a file"):
        read_table(file.parent / "none.csv", "kind")
