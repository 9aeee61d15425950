"""Manifests and files that nobody vouches for."""

import errno
import io
import json
import os
import threading

import numpy as np
import pytest

from natgeo.errors import StoreError
from natgeo.store import manifest as files
from natgeo.store.disk import DiskStore
from natgeo.store.writer import DiskWriter

FEATURES = np.float32(np.random.default_rng(4).normal(size=(5, 3)))


@pytest.fixture
def store(tmp_path):
    with DiskWriter(tmp_path / "store", {"seed": 3}, shard_rows=2) as writer:
        writer.append(FEATURES, {"weights": FEATURES[:, 0]})
        writer.close()
    return tmp_path / "store"


def edit(store, change):
    """Applies `change` to the parsed manifest."""
    file = store / files.MANIFEST
    body = json.loads(file.read_bytes())
    change(body)
    file.write_text(json.dumps(body))


def setter(*path, value):
    def change(body):
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


DAMAGE = {
    "newer version": (setter("version", value=2), "version 2.*Install"),
    "version text": (setter("version", value="1"), "version '1'"),
    "other format": (setter("format", value="zarr"), "not the manifest"),
    "no width": (lambda body: body.pop("width"), "damaged.*width"),
    "no digest": (lambda body: body.pop("digest"), "damaged.*digest"),
    "no shards": (lambda body: body.pop("shards"), "damaged.*shards"),
    "empty shards": (setter("shards", value=[]), "no examples"),
    "width zero": (setter("width", value=0), "width 0"),
    "width true": (setter("width", value=True), "width True"),
    "width text": (setter("width", value="3"), "width '3'"),
    "object dtype": (setter("dtype", value="object"), "dtype 'object'"),
    "dtype list": (setter("dtype", value=["float32"]), "dtype"),
    "columns text": (setter("columns", value="weights"), "columns"),
    "column is a path": (setter("columns", value=["../x"]), "column name"),
    "column is number": (setter("columns", value=[3]), "column name"),
    "metadata list": (setter("metadata", value=[]), "metadata"),
    "shards number": (setter("shards", value=7), "damaged"),
    "shards object": (setter("shards", value={"a": 1}), "damaged"),
    "shard list": (setter("shards", 1, value=[]), "damaged"),
    "rows negative": (setter("shards", 1, "rows", value=-2), "shard 1 has -2 rows"),
    "rows float": (setter("shards", 1, "rows", value=2.0), "shard 1 has 2.0 rows"),
    "rows true": (setter("shards", 1, "rows", value=True), "shard 1 has True"),
    "extra file": (
        setter("shards", 0, "files", "extra", value={}),
        "shard 0 does not hold exactly",
    ),
    "no file entry": (setter("shards", 0, "files", value={}), "shard 0 does not hold"),
    "short hash": (
        setter("shards", 2, "files", "features", "sha256", value="ab"),
        "shard 2 has no valid length and hash",
    ),
    "hash number": (
        setter("shards", 2, "files", "features", "sha256", value=5),
        "damaged",
    ),
    "bytes text": (
        setter("shards", 2, "files", "features", "bytes", value="9"),
        "shard 2 has no valid",
    ),
    "incomplete": (setter("complete", value=False), "not complete: 5 examples"),
    "complete text": (setter("complete", value="yes"), "not complete"),
}


@pytest.mark.parametrize(("change", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_refused_with_its_path(store, change, words):
    edit(store, change)
    with pytest.raises(StoreError, match=words) as caught:
        DiskStore(store)
    if "column" not in words:
        assert str(store) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not readable JSON"),
        (b"\x80\x04\x95pickle", "not readable JSON"),
        (b"{" * 200_000, "not readable JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "not readable JSON"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "not readable JSON"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not readable JSON"),
        (b"[]", "not the manifest"),
        (b"null", "not the manifest"),
        (b'"natgeo-store"', "not the manifest"),
    ],
    ids=lambda value: str(value[:8]) if isinstance(value, bytes) else "",
)
def test_what_is_not_a_manifest_is_refused(store, content, words):
    (store / files.MANIFEST).write_bytes(content)
    with pytest.raises(StoreError, match=words):
        DiskStore(store)


def test_a_huge_manifest_is_not_read(store):
    with open(store / files.MANIFEST, "r+b") as file:
        file.truncate(2**33)  # sparse: takes no space
    with pytest.raises(StoreError, match="8589934592 bytes"):
        DiskStore(store)


def test_claims_of_impossible_size_allocate_nothing(store):
    edit(store, setter("shards", 0, "rows", value=10**18))
    with pytest.raises(StoreError, match=r"features-00000\.npy does not hold"):
        next(DiskStore(store).blocks(10))
    edit(store, setter("width", value=10**30))
    with pytest.raises(StoreError, match="does not hold"):
        next(DiskStore(store).blocks(10))


def test_links_are_not_followed(store, tmp_path):
    for name in (files.MANIFEST, "features-00000.npy"):
        moved = tmp_path / "elsewhere"
        os.replace(store / name, moved)
        (store / name).symlink_to(moved)
        with pytest.raises(StoreError, match=name):
            list(DiskStore(store).blocks(10))
        os.replace(moved, store / name)
    assert DiskStore(store).shape == (5, 3)


@pytest.mark.parametrize("name", [files.MANIFEST, "features-00000.npy"])
def test_a_folder_in_place_of_a_file_is_refused(store, name):
    (store / name).unlink()
    (store / name).mkdir()
    with pytest.raises(StoreError, match=name):
        list(DiskStore(store).blocks(10))


@pytest.mark.parametrize("name", [files.MANIFEST, "features-00000.npy"])
def test_a_pipe_in_place_of_a_file_does_not_block(store, name):
    (store / name).unlink()
    os.mkfifo(store / name)
    caught = []

    def read():
        try:
            list(DiskStore(store).blocks(10))
        except StoreError as error:
            caught.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(1)
    blocked = reader.is_alive()
    if blocked:  # let the thread go before failing
        os.close(os.open(store / name, os.O_WRONLY | os.O_NONBLOCK))
        reader.join()
    assert not blocked
    assert name in caught[0]


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match="not a folder"):
        DiskStore(tmp_path / "nothing")
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        DiskStore(tmp_path)


def replace_shard(store, data):
    """Puts `data` in place of the first shard and makes the manifest agree."""
    import hashlib

    (store / "features-00000.npy").write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(store, setter("shards", 0, "files", "features", value=entry))


def saved(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        saved(np.array([{"a": 1}] * 6, object), allow_pickle=True),
        saved(np.float32(FEATURES[:2].T)),
        saved(np.asfortranarray(FEATURES[:2])),
        saved(np.int32(FEATURES[:2])),
        saved(FEATURES[:2].astype(">f4")),
        saved(FEATURES[:1]),
        files.npy_header("float32", (10**9, 10**9)),
        saved(FEATURES[:2]) + b"\0",
        b"\x93NUMPY",
        b"",
    ],
    ids=[
        "pickle",
        "turned",
        "fortran",
        "ints",
        "big-endian",
        "short",
        "claims 10^18",
        "trailing",
        "header only",
        "empty",
    ],
)
def test_a_shard_that_is_another_array_is_refused_though_its_hash_agrees(store, data):
    replace_shard(store, data)
    with pytest.raises(StoreError, match=r"features-00000\.npy does not hold"):
        list(DiskStore(store).blocks(10))


def test_the_header_is_the_one_numpy_writes_and_reads(store):
    data = (store / "features-00000.npy").read_bytes()
    assert data == saved(FEATURES[:2])
    np.testing.assert_array_equal(
        np.load(store / "features-00000.npy", allow_pickle=False), FEATURES[:2]
    )


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", "A", "features", ".hidden", "x" * 42, 3, None, "a\n"]
)
def test_column_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(StoreError, match="column name"):
        files.column_name(name)


def test_column_names_are_kept():
    assert files.column_name("weights_2") == "weights_2"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary(
    tmp_path, monkeypatch, broken
):
    file = tmp_path / "file"
    files.write_atomically(file, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(StoreError, match="No space left"):
        files.write_atomically(file, b"new")
    if broken == "replace":
        assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_to_json_is_canonical_and_refuses_nan():
    manifest = files.Manifest(3, "float32", (), {"b": 1, "a": 2})
    assert manifest.to_json().index(b'"a"') < manifest.to_json().index(b'"b"')
    with pytest.raises(ValueError, match="JSON"):
        files.Manifest(3, "float32", (), {"a": float("nan")}).to_json()


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_next_file(
    tmp_path, monkeypatch
):
    order = []

    def recorded(name):
        real = getattr(os, name)

        def operation(*arguments):
            order.append(name)
            return real(*arguments)

        return operation

    for name in ("open", "write", "fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    files.write_atomically(tmp_path / "file", b"data")
    assert order == ["open", "write", "fsync", "replace", "open", "fsync"]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3]))
    files.write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
