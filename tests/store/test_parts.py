"""Stores that several processes write: the same store as one process writes."""

import hashlib
import json
import shutil
import threading
import time

import numpy as np
import pytest

from natgeo.errors import ArgumentError, StoreError
from natgeo.store import parts
from natgeo.store.disk import DiskStore
from natgeo.store.lock import LOCK
from natgeo.store.parts import Share
from natgeo.store.writer import DiskWriter

N, K, BLOCK, SHARD = 23, 3, 2, 4
RNG = np.random.default_rng(17)
FEATURES = np.float32(RNG.normal(size=(N, K)))
WEIGHTS = np.float32(RNG.normal(size=N))


def write(path, share=None, *, rows=N, stop=N, resume=False, metadata=None, shift=0):
    """What featurize does, without a model; gives up after `stop` examples."""
    features = FEATURES[:rows] + np.float32(shift)
    walked = hashlib.sha256()
    metadata = {"task": "t"} if metadata is None else metadata
    with DiskWriter(
        path, metadata, shard_rows=SHARD, resume=resume, share=share
    ) as writer:
        seen = 0
        for start in range(0, rows, BLOCK):
            block = features[start : start + BLOCK]
            inputs = hashlib.sha256(block.tobytes()).digest()
            walked.update(inputs)
            if share is not None and not share.owns(start, SHARD):
                continue
            if start >= stop:
                return None
            if seen < writer.stored:
                writer.recognize(len(block), inputs)
            else:
                weights = {"weights": WEIGHTS[:rows][start : start + BLOCK]}
                writer.append(block, weights, inputs=inputs)
            seen += len(block)
        writer.begin(K, np.dtype(np.float32), ["weights"])
        return writer.close(rows, walked.hexdigest())


def write_parts(path, of, **options):
    return [write(path, Share(index, of), **options) for index in range(of)]


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 9, 20, 23])
@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_parts_read_as_the_store_of_one_process(tmp_path, of, rows):
    one = write(tmp_path / "one", rows=rows)
    for store, index in zip(
        write_parts(tmp_path / "s", of, rows=rows), range(of), strict=True
    ):
        # By brute force: every example belongs to the share that owns its shard.
        mine = [row for row in range(rows) if row // SHARD % of == index]
        np.testing.assert_array_equal(np.asarray(store), FEATURES[mine])
        assert Share(index, of).rows_of(rows, SHARD) == len(mine)
    joined = DiskStore(tmp_path / "s")
    assert joined.parts == of
    assert joined.shape == one.shape
    assert (joined.dtype, joined.columns) == (one.dtype, one.columns)
    assert joined.metadata == one.metadata
    assert joined.digest() == one.digest()
    np.testing.assert_array_equal(np.asarray(joined), FEATURES[:rows])
    np.testing.assert_array_equal(joined.column("weights"), WEIGHTS[:rows])
    wanted = np.resize([rows - 1, 0, rows // 2], 5)
    np.testing.assert_array_equal(joined.rows(wanted), FEATURES[wanted])
    sizes = [len(block) for block in joined.blocks(3)]
    assert sizes == [len(block) for block in one.blocks(3)]
    np.testing.assert_array_equal(
        np.concatenate([np.empty((0, K)), *joined.part(of - 1)]),
        FEATURES[[row for row in range(rows) if row // SHARD % of == of - 1]],
    )


@pytest.mark.parametrize("stop", [0, 7, 12])
def test_a_part_is_resumed_to_the_same_bytes(tmp_path, stop):
    write_parts(tmp_path / "want", 2)
    write(tmp_path / "s", Share(0, 2))
    write(tmp_path / "s", Share(1, 2), stop=stop)
    # A part that was stopped before its first example has not even a manifest.
    with pytest.raises(StoreError, match=r"part-00001-of-00002"):
        DiskStore(tmp_path / "s")
    for index in (0, 1):
        write(tmp_path / "s", Share(index, 2), resume=True)
    for file in (tmp_path / "want").rglob("*.*"):
        there = tmp_path / "s" / file.relative_to(tmp_path / "want")
        assert there.read_bytes() == file.read_bytes()


def test_changed_data_are_named_by_their_index_in_the_whole(tmp_path):
    write(tmp_path / "s", Share(1, 2), stop=20)
    with pytest.raises(StoreError, match="examples 4 to 7 of"):
        write(tmp_path / "s", Share(1, 2), resume=True, shift=1)


def test_a_complete_part_is_not_taken_for_that_of_longer_data(tmp_path):
    write(tmp_path / "s", Share(1, 2), rows=16)
    # Examples 16 to 19 are of the other part: this one's own have not changed.
    with pytest.raises(StoreError, match="complete part of a store of other examples"):
        write(tmp_path / "s", Share(1, 2), rows=20, resume=True)


def replace_in_manifest(folder, change):
    file = folder / "manifest.json"
    body = json.loads(file.read_text())
    change(body)
    file.write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: shutil.rmtree(s / "part-00001-of-00003"), "part-00001-of-00003 is"),
        (lambda s: shutil.rmtree(s / "part-00002-of-00003"), "part-00002-of-00003 is"),
        (
            lambda s: (s / "part-00001-of-00003" / "manifest.json").unlink(),
            "part-00001-of-00003: manifest.json is missing",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00001-of-00003", lambda body: body.update(complete=False)
            ),
            "of .*part-00001-of-00003 only 8 examples are safe",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00001-of-00003", lambda body: body["part"].update(index=3)
            ),
            "part 3 of 3 cannot be",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00001-of-00003", lambda body: body["part"].update(examples=22)
            ),
            "part-00001-of-00003 does not belong .* examples: 22, there 23",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00001-of-00003", lambda body: body.update(width=4)
            ),
            "does not belong .* width: 4, there 3",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00001-of-00003", lambda body: body["shards"].pop()
            ),
            r"hold 19 examples instead of 23",
        ),
        (
            lambda s: replace_in_manifest(
                s / "part-00002-of-00003",
                lambda body: body["shards"][-1].update(rows=SHARD),
            ),
            r"part-00002-of-00003: shard 1 has 4 rows instead of 3",
        ),
        (lambda s: (s / "part-00000-of-00002").mkdir(), "with 2 and 3 parts"),
    ],
)
def test_a_wrong_part_is_named(tmp_path, damage, words):
    write_parts(tmp_path / "s", 3)
    DiskStore(tmp_path / "s")
    damage(tmp_path / "s")
    with pytest.raises(StoreError, match=words):
        DiskStore(tmp_path / "s")


def test_parts_in_each_others_folders_are_found(tmp_path):
    write_parts(tmp_path / "s", 2)
    one, two = (Share(index, 2).folder(tmp_path / "s") for index in (0, 1))
    one.rename(tmp_path / "kept")
    two.rename(one)
    (tmp_path / "kept").rename(two)
    with pytest.raises(StoreError, match="another part than its name says"):
        DiskStore(tmp_path / "s")


def test_parts_of_other_data_or_of_another_run_do_not_join(tmp_path):
    write(tmp_path / "s", Share(0, 2))
    write(tmp_path / "s", Share(1, 2), shift=1)
    with pytest.raises(StoreError, match=r"does not belong to the same run.*inputs"):
        DiskStore(tmp_path / "s")
    write(tmp_path / "t", Share(0, 2))
    write(tmp_path / "t", Share(1, 2), metadata={"task": "u"})
    with pytest.raises(StoreError, match='task: "u", there "t"'):
        DiskStore(tmp_path / "t")


def test_shards_of_a_part_in_another_order_are_found(tmp_path):
    write_parts(tmp_path / "s", 2)
    folder = Share(0, 2).folder(tmp_path / "s")
    for name in ("features", "weights"):
        files = [folder / f"{name}-0000{number}.npy" for number in (0, 1)]
        first, second = (file.read_bytes() for file in files)
        files[0].write_bytes(second)
        files[1].write_bytes(first)

    def swap(body):
        body["shards"][:2] = body["shards"][1::-1]

    replace_in_manifest(folder, swap)
    store = DiskStore(tmp_path / "s")
    with pytest.raises(StoreError, match="part-00000-of-00002 are each intact but not"):
        store.digest()


def test_one_flipped_bit_in_a_part_is_found(tmp_path):
    write_parts(tmp_path / "s", 2)
    file = Share(1, 2).folder(tmp_path / "s") / "features-00001.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    store = DiskStore(tmp_path / "s")
    for read in (store.digest, lambda: list(store.blocks(5)), lambda: store.rows([13])):
        with pytest.raises(StoreError, match=r"part-00001.*does not match its SHA-256"):
            read()


def test_a_part_is_written_only_beside_its_like(tmp_path):
    write(tmp_path / "single")
    with pytest.raises(StoreError, match=r"already holds features-00000\.npy"):
        write(tmp_path / "single", Share(0, 2))
    write(tmp_path / "s", Share(0, 2))
    with pytest.raises(StoreError, match="holds part-00000-of-00002"):
        write(tmp_path / "s", Share(0, 3), resume=True)
    with pytest.raises(StoreError, match="already holds files"):
        write(tmp_path / "s")
    with pytest.raises(StoreError, match="complete store of 12"):
        write(tmp_path / "s", Share(0, 2))


def test_each_part_has_one_writer(tmp_path):
    options = {"shard_rows": SHARD, "share": Share(0, 2)}
    with DiskWriter(tmp_path / "s", {}, **options):
        DiskWriter(tmp_path / "s", {}, **{**options, "share": Share(1, 2)}).abandon()
        with pytest.raises(StoreError, match="is being written by process"):
            DiskWriter(tmp_path / "s", {}, **options)


@pytest.mark.parametrize("share", [(2, 2), (-1, 2), (0, 0), (True, 2), (0, 10**6)])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ArgumentError, match="share"):
        Share(*share)


def test_waiting_ends_when_the_last_part_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_POLL_S", 0.01)
    write(tmp_path / "s", Share(0, 2))

    def late():
        time.sleep(0.2)
        write(tmp_path / "s", Share(1, 2))

    other = threading.Thread(target=late)
    other.start()
    parts.wait(tmp_path / "s", Share(0, 2), visible=False, patience_s=60)
    assert DiskStore(tmp_path / "s").shape == (N, K)
    other.join()


def test_waiting_names_a_part_that_nobody_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_POLL_S", 0.01)
    write(tmp_path / "s", Share(0, 2))
    with pytest.raises(StoreError, match=r"part-00001-of-00002 is not complete.*0 s"):
        parts.wait(tmp_path / "s", Share(0, 2), visible=False, patience_s=0.05)
    write(tmp_path / "s", Share(1, 2), stop=10)
    with pytest.raises(StoreError, match=r"part-00001-of-00002 is not complete"):
        parts.wait(tmp_path / "s", Share(0, 2), visible=False, patience_s=0.05)


def test_waiting_finds_a_writer_that_was_killed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parts.lock, "_runs", lambda pid: False)
    write(tmp_path / "s", Share(0, 2))
    write(tmp_path / "s", Share(1, 2), stop=10)
    lock = Share(1, 2).folder(tmp_path / "s") / LOCK
    lock.write_text(f"4194304 {parts.lock._host()}\n")
    with pytest.raises(StoreError, match=r"which is gone: delete .*writer\.lock"):
        parts.wait(tmp_path / "s", Share(0, 2), visible=False, patience_s=60)


def test_the_doctor_verifies_every_part(tmp_path):
    from natgeo.doctor import examine

    write_parts(tmp_path / "s", 3)
    (found,) = examine([tmp_path / "s"])["stores"]
    assert (found["intact"], found["shape"]) == (True, [N, K])
    file = Share(2, 3).folder(tmp_path / "s") / "weights-00000.npy"
    file.write_bytes(file.read_bytes()[:-1])
    (found,) = examine([tmp_path / "s"])["stores"]
    assert not found["intact"]
    assert "part-00002-of-00003/weights-00000.npy has" in found["problem"]
    shutil.rmtree(Share(1, 3).folder(tmp_path / "s"))
    (found,) = examine([tmp_path / "s"])["stores"]
    assert "part-00001-of-00003 is missing" in found["problem"]
