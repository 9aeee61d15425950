"""Stores that are interrupted and continued: kills, full disks, other runs, locks."""

import errno
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from natgeo.errors import ArgumentError, StoreError
from natgeo.store import lock, recovery
from natgeo.store import manifest as files
from natgeo.store.disk import DiskStore
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from tests.store.crashes import (
    FEATURES,
    METADATA,
    N,
    contents,
    faulty,
    is_whole_or_refused,
    run,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def whole(tmp_path):
    """The files of a run that nothing stopped."""
    store = run(tmp_path / "whole")
    assert store.digest() == MemoryStore(FEATURES).digest()
    return contents(tmp_path / "whole")


@pytest.fixture
def unfinished(tmp_path):
    """A store of which two shards are safe; two more examples were lost."""
    run(tmp_path / "s", stop=10)
    return tmp_path / "s"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("which", ["every_kill", "many_kills"])
def test_a_kill_at_any_file_operation_loses_nothing(tmp_path, which):
    script = "import sys; from tests.store import crashes; "
    done = subprocess.run(
        [sys.executable, "-c", f"{script}crashes.{which}(sys.argv[1])", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("resume", [False, True], ids=["new", "resumed"])
@pytest.mark.parametrize(
    ("fault", "error"), [(full, StoreError), (interrupt, KeyboardInterrupt)]
)
def test_a_fault_at_any_file_operation_loses_nothing(
    tmp_path, whole, fault, error, resume
):
    outcomes = []
    # Not `unlink`: cleaning up after a fault is what is tested. And a folder that
    # exists need not be made.
    operations = ("mkdir", "open", "write", "fsync", "replace")[resume:]
    for number in itertools.count():
        path = tmp_path / f"s{number}"
        if resume:
            run(path, stop=6)
        try:
            with faulty(number, fault, operations):
                run(path, resume=resume)
            break
        except error as caught:
            outcomes.append(str(caught))
        left = set(contents(path)) if path.exists() else set()
        assert not [name for name in left if name.endswith(("tmp", lock.LOCK))]
        is_whole_or_refused(path)
        run(path, resume=True)
        assert contents(path) == whole
    assert len(outcomes) > (30 if resume else 50)
    if error is StoreError:
        assert all(str(tmp_path) in words for words in outcomes)
        assert all("No space left" in words for words in outcomes)


def test_a_writer_whose_disk_was_full_at_any_operation_can_go_on(tmp_path, whole):
    """Not only a new run: the same writer, once there is space again."""
    for number in itertools.count():
        path = tmp_path / f"s{number}"
        with DiskWriter(path, METADATA, shard_rows=4) as writer:
            with faulty(number, full, ("open", "write", "fsync", "replace")):
                try:
                    writer.append(FEATURES[:10])
                    break
                except StoreError:
                    pass
            writer.append(FEATURES[10:])
            assert writer.close().digest() == MemoryStore(FEATURES).digest()
    assert number > 10


@pytest.mark.parametrize("stop", range(0, N + 2, 2))
def test_a_continued_store_has_the_bytes_of_one_that_was_never_stopped(
    tmp_path, whole, stop
):
    path = tmp_path / "s"
    run(path, stop=stop)
    if stop:
        with DiskWriter(path, METADATA, shard_rows=4, resume=True) as writer:
            assert writer.stored == (N if stop > N else stop // 4 * 4)
    store = run(path, resume=True)
    assert contents(path) == whole
    np.testing.assert_array_equal(np.asarray(store), FEATURES)


def test_a_complete_store_is_returned_as_it_is_and_needs_no_lock(tmp_path, whole):
    (tmp_path / "whole" / lock.LOCK).write_text("1 elsewhere\n")
    assert run(tmp_path / "whole", resume=True).shape == FEATURES.shape
    (tmp_path / "whole" / lock.LOCK).unlink()
    assert contents(tmp_path / "whole") == whole
    with DiskWriter(tmp_path / "whole", METADATA, shard_rows=4, resume=True) as writer:
        assert writer.complete
        with pytest.raises(StoreError, match="closed"):
            writer.append(FEATURES)
        writer.close()
        with pytest.raises(StoreError, match="closed"):
            writer.close()


def test_without_resume_an_unfinished_store_is_refused_with_the_way_on(unfinished):
    before = contents(unfinished)
    with pytest.raises(StoreError, match=r"8 examples of it safe.*--resume.*delete"):
        run(unfinished)
    with pytest.raises(StoreError, match=r"not complete: 8 examples.*--resume"):
        DiskStore(unfinished)
    assert contents(unfinished) == before


def test_every_field_that_differs_is_named_with_both_values(unfinished):
    before = contents(unfinished)
    other = {"task": "u", "projector": {"dim": 3.0, "seed": 1}, "params": "ab" * 32}
    with pytest.raises(StoreError) as caught:
        run(unfinished, resume=True, metadata=other, shard_rows=6)
    words = str(caught.value)
    for part in (
        "batch_size: the store has 2, this run has nothing",
        "params: the store has nothing, this run has abababababab...",
        "projector.dim: the store has 3, this run has 3.0",
        "projector.seed: the store has 0, this run has 1",
        "shard_rows: the store has 4, this run has 6",
        'task: the store has "t", this run has "u"',
        "Run with what the store has, or name another folder",
    ):
        assert part in words
    assert words.count("this run has") == 6
    assert contents(unfinished) == before
    # Of a complete store as well.
    run(unfinished, resume=True)
    with pytest.raises(StoreError, match="the store has 4, this run has 6"):
        run(unfinished, resume=True, shard_rows=6)


def test_hashes_that_agree_only_where_they_are_shown_differ(tmp_path):
    run(tmp_path / "s", stop=2, metadata={"params": "a" * 64})
    with pytest.raises(StoreError, match="params: the store has"):
        run(tmp_path / "s", resume=True, metadata={"params": "a" * 63 + "b"})


@pytest.mark.parametrize(
    ("example", "words"),
    [(0, "example 0 .*0 to 3"), (3, "0 to 3"), (4, "example 4 .*4 to 7"), (7, "4 to")],
)
def test_changed_data_are_found(unfinished, example, words):
    before = contents(unfinished)
    changed = FEATURES.copy()
    changed[example, 1] += 1
    with pytest.raises(StoreError, match=f"The data changed at .*{words}"):
        run(unfinished, resume=True, features=changed)
    assert contents(unfinished) == before


def test_swapped_data_are_found_and_data_not_yet_stored_may_change(unfinished):
    with pytest.raises(StoreError, match="The data changed"):
        run(unfinished, resume=True, features=FEATURES[[2, 3, 0, 1, *range(4, N)]])
    changed = FEATURES.copy()
    changed[8:] += 1
    store = run(unfinished, resume=True, features=changed)
    assert store.digest() == MemoryStore(changed).digest()


@pytest.mark.parametrize("name", ["features", "weights"])
def test_a_damaged_shard_is_not_built_upon(unfinished, name):
    file = unfinished / f"{name}-00001.npy"
    data = file.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{name}-00001\.npy"):
            run(unfinished, resume=True)
    file.unlink()
    with pytest.raises(StoreError, match=rf"{name}-00001\.npy"):
        run(unfinished, resume=True)
    assert not (unfinished / lock.LOCK).exists()


def test_swapped_shards_are_not_built_upon(unfinished):
    body = json.loads((unfinished / files.MANIFEST).read_text())
    body["shards"].reverse()
    (unfinished / files.MANIFEST).write_text(json.dumps(body))
    for name in ("features", "weights"):
        first, second = (unfinished / f"{name}-0000{i}.npy" for i in (0, 1))
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    with pytest.raises(StoreError, match="The data changed at example 0"):
        run(unfinished, resume=True)


def test_a_short_shard_inside_an_unfinished_store_is_refused(tmp_path):
    run(tmp_path / "s")
    file = tmp_path / "s" / files.MANIFEST
    body = json.loads(file.read_text())
    file.write_text(json.dumps({**body, "complete": False}))
    with pytest.raises(StoreError, match="shard 2 has 3 rows instead of 4"):
        run(tmp_path / "s", resume=True)


def test_a_damaged_manifest_is_reported_by_resume(unfinished):
    (unfinished / files.MANIFEST).write_text("{")
    with pytest.raises(StoreError, match="not readable JSON"):
        run(unfinished, resume=True)
    with pytest.raises(StoreError, match="already holds files"):
        run(unfinished)


def test_metadata_that_are_nested_absurdly_are_refused(unfinished):
    file = unfinished / files.MANIFEST
    for depth in (500, 900, 960, 100_000):
        body = json.loads(file.read_text())
        body["metadata"] = 0
        text = json.dumps(body).replace(
            '"metadata": 0', '"metadata": ' + '{"a":' * depth + "1" + "}" * depth
        )
        other = unfinished.parent / f"deep-{depth}"
        other.mkdir()
        (other / files.MANIFEST).write_text(text)
        with pytest.raises(StoreError, match=r"different run|nested|not readable"):
            run(other, resume=True)


def test_only_what_a_writer_of_this_store_left_is_removed(unfinished, whole):
    leftovers = [
        ".manifest.json.123.tmp",
        ".features-00002.npy.123.tmp",
        ".weights-00000.npy.7.tmp",
        "features-00002.npy",
        "weights-00017.npy",
    ]
    precious = [
        "notes.txt",
        "other-00009.npy",
        "features-2.npy",
        "features-000009.npy",
        ".x.tmp",
        ".features-00002.npy.swp",
    ]
    for name in leftovers + precious:
        (unfinished / name).write_text(name)
    run(unfinished, resume=True)
    found = contents(unfinished)
    for name in precious:
        assert found.pop(name) == name.encode()
    assert found == whole


def test_a_leftover_that_cannot_be_removed_is_named(unfinished):
    (unfinished / "features-00002.npy").mkdir()
    with pytest.raises(StoreError, match=r"Cannot delete .*features-00002\.npy"):
        run(unfinished, resume=True)


def test_resume_leaves_a_folder_alone_that_is_no_store(tmp_path):
    (tmp_path / "features-00000.npy").write_text("mine")
    with pytest.raises(StoreError, match="already holds files and no natgeo store"):
        run(tmp_path, resume=True)
    assert contents(tmp_path) == {"features-00000.npy": b"mine"}


def test_the_lock_names_process_and_machine_while_a_run_writes(tmp_path):
    with DiskWriter(tmp_path / "s", METADATA) as writer:
        text = (tmp_path / "s" / lock.LOCK).read_text()
        assert text.split()[0] == str(os.getpid())
        assert len(text.split()) == 2
        for resume in (False, True):
            with pytest.raises(StoreError, match=f"process {os.getpid()} on this"):
                DiskWriter(tmp_path / "s", METADATA, resume=resume)
        writer.append(FEATURES)
        writer.close()
    assert not (tmp_path / "s" / lock.LOCK).exists()


def gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{gone} {host}\n",
            r"process \d+ of this machine, which is gone: delete .*lock",
        ),
        ("{gone} elsewhere\n", "on elsewhere, which cannot be checked from here"),
        ("1 {host}\n", "process 1 on this machine. Wait"),
        ("9999999999999999999 {host}\n", "which is gone"),
        ("", "does not name a process"),
        ("-1 {host}", "does not name a process"),
        ("0 {host}", "does not name a process"),
        ("1 a b c", "does not name a process"),
        ("\udcff", "does not name a process"),
        ("1" * 5000, "does not name a process"),
    ],
    ids=[
        "gone",
        "elsewhere",
        "alive",
        "huge",
        "empty",
        "negative",
        "zero",
        "words",
        "bytes",
        "long",
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_lock_is_reported_and_never_broken(unfinished, whole, text, words, resume):
    text = text.format(gone=gone() if "gone" in text else "", host=lock._host())
    (unfinished / lock.LOCK).write_bytes(text.encode(errors="surrogateescape"))
    before = contents(unfinished)
    with pytest.raises(StoreError, match=words) as caught:
        run(unfinished, resume=resume)
    assert f"delete {unfinished / lock.LOCK} and run again" in str(caught.value)
    assert "--resume" in str(caught.value)
    assert contents(unfinished) == before
    (unfinished / lock.LOCK).unlink()
    run(unfinished, resume=True)
    assert contents(unfinished) == whole


def test_a_lock_that_is_a_link_is_not_followed(unfinished, tmp_path):
    (unfinished / lock.LOCK).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="does not name a process"):
        run(unfinished, resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_blocks_with_inputs_end_with_the_shards(tmp_path):
    with DiskWriter(tmp_path / "s", shard_rows=4) as writer:
        writer.append(FEATURES[:3], inputs=b"x")
        with pytest.raises(ArgumentError, match="reaches over the end of a shard of 4"):
            writer.append(FEATURES[3:5], inputs=b"y")
        writer.append(FEATURES[3:4], inputs=b"y")
        writer.append(FEATURES[4:], inputs=b"")
        writer.close()
    body = json.loads((tmp_path / "s" / files.MANIFEST).read_text())
    assert ["inputs" in shard for shard in body["shards"]] == [True, False, False]
    assert body["shards"][0]["inputs"] == recovery.inputs_digest([b"x", b"y"])


def test_an_empty_run_leaves_nothing_to_resume_and_says_so(tmp_path):
    run(tmp_path / "s", stop=2)  # begun: a manifest without shards
    with (
        DiskWriter(tmp_path / "s", METADATA, shard_rows=4, resume=True) as writer,
        pytest.raises(StoreError, match="no examples"),
    ):
        writer.close()
