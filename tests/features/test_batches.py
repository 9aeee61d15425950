"""Batches of one fixed, padded size, however the caller cut the data."""

import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.features.batches import fixed_batches, peek, total_rows

X = np.arange(30, dtype=np.float32).reshape(10, 3)
Y = np.arange(10)


def joined(made):
    """All real rows, and the sizes of the real parts."""
    made = list(made)
    for batch, _ in made:
        assert len(batch[0]) == len(batch[1])
    rows = [np.concatenate([b[i][:valid] for b, valid in made]) for i in range(2)]
    return rows, [valid for _, valid in made]


@pytest.mark.parametrize("size", [1, 3, 10, 64])
@pytest.mark.parametrize(
    "cuts", [[], [5], [1, 2, 3], [0, 4, 4, 10]], ids=["one", "two", "many", "empties"]
)
def test_rows_come_in_order_in_batches_of_the_size(size, cuts):
    data = list(zip(np.split(X, cuts), np.split(Y, cuts), strict=True))
    (x, y), sizes = joined(fixed_batches(data, size))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert sizes == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    assert all(len(batch[0]) == size for batch, _ in fixed_batches(data, size))


def test_arrays_lists_and_generators_are_the_same_data():
    forms = [
        (X, Y),
        [(X, Y)],
        ((X[i : i + 2], Y[i : i + 2]) for i in range(0, 10, 2)),
        (jnp.asarray(X), jnp.asarray(Y)),
        iter([[X[:7], Y[:7]], [X[7:], Y[7:]]]),
    ]
    for form in forms:
        (x, y), _ = joined(fixed_batches(form, 4))
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)


def test_dicts_keep_their_structure():
    ((batch, valid),) = fixed_batches({"image": X, "label": Y}, 16)
    assert set(batch) == {"image", "label"}
    assert valid == 10


def test_padding_repeats_the_last_real_row():
    ((batch, valid),) = fixed_batches(X[:2], 5)
    assert valid == 2
    np.testing.assert_array_equal(batch, X[[0, 1, 1, 1, 1]])


def test_total_rows_is_known_for_arrays_and_unknown_for_iterables():
    assert total_rows((X, Y)) == 10
    assert total_rows({"a": X}) == 10
    assert total_rows(X) == 10
    assert total_rows(iter([X])) is None
    assert total_rows([X]) is None


def test_iterables_are_consumed_lazily():
    pulled = []

    def stream():
        for start in range(0, 10, 2):
            pulled.append(start)
            yield X[start : start + 2]

    next(fixed_batches(stream(), 4))
    assert pulled == [0, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "no examples"),
        (X[:0], "no examples"),
        (iter(()), "no examples"),
        ("abc", "str"),
        (7, "int"),
        ((X, Y[:9]), r"Batch 0.*\(10, 3\), \(9,\)"),
        ((X, np.float32(1)), "same first axis"),
        ([X, X[:, :2]], "Batches disagree"),
        ([X, np.float16(X)], "Batches disagree"),
        (np.array(["a", "b"]), "dtype <U1"),
        (np.array([None, {}]), "dtype object"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
    ],
)
def test_what_is_not_a_batch_is_refused(data, words):
    with pytest.raises(DataError, match=words):
        list(fixed_batches(data, 4))


def test_batches_of_different_structure_are_refused():
    with pytest.raises(DataError, match=r"(?i)batch"):
        list(fixed_batches([(X, Y), X], 64))


def filled_again():
    """One dict and one buffer, filled again and again; the first batch is empty."""
    batch = {"x": X[:0]}
    yield batch
    buffer = np.zeros((2, 3), np.float32)
    for start in range(0, 10, 2):
        buffer[:] = X[start : start + 2]
        batch["x"] = buffer
        yield batch


@pytest.mark.parametrize(
    "data",
    [
        {"x": X},
        [{"x": X[:4]}, {"x": X[4:]}],
        iter([{"x": X[:0]}, {"x": X[:0]}, {"x": X[:1]}, {"x": X[1:]}]),
        ({"x": X[i : i + 1]} for i in range(10)),
        filled_again(),
    ],
    ids=["arrays", "list", "empty first", "generator", "filled again"],
)
def test_a_look_at_the_first_examples_loses_none(data):
    head, data = peek(data, 3)
    assert 0 < len(head["x"]) <= 3
    np.testing.assert_array_equal(head["x"], X[: len(head["x"])])
    made = list(fixed_batches(data, 4))
    rows = np.concatenate([batch["x"][:valid] for batch, valid in made])
    np.testing.assert_array_equal(rows, X)


def test_a_look_reads_one_batch_and_keeps_none():
    pulled, alive = [], []

    def stream():
        for start in range(0, 10, 2):
            batch = X[start : start + 2].copy()
            pulled.append(start)
            yield batch

    head, data = peek(stream(), 1)
    assert (len(head), pulled) == (1, [0])
    first = next(data)
    alive.append(weakref.ref(first))
    del first
    next(data)
    assert alive[0]() is None


@pytest.mark.parametrize("data", [[], X[:0], iter(()), iter([X[:0], X[:0]])])
def test_a_look_at_nothing_is_refused(data):
    with pytest.raises(DataError, match="no examples"):
        peek(data, 3)
