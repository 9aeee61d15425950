"""Decisions: what is applied, what is refused, and what cleaning is said to buy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.labels.cleaning import ARMS, compare_cleaning
from natgeo.labels.decisions import fingerprint, read_decisions
from natgeo.labels.files import read_labels, write_labels

LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
HEAD = "fingerprint,examples,index,decision,given,label,given_name,label_name,example"


def written(tmp_path, rows, *, print_of=LABELS, names=None, size=6, head=HEAD):
    path = tmp_path / "decisions.csv"
    sha = fingerprint(print_of, names)
    lines = [head, *(f"{sha},{size},{row},a,b,c" for row in rows)]
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def test_only_relabelled_examples_change(tmp_path):
    path = written(tmp_path, ["1,relabel,1,2", "3,accept,0,0", "5,skip,2,2"])
    made = read_decisions(path)
    given = LABELS.copy()
    cleaned = made.apply(given)
    assert cleaned.tolist() == [0, 2, 2, 0, 1, 2]
    assert given.tolist() == LABELS.tolist()
    assert made.changed.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS[::-1], None),  # another order
        (np.array([0, 1, 2, 0, 1, 1]), None),  # one other label, not decided on
        (LABELS, ["a", "b", "c", "d", "e", "f"]),  # the same labels of named files
    ],
)
def test_decisions_about_other_labels_are_refused(tmp_path, labels, names):
    made = read_decisions(written(tmp_path, ["1,relabel,1,2"]))
    with pytest.raises(DataError, match="fingerprint"):
        made.apply(labels, names)


def test_names_are_part_of_the_fingerprint(tmp_path):
    names = list("abcdef")
    made = read_decisions(written(tmp_path, ["1,relabel,1,0"], names=names))
    assert made.apply(LABELS, names)[1] == 0
    with pytest.raises(DataError, match="fingerprint"):
        made.apply(LABELS, names[::-1])


def test_another_number_of_examples_is_refused(tmp_path):
    made = read_decisions(written(tmp_path, ["1,relabel,1,2"], size=7))
    with pytest.raises(DataError, match="about 7 examples"):
        made.apply(LABELS)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["9,relabel,1,2"], "line 2: there is no example 9"),
        (["-1,relabel,1,2"], "index is '-1'"),
        (["1.0,relabel,1,2"], "index is '1.0'"),
        (["1,delete,1,2"], "decision is 'delete'"),
        (["1,relabel,1,1"], "cannot turn label 1 into 1"),
        (["1,accept,1,2"], "cannot turn label 1 into 2"),
        (["1,accept,1,1", "1,skip,1,1"], "decided in line 2 already"),
        (["1,relabel,=1,2"], "given is '=1'"),
        ([], "no decisions"),
    ],
)
def test_damaged_decisions_are_named(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        read_decisions(written(tmp_path, rows))


def test_files_that_are_no_decisions(tmp_path):
    with pytest.raises(ArgumentError, match="not a file"):
        read_decisions(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column 'fingerprint'"):
        read_decisions(other)
    other.write_text('{"natgeo_decisions": 2}')
    with pytest.raises(DataError, match="format 1"):
        read_decisions(other)
    other.write_text('{"natgeo_decisions": ')
    with pytest.raises(DataError, match="not readable JSON"):
        read_decisions(other)
    other.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_decisions(other)
    mixed = written(tmp_path, ["1,relabel,1,2"]).read_text()
    other.write_text(mixed + mixed.splitlines()[1].replace(",6,1,", ",7,2,"))
    with pytest.raises(DataError, match="several reviews"):
        read_decisions(other)


def test_json_says_the_same_as_csv(tmp_path):
    path = tmp_path / "d.json"
    row = {"index": 1, "decision": "relabel", "given": 1, "label": 2}
    body = {
        "natgeo_decisions": 1,
        "fingerprint": fingerprint(LABELS),
        "examples": 6,
        "decisions": [row],
    }
    path.write_text(json.dumps(body))
    assert read_decisions(path).apply(LABELS)[1] == 2
    body["decisions"][0]["index"] = True
    path.write_text(json.dumps(body))
    with pytest.raises(DataError, match="entry 0: index"):
        read_decisions(path)


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_labels_come_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    names = None if suffix == "npy" else ["=x", 'a "b"', "c,d", "e", "f", "g"]
    write_labels(path, LABELS, ["0", "1", "2"], names)
    found = read_labels(path)
    np.testing.assert_array_equal(found.y, LABELS)
    assert found.classes == ("0", "1", "2")
    assert found.names == (None if names is None else tuple(names))


def test_labels_may_be_words(tmp_path):
    path = tmp_path / "labels.csv"
    write_labels(path, np.array([1, 0, 1]), ["=cat", "dog, big"])
    found = read_labels(path)
    assert [found.classes[number] for number in found.y] == [
        "dog, big",
        "=cat",
        "dog, big",
    ]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([0.0, 1.0]), "float64"),
        (np.array([-1, 0]), "from -1"),
        (np.zeros((2, 2), int), r"shape \(2, 2\)"),
    ],
)
def test_arrays_that_are_no_labels(tmp_path, array, words):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "bad.npy")


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "bad.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable"):
        read_labels(tmp_path / "bad.npy")


def nearest_mean(x, y, seed):
    """A classifier that wrong labels hurt, without randomness."""
    del seed
    means = np.stack([x[y == c].mean(axis=0) for c in range(int(y.max()) + 1)])
    return lambda z: -np.square(z[:, None] - means).sum(axis=2)


def test_cleaning_is_compared_with_its_control(rng):
    x = np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(3, 1, (60, 2))])
    truth = np.repeat([0, 1], 60)
    given = truth.copy()
    given[:25] = 1
    x_test = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(3, 1, (500, 2))])
    y_test = np.repeat([0, 1], 500)
    found = compare_cleaning(nearest_mean, x, given, truth, x_test, y_test)
    assert set(found.accuracy) == set(ARMS)
    assert found.changed == 25
    assert found.mean("after") > found.mean("before") + 0.01
    assert found.mean("removed") > found.mean("removed at random") + 0.01
    assert abs(found.mean("removed at random") - found.mean("before")) < 0.05
    # By hand: the same classifier on the cleaned labels.
    by_hand = (nearest_mean(x, truth, 0)(x_test).argmax(axis=1) == y_test).mean()
    assert found.accuracy["after"].tolist() == [by_hand] * 3
    assert "25 labels changed (3 seeds)" in found.describe()
    with pytest.raises(DataError, match="nothing to compare"):
        compare_cleaning(nearest_mean, x, given, given, x_test, y_test)
