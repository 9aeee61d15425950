"""Stores on disk: round trips, damage, two writers, full disks and interruptions."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError, NatgeoError, StoreError
from natgeo.store.disk import DiskStore
from natgeo.store.lock import LOCK
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from natgeo.types import Store

N, K = 17, 3
FEATURES = np.float32(np.random.default_rng(6).normal(size=(N, K)))
WEIGHTS = np.float32(np.random.default_rng(7).normal(size=N))


def write(path, features=FEATURES, *, shard_rows=5, cuts=(), weights=None):
    with DiskWriter(path, {"task": "t", "n": [1]}, shard_rows=shard_rows) as writer:
        for rows in np.split(np.arange(len(features)), cuts):
            columns = {} if weights is None else {"weights": weights[rows]}
            writer.append(features[rows], columns)
        return writer.close()


@pytest.mark.parametrize("shard_rows", [1, 5, 16, 17, 18, 8192])
@pytest.mark.parametrize("cuts", [(), (2, 3, 12)], ids=["one block", "blocks"])
def test_round_trip_and_digest_do_not_depend_on_sharding(tmp_path, shard_rows, cuts):
    write(tmp_path / "s", shard_rows=shard_rows, cuts=cuts, weights=WEIGHTS)
    store = DiskStore(tmp_path / "s")
    assert isinstance(store, Store)
    np.testing.assert_array_equal(np.asarray(store), FEATURES)
    np.testing.assert_array_equal(store.column("weights"), WEIGHTS)
    assert store.column("outputs") is None
    assert store.digest() == MemoryStore(FEATURES).digest()
    assert (store.shape, len(store), store.dtype) == ((N, K), N, np.float32)
    assert store.metadata == {"task": "t", "n": [1]}
    shards = [len(block) for block in store.blocks(10**9)]
    full, rest = divmod(N, shard_rows)
    assert shards == [shard_rows] * full + [rest] * (rest > 0)
    assert not (tmp_path / "s" / LOCK).exists()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_dtype_round_trips_bit_for_bit(tmp_path, dtype):
    store = write(tmp_path / "s", FEATURES.astype(dtype))
    assert store.dtype.name == dtype
    assert np.asarray(store).tobytes() == FEATURES.astype(dtype).tobytes()


def test_other_byte_orders_and_layouts_are_the_same_store(tmp_path):
    swapped = write(tmp_path / "a", FEATURES.astype(">f4"))
    turned = write(tmp_path / "b", np.asfortranarray(FEATURES))
    assert swapped.digest() == turned.digest() == MemoryStore(FEATURES).digest()


def test_bfloat16_is_refused_with_the_exact_alternative(tmp_path):
    import jax.numpy as jnp

    with (
        pytest.raises(ArgumentError, match="Convert the features to float32, exactly"),
        DiskWriter(tmp_path / "s") as writer,
    ):
        writer.append(np.asarray(jnp.ones((2, 3), jnp.bfloat16)))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_blocks_hold_at_most_the_rows_asked_for(tmp_path, rows):
    blocks = list(write(tmp_path / "s").blocks(rows))
    assert max(map(len, blocks)) <= rows
    np.testing.assert_array_equal(np.concatenate(blocks), FEATURES)


def test_rows_cross_shards_in_the_order_asked_for(tmp_path):
    store = write(tmp_path / "s")
    for indices in ([0], [16, 0, 4, 5, 5, 9, 10], range(N), np.array([14, 15])):
        np.testing.assert_array_equal(store.rows(indices), FEATURES[list(indices)])
    assert store.rows([]).shape == (0, K)


@pytest.mark.parametrize("indices", [[N], [-1], [0, -1], [2**31], [1.0], ["3"]])
def test_rows_that_do_not_exist_are_refused(tmp_path, indices):
    store = write(tmp_path / "s")
    with pytest.raises(ArgumentError, match="0 to 16"):
        store.rows(indices)


def test_asking_for_the_array_without_a_copy_is_refused(tmp_path):
    store = write(tmp_path / "s")
    with pytest.raises(ValueError, match="copy"):
        np.asarray(store, copy=False)
    assert np.asarray(store, np.float64).dtype == np.float64


def shard(path, number=1, name="features"):
    return path / "s" / f"{name}-{number:05d}.npy"


def test_a_truncated_shard_is_refused(tmp_path):
    write(tmp_path / "s")
    data = shard(tmp_path).read_bytes()
    shard(tmp_path).write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"features-00001\.npy.*truncated"):
        list(DiskStore(tmp_path / "s").blocks(10))


def test_a_longer_shard_is_refused(tmp_path):
    write(tmp_path / "s")
    with open(shard(tmp_path), "ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreError, match=r"features-00001\.npy"):
        list(DiskStore(tmp_path / "s").blocks(10))


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    write(tmp_path / "s", weights=WEIGHTS)
    for name, reader in (
        ("features", lambda store: store.rows([7])),
        ("features", np.asarray),
        ("features", DiskStore.digest),
        ("weights", lambda store: store.column("weights")),
    ):
        data = shard(tmp_path, name=name).read_bytes()
        for position in (0, 60, 127, 128, len(data) - 1):
            flipped = bytearray(data)
            flipped[position] ^= 1 << (position % 8)
            shard(tmp_path, name=name).write_bytes(flipped)
            with pytest.raises(StoreError, match=rf"{name}-00001\.npy.*SHA-256"):
                reader(DiskStore(tmp_path / "s"))
        shard(tmp_path, name=name).write_bytes(data)


def test_damage_in_one_shard_does_not_hide_the_others(tmp_path):
    write(tmp_path / "s")
    shard(tmp_path).write_bytes(b"")
    np.testing.assert_array_equal(
        DiskStore(tmp_path / "s").rows([0, 16]), FEATURES[[0, 16]]
    )


def test_a_missing_shard_is_an_error_never_zeros(tmp_path):
    write(tmp_path / "s")
    shard(tmp_path).unlink()
    store = DiskStore(tmp_path / "s")
    for read in (np.asarray, DiskStore.digest, lambda store: store.rows([5])):
        with pytest.raises(StoreError, match=r"features-00001\.npy.*No such file"):
            read(store)


def test_swapped_shards_are_found(tmp_path):
    write(tmp_path / "s")
    first, second = shard(tmp_path, 0), shard(tmp_path, 1)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(StoreError, match="SHA-256"):
        np.asarray(DiskStore(tmp_path / "s"))
    # Even if the manifest was swapped with them, the digest of the whole disagrees.
    file = tmp_path / "s" / "manifest.json"
    body = json.loads(file.read_text())
    body["shards"][:2] = body["shards"][1::-1]
    file.write_text(json.dumps(body))
    with pytest.raises(StoreError, match="not in the order"):
        DiskStore(tmp_path / "s").digest()


def test_shards_of_another_store_are_found(tmp_path):
    write(tmp_path / "s")
    write(tmp_path / "other", FEATURES + np.float32(1))
    os.replace(tmp_path / "other" / "features-00001.npy", shard(tmp_path))
    with pytest.raises(StoreError, match="SHA-256"):
        DiskStore(tmp_path / "s").digest()


def test_two_writers(tmp_path):
    first = DiskWriter(tmp_path / "s")
    with pytest.raises(StoreError, match=rf"process {os.getpid()} on this.*Wait"):
        DiskWriter(tmp_path / "s")
    # The loser did not take the winner's lock away.
    assert (tmp_path / "s" / LOCK).exists()
    first.append(FEATURES)
    assert first.close().shape == (N, K)


def test_a_stale_lock_is_reported_not_broken(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / LOCK).write_text("99999999 elsewhere")
    with pytest.raises(StoreError, match="99999999 on elsewhere"):
        DiskWriter(tmp_path / "s")
    assert (tmp_path / "s" / LOCK).read_text() == "99999999 elsewhere"


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(StoreError, match="already holds files"):
        DiskWriter(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious.txt"]


def test_a_finished_store_is_never_overwritten(tmp_path):
    before = write(tmp_path / "s").digest()
    with pytest.raises(StoreError, match="already holds files"):
        DiskWriter(tmp_path / "s")
    assert DiskStore(tmp_path / "s").digest() == before


def test_a_file_in_place_of_the_folder_is_named_as_such(tmp_path):
    (tmp_path / "s").write_text("x")
    with pytest.raises(StoreError, match=r"(not|is) a (folder|file)"):
        DiskWriter(tmp_path / "s")
    with pytest.raises(StoreError, match="Cannot write"):
        DiskWriter(tmp_path / "s" / "below")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may write to read-only folders, so there is nothing to refuse",
)
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            DiskWriter(tmp_path / "s")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("failing", ["folder", "lock"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, failing):
    """What a read-only folder does, also where root runs the tests."""

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "mkdir" if failing == "folder" else "open", denied)
    with pytest.raises(StoreError, match="Permission denied"):
        DiskWriter(tmp_path / "s")


@pytest.mark.parametrize("columns", [{"../x": WEIGHTS}, {"a/b": WEIGHTS}])
def test_a_column_name_with_a_path_writes_nothing(tmp_path, columns):
    with (
        pytest.raises(StoreError, match="column name"),
        DiskWriter(tmp_path / "s", shard_rows=1) as writer,
    ):
        writer.append(FEATURES, columns)
    assert list(tmp_path.rglob("*")) == [tmp_path / "s"]


@pytest.mark.parametrize(
    ("features", "columns", "error", "words"),
    [
        (np.float64(FEATURES), {}, StoreError, "float64"),
        (FEATURES[:, :2], {}, StoreError, r"\(2, 'float32'"),
        (FEATURES, {"weights": WEIGHTS}, StoreError, "weights"),
        (
            np.where(FEATURES == FEATURES[4, 1], np.nan, FEATURES),
            {},
            DataError,
            "row 4",
        ),
        (FEATURES[0], {}, DataError, "two axes"),
        (FEATURES, {"weights": WEIGHTS[:3]}, DataError, "17 examples"),
        (FEATURES, {"weights": np.float64(WEIGHTS)}, NatgeoError, "float"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, features, columns, error, words):
    with DiskWriter(tmp_path / "s") as writer:
        writer.append(FEATURES)
        with pytest.raises(error, match=words):
            writer.append(features, columns)


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": object()}])
def test_metadata_that_is_no_json_is_a_typed_error(tmp_path, metadata):
    def attempt():
        with DiskWriter(tmp_path / "s", metadata) as writer:
            writer.append(FEATURES)
            writer.close()

    with pytest.raises(NatgeoError, match="metadata"):
        attempt()


def test_an_empty_store_is_not_written(tmp_path):
    with (
        pytest.raises(StoreError, match="no examples"),
        DiskWriter(tmp_path / "s") as writer,
    ):
        writer.close()
    assert not (tmp_path / "s" / LOCK).exists()


def test_a_closed_writer_changes_nothing_any_more(tmp_path):
    with DiskWriter(tmp_path / "s", shard_rows=5) as writer:
        writer.append(FEATURES)
        before = writer.close().digest()
        with pytest.raises(NatgeoError, match="closed"):
            writer.append(FEATURES)
    store = DiskStore(tmp_path / "s")
    assert store.shape == (N, K)
    assert store.digest() == before


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_full_disk_is_a_store_error_and_leaves_no_temporary(
    tmp_path, monkeypatch, call
):
    with DiskWriter(tmp_path / "s", shard_rows=5) as writer:
        writer.append(FEATURES[:7])  # one shard is safe
        target = f"os.{call}"
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            with pytest.raises(StoreError, match="No space left"):
                writer.append(FEATURES[7:])
    names = {entry.name for entry in (tmp_path / "s").iterdir()}
    assert names == {"manifest.json", "features-00000.npy"}
    with pytest.raises(StoreError, match="not complete: 5 examples"):
        DiskStore(tmp_path / "s")


def test_a_writer_whose_disk_was_full_can_go_on_when_there_is_space(
    tmp_path, monkeypatch
):
    with DiskWriter(tmp_path / "s", shard_rows=5) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(StoreError, match="No space left"):
                writer.append(FEATURES[:7])
        writer.append(FEATURES[7:])
        store = writer.close()
    np.testing.assert_array_equal(np.asarray(store), FEATURES)
    assert store.digest() == MemoryStore(FEATURES).digest()


@pytest.mark.parametrize(
    ("shard_rows", "words"),
    [(8192, "not complete: 0 examples"), (5, "not complete: 15 examples")],
)
def test_an_interrupted_write_refuses_to_open(tmp_path, shard_rows, words):
    def interrupted():
        with DiskWriter(tmp_path / "s", shard_rows=shard_rows) as writer:
            writer.append(FEATURES)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "s" / LOCK).exists()
    with pytest.raises(StoreError, match=words):
        DiskStore(tmp_path / "s")


def test_a_crash_between_any_two_file_operations_leaves_no_wrong_store(
    tmp_path, monkeypatch
):
    """Stops the writer before each of its renames in turn."""
    real, outcomes = os.replace, []
    for survivors in itertools.count():
        path, left = tmp_path / str(survivors), iter(range(survivors))

        def replace(source, target, left=left):
            if next(left, None) is None:
                raise SystemExit(9)  # passes every `except OSError`
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                store = write(path, weights=WEIGHTS)
                break
            except SystemExit:
                pass
        with pytest.raises(StoreError, match=r"not complete|is missing") as caught:
            DiskStore(path)
        outcomes.append(str(caught.value))
    # A first manifest, then four shards of two files and a manifest each.
    assert len(outcomes) == 1 + 4 * 3
    assert store.digest() == MemoryStore(FEATURES).digest()


KILLED = """
import os, signal, sys
import numpy as np
from natgeo.store.writer import DiskWriter

writer = DiskWriter(sys.argv[1], shard_rows=2)
writer.append(np.ones((5, 3), np.float32))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_lock_and_a_store_that_refuses_to_open(tmp_path):
    path = tmp_path / "s"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(StoreError, match="not complete: 4 examples"):
        DiskStore(path)
    with pytest.raises(StoreError, match=r"which is gone: delete .*writer\.lock"):
        DiskWriter(path)
