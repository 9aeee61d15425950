"""The memory store: kept as given, frozen, and identified by its bytes."""

import hashlib

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.store.memory import MemoryStore, as_store
from natgeo.types import Store

FEATURES = np.float32(np.random.default_rng(4).normal(size=(11, 3)))


def test_it_has_the_face_of_a_store():
    store = MemoryStore(FEATURES, {"weights": FEATURES[:, 0]}, {"a": 1})
    assert isinstance(store, Store)
    assert (store.shape, len(store), store.dtype) == ((11, 3), 11, np.float32)
    assert store.columns == ("weights",)
    assert store.metadata == {"a": 1}
    np.testing.assert_array_equal(store.column("weights"), FEATURES[:, 0])
    assert store.column("outputs") is None
    assert "11 x 3 float32" in repr(store)


@pytest.mark.parametrize("rows", [1, 4, 11, 100])
def test_blocks_are_the_features_in_order(rows):
    blocks = list(MemoryStore(FEATURES).blocks(rows))
    assert max(map(len, blocks)) <= rows
    np.testing.assert_array_equal(np.concatenate(blocks), FEATURES)


def test_rows_come_in_the_order_asked_for():
    store = MemoryStore(FEATURES)
    np.testing.assert_array_equal(store.rows([10, 0, 0]), FEATURES[[10, 0, 0]])
    assert store.rows([]).shape == (0, 3)


@pytest.mark.parametrize("indices", [[11], [-1], [2**31], [2**70], [1.0], ["3"]])
def test_rows_that_do_not_exist_are_refused(indices):
    with pytest.raises(ArgumentError, match="0 to 10"):
        MemoryStore(FEATURES).rows(indices)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_dtype_is_kept(dtype):
    import jax.numpy as jnp

    features = FEATURES.astype(jnp.dtype(dtype))
    assert MemoryStore(features).dtype.name == dtype
    assert np.asarray(MemoryStore(features)).dtype.name == dtype
    assert np.asarray(MemoryStore(features), np.float64).dtype == np.float64


def test_the_caller_cannot_change_it_afterwards():
    features, weights = FEATURES.copy(), FEATURES[:, 0].copy()
    store = MemoryStore(features, {"weights": weights})
    before = store.digest()
    features[:] = 0
    weights[:] = 0
    assert store.digest() == before
    assert store.column("weights").any()
    for view in (store.rows([0]), next(store.blocks(5)), np.asarray(store)):
        if view.flags.writeable:
            view[:] = 0
    assert store.digest() == before


def test_a_read_only_view_of_writable_memory_is_copied():
    features = FEATURES.copy()
    view = features[:]
    view.flags.writeable = False
    store = MemoryStore(view)
    before = store.digest()
    features[:] = 0
    assert store.digest() == before


def test_metadata_is_copied():
    metadata = {"a": 1}
    store = MemoryStore(FEATURES, metadata=metadata)
    metadata["a"] = 2
    assert store.metadata["a"] == 1


def test_the_digest_is_sha256_of_bytes_shape_and_dtype():
    want = hashlib.sha256(FEATURES.tobytes() + b"11 3 float32\n").hexdigest()
    assert MemoryStore(FEATURES).digest() == want


def test_the_digest_sees_data_not_layout():
    digest = MemoryStore(FEATURES).digest()
    assert MemoryStore(np.asfortranarray(FEATURES)).digest() == digest
    assert MemoryStore(FEATURES.astype(">f4")).digest() == digest
    flipped = FEATURES.copy()
    flipped.view(np.uint32)[5, 1] ^= 1
    assert MemoryStore(flipped).digest() != digest
    assert MemoryStore(np.float64(FEATURES)).digest() != digest
    assert MemoryStore(FEATURES[:, [0, 2, 1]]).digest() != digest
    zeros = np.zeros((2, 6), np.float32)
    assert MemoryStore(zeros).digest() != MemoryStore(zeros.reshape(6, 2)).digest()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (FEATURES[:10, 0], r"shape \(10,\).*11 examples"),
        (FEATURES[:, :1], r"shape \(11, 1\)"),
        (np.arange(11), "int64"),
        (np.where(np.arange(11) == 6, np.nan, 1.0), "row 6"),
    ],
)
def test_columns_are_one_finite_number_per_example(column, words):
    with pytest.raises(DataError, match=words) as caught:
        MemoryStore(FEATURES, {"weights": column})
    assert "column 'weights'" in str(caught.value)


def test_as_store_wraps_arrays_and_passes_stores():
    store = MemoryStore(FEATURES)
    assert as_store("train", store) is store
    assert as_store("train", FEATURES).digest() == store.digest()
