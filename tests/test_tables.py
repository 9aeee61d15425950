"""Table loaders: what is missing or damaged is named; what is there is counted."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from benchmarks import tables
from natgeo.errors import ArgumentError, DataError, UnfitEnvironmentError

SIZES = {
    "breast_cancer": (569, 30, 2),
    "diabetes": (442, 10, 0),
    "digits": (1797, 64, 10),
    "spam": (4601, 57, 2),
    "Satellite": (6435, 36, 6),
    "DNA": (3186, 180, 3),
    "Shuttle": (58000, 9, 7),
    "Letter": (20000, 16, 26),
}


def test_every_table_is_known():
    assert set(SIZES) == {*tables.FROM_SKLEARN, *tables.FROM_R}


@pytest.mark.parametrize("name", SIZES)
def test_a_table_is_what_its_name_says(name):
    try:
        table = tables.load(name)
    except UnfitEnvironmentError as missing:
        pytest.skip(str(missing))
    rows, width, classes = SIZES[name]
    assert table.x.shape == (rows, width)
    assert table.x.dtype == np.float64
    assert np.isfinite(table.x).all()
    assert len(table.columns) == width
    assert len(table.classes) == classes
    if classes:
        assert sorted(set(table.y.tolist())) == list(range(classes))
    else:
        assert table.y.dtype == np.float64
    train, test = table.split(50, seed=3)
    assert len(test) == 50
    assert sorted([*train, *test]) == list(range(rows))


def test_a_missing_file_is_named_with_what_to_install(tmp_path):
    with pytest.raises(UnfitEnvironmentError, match="r-cran-kernlab") as info:
        tables.spam(tmp_path)
    assert str(tmp_path / "kernlab" / "data" / "spam.rda") in str(info.value)
    with pytest.raises(UnfitEnvironmentError, match="r-cran-mlbench"):
        tables.load("Letter", tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ArgumentError, match="breast_cancer, diabetes, digits, spam"):
        tables.load("iris")


def test_a_damaged_file_is_refused(tmp_path):
    pytest.importorskip("rdata")
    file = tmp_path / "usr/lib/R/site-library/kernlab/data/spam.rda"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"RDX3\nX\n no such thing")
    for place in (tmp_path, file):
        with pytest.raises(DataError, match=r"spam\.rda is not a readable"):
            tables.spam(place)


@pytest.fixture
def frame(monkeypatch, tmp_path):
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "spam.rda"
    file.write_bytes(b"")
    rows = np.zeros((4601, 57))
    rows[7, 3] = 2.5
    whole = pandas.DataFrame(rows, columns=[f"c{i}" for i in range(57)])
    kinds = pandas.Categorical.from_codes([0, 1] * 2300 + [1], ["nonspam", "spam"])
    return file, whole.assign(type=kinds)


def test_a_file_that_holds_something_else_is_refused(monkeypatch, frame):
    file, whole = frame
    monkeypatch.setattr(tables, "read_r", lambda _: {"spam": whole})
    table = tables.spam(file)
    assert table.x[7, 3] == 2.5
    assert table.y.sum() == 2301
    assert table.classes == ("nonspam", "spam")
    for held, words in (
        ({"ham": whole}, "no table 'spam' with a column 'type'"),
        ({"spam": whole.drop(columns="type")}, "no table 'spam' with a column 'type'"),
        ({"spam": whole.iloc[:9]}, "expected 4,601 rows and 57 columns"),
        ({"spam": whole.assign(c4=np.nan)}, "missing values"),
    ):
        monkeypatch.setattr(tables, "read_r", lambda _, held=held: held)
        with pytest.raises(DataError, match=words):
            tables.spam(file)


def test_a_table_in_an_unpacked_package(monkeypatch, frame, tmp_path):
    file, whole = frame
    monkeypatch.setattr(tables, "read_r", lambda _: {"spam": whole})
    place = tmp_path / "unpacked" / "kernlab" / "data"
    place.mkdir(parents=True)
    shutil.copy(file, place)
    assert tables.spam(tmp_path / "unpacked").x.shape == (4601, 57)
