"""Tables from files, and the verb that studies one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

import natgeo.convex as convex
from natgeo import cli
from natgeo.convex.table import labelled, read_table
from natgeo.convex.validation import cross_validate
from natgeo.errors import ArgumentError, DataError, NatgeoError
from natgeo.report.document import read_document
from natgeo.report.page import render
from tests.convex import cases

WORDS = """size,color, weight ,kind,flat
1, red ,0.5,yes,7
2,blue,1.5,no,7
3,"red, dark",2.5,yes,7
"""


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_columns_have_the_kinds_of_their_cells(tmp_path):
    found = read_table(write(tmp_path, "\ufeff" + WORDS))
    assert list(found) == ["size", "color", " weight ", "kind", "flat"]
    assert [v.dtype.kind for v in found.values()] == ["i", "U", "f", "U", "i"]
    assert found["color"].tolist() == ["red", "blue", "red, dark"]


def test_parquet_and_csv_are_the_same_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"a": [1, 2, 3], "b": [0.5, -1.0, 2.0], "c": ["x", "y", "x"]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    one = read_table(tmp_path / "t.parquet")
    two = read_table(write(tmp_path, "a,b,c\n1,0.5,x\n2,-1,y\n3,2,x\n"))
    for name in columns:
        np.testing.assert_array_equal(one[name], two[name])
        assert one[name].dtype.kind == two[name].dtype.kind
    parquet.write_table(pa.table({"a": [1.0, None]}), tmp_path / "gap.parquet")
    with pytest.raises(DataError, match="no value in row 1"):
        read_table(tmp_path / "gap.parquet")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_table(tmp_path / "no.parquet")


def test_text_is_encoded_or_dropped_when_asked_and_constants_go(tmp_path):
    table = read_table(write(tmp_path, WORDS))
    data = labelled(table, "kind", one_hot=["color"])
    assert data.names == (
        "size",
        "color=blue",
        "color=red",
        "color=red, dark",
        " weight ",
    )
    np.testing.assert_array_equal(data.x[:, 2], [1, 0, 0])
    assert data.y.tolist() == ["yes", "no", "yes"]
    assert data.notes == ("dropped 'flat': it is constant",)
    data = labelled(table, "size", drop=["color", "kind"])
    assert data.names == (" weight ",)
    assert "dropped 'color', as asked" in data.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,\n", "column 'b' has no value in row 0"),
        ("a,b\n1,2\n3,NaN\n", "column 'b' has no value in row 1"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells"),
        ("a,a\n1,2\n", "two columns 'a'"),
        ("a,b\n", "no rows"),
        ('a,b\n1,"2\n', "cannot be read as CSV"),
        ("a,y\n1,0\n1,1\n", "No column is left"),
        ("color,y\nred,0\nblue,1\n", "--one-hot color"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        labelled(read_table(write(tmp_path, text)), text.split("\n")[0].split(",")[-1])
    assert words in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="not a file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(ArgumentError, match=r"ends in \.csv or \.parquet"):
        read_table(write(tmp_path, WORDS, "table.xlsx"))
    with pytest.raises(ArgumentError, match="no column 'price'"):
        labelled(read_table(write(tmp_path, WORDS)), "price")


def test_cross_validation_is_that_of_folds_fitted_one_by_one():
    x, y = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = convex.fit(x, y, standardize=False)
    found = cross_validate(model, [0.01, 1.0], folds=4, seed=3)
    order = np.random.default_rng(3).permutation(len(x))
    folds = np.empty(len(x), int)
    folds[order] = np.arange(len(x)) % 4
    for place, ridge in enumerate((0.01, 1.0)):
        for fold in range(4):
            rest = folds != fold
            other = Ridge(alpha=ridge * rest.sum()).fit(x[rest], y[rest])
            truth = 0.5 * np.mean((other.predict(x[~rest]) - y[~rest]) ** 2)
            assert found.losses[place, fold] == pytest.approx(truth, rel=1e-9)
    assert found.choose() == found.ridges[np.argmin(found.losses.mean(1))]


def test_the_rules_of_choice():
    found = cross_validate(cases.model("logistic", weights=None), folds=5)
    best = int(np.argmin(found.means))
    limit = found.means[best] + found.losses[best].std(ddof=1) / np.sqrt(5)
    assert found.choose() == found.ridges[best]
    chosen = found.choose("one-se")
    place = int(np.flatnonzero(found.ridges == chosen)[0])
    assert chosen >= found.choose()
    assert found.means[place] <= limit
    assert place == len(found.ridges) - 1 or found.means[place + 1] > limit
    with pytest.raises(ArgumentError, match="minimum, one-se"):
        found.choose("best")


def test_cross_validation_needs_rows_and_classes():
    x, y = cases.data("multinomial")
    lonely = np.where(np.arange(len(y)) == 3, 99, y)
    with pytest.raises(DataError, match="Class 99 has 1"):
        cross_validate(convex.fit(x, lonely))
    with pytest.raises(DataError, match="too few"):
        cross_validate(convex.fit(x[:6], np.arange(6.0)), folds=4)
    with pytest.raises(ArgumentError, match="positive"):
        cross_validate(convex.fit(x, y), [0.0])
    with pytest.raises(ArgumentError, match="folds"):
        cross_validate(convex.fit(x, y), folds=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of two classes with a text column, and what its columns are."""
    x, y = cases.data("logistic", n=80)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rows = [
        ",".join([*(repr(float(v)) for v in row), "ab"[i % 2], str(label)])
        for i, (row, label) in enumerate(zip(x, y, strict=True))
    ]
    path.write_text("\n".join(["p,q,r,s,group,kind", *rows]))
    return path, x, y


def test_the_verb_reports_what_the_functions_compute(table, tmp_path):
    path, x, y = table
    page, record = tmp_path / "page.html", tmp_path / "result.json"
    done = CliRunner().invoke(
        cli.cli,
        [
            *("convex", str(path), "--label", "kind", "--drop", "group"),
            *("--rows", "3,17", "--top", "4", "--eps", "0.001", "--json"),
            *("--report", str(page), "--result", str(record)),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    found = json.loads(done.output)["convex"]
    kept = np.setdiff1d(np.arange(80), [3, 17])
    model = convex.fit(x[kept], y[kept], ridge=found["ridge"])
    assert (found["loss"], found["N"], found["columns"]) == ("logistic", 78, 4)
    scores = convex.influence(model, x[[3, 17]], y[[3, 17]])
    for t, target in enumerate(found["targets"]):
        rows = [row["row"] for row in target["influences"]]
        top = np.argsort(-abs(scores[t]), kind="stable")[:4]
        assert rows == kept[top].tolist()
        aim = convex.targets(model, x[[target["row"]]], y[[target["row"]]])
        for i, row in zip(top, target["influences"], strict=True):
            assert row["influence"] == pytest.approx(scores[t, i], rel=1e-9)
            assert row["label"] == y[row["row"]]
            width = convex.first_order(convex.sensitivity_kernel(aim, int(i)), 0.001)
            assert row["half_width"] == pytest.approx(width.half_width, rel=1e-5)
            alone = convex.leave_one_out(model, aim, rows=[i])[0, 0]
            assert row["left_out"] == pytest.approx(alone, rel=1e-9)
            if row["low"] is not None:
                assert row["low"] < row["influence"] < row["high"]
    own = convex.self_influence(model)
    assert found["suspects"][0]["row"] == kept[np.argmax(own)]
    losses = [row["loss"] for row in found["validation"]]
    assert found["validation"][int(np.argmin(losses))]["ridge"] == found["ridge"]
    html = page.read_text()
    assert html == render(read_document(record))
    assert "not a certificate" in html
    assert "data:image/svg+xml" in html


def test_the_verb_speaks_of_numbers_too(table):
    path, *_ = table
    done = CliRunner().invoke(
        cli.cli,
        [
            *("convex", str(path), "--label", "p", "--one-hot", "group"),
            *("--drop", "kind", "--ridge", "0.1", "--rows", "5", "--top", "3"),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "squared model of p" in done.output
    assert "not a certificate" in done.output
    assert "as given" in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--label", "kind"], "Column 'group' holds text"),
        (["--label", "none"], "no column 'none'"),
        (["--label", "kind", "--drop", "group", "--rows", "80"], "out of range"),
        (["--label", "kind", "--drop", "group", "--rows", "a"], "row numbers"),
        (["--label", "kind", "--drop", "group", "--rows", "1,1"], "twice"),
        (["--label", "kind", "--drop", "group", "--top", "0"], "--top"),
        (["--label", "kind", "--drop", "group", "--eps", "-1"], "--eps"),
        (["--label", "group", "--loss", "squared", "--drop", "kind"], "holds text"),
    ],
)
def test_the_verb_refuses_in_words(table, words, says):
    done = CliRunner().invoke(cli.cli, ["convex", str(table[0]), *words])
    assert isinstance(done.exception, NatgeoError)
    assert says in str(done.exception)


def test_a_page_needs_no_optional_field():
    section = {"label": "<b>", "loss": "squared", "N": 3, "columns": 1}
    bare = {"row": 2, "influences": [{"row": 0, "influence": -1.5, "half_width": 0.5}]}
    page = render(
        {
            **{"natgeo": "0.1.0", "format": 1, "kind": "convex", "title": "A title"},
            "convex": {**section, "ridge": 0.5, "eps": 0.125, "targets": [bare]},
        }
    )
    assert "nothing proven" in page
    assert "at eps = 0.125" in page
    assert "&lt;b&gt;" in page
    with pytest.raises(DataError, match=r"convex\.loss"):
        render(
            {
                **{"natgeo": "0.1.0", "format": 1, "kind": "convex", "title": "A"},
                "convex": {**section, "loss": "hinge", "ridge": 0.5, "eps": 0.125},
            }
        )
