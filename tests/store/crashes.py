"""A writer that is killed, or finds the disk full, at each file operation in turn.

Imported by the tests, and run by them in a process of its own that does not import JAX:
it forks, and JAX does not survive that.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from unittest import mock

import numpy as np

from natgeo.errors import StoreError
from natgeo.store.disk import DiskStore
from natgeo.store.lock import LOCK
from natgeo.store.writer import DiskWriter

N, K, BLOCK, SHARD = 11, 3, 2, 4
RNG = np.random.default_rng(8)
FEATURES = np.float32(RNG.normal(size=(N, K)))
WEIGHTS = np.float32(RNG.normal(size=N))
METADATA = {"task": "t", "projector": {"dim": K, "seed": 0}, "batch_size": BLOCK}
OPERATIONS = ("mkdir", "open", "write", "fsync", "replace", "unlink")


def run(path, *, resume=False, features=FEATURES, stop=N, **options):
    """What featurize does, without a model: two full shards and one of three rows."""
    options = {"metadata": METADATA, "shard_rows": SHARD, **options}
    with DiskWriter(path, resume=resume, **options) as writer:
        for start in range(0, len(features), BLOCK):
            if start >= stop:
                return None
            block = features[start : start + BLOCK]
            inputs = hashlib.sha256(block.tobytes()).digest()
            if start < writer.stored:
                writer.recognize(len(block), inputs)
                continue
            weights = {"weights": WEIGHTS[start : start + BLOCK]}
            writer.append(block, weights, inputs=inputs)
        return writer.close()


def contents(path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in Path(path).iterdir()}


def faulty(number: int, fault, operations=OPERATIONS):
    """Runs `fault` in place of the file operation with this number; half of a write."""
    counter = itertools.count()

    def wrapped(name, real):
        def operation(*arguments, **options):
            if next(counter) == number:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                fault()
            return real(*arguments, **options)

        return operation

    return mock.patch.multiple(
        os, **{name: wrapped(name, getattr(os, name)) for name in operations}
    )


def killed_at(number: int, path: Path, *, resume: bool) -> bool:
    """Whether a process that runs the writer dies at this operation, or finishes."""
    child = os.fork()
    if child == 0:
        try:
            with faulty(number, lambda: os._exit(9)):
                run(path, resume=resume)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    return code == 9


def refused(action) -> str:
    try:
        action()
    except StoreError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def is_whole_or_refused(path: Path) -> bool:
    """Whether a reader can open the store; if not, it must say why."""
    try:
        store = DiskStore(path)
    except StoreError as refusal:
        words = str(refusal)
    else:
        np.testing.assert_array_equal(np.asarray(store), FEATURES)
        return True
    assert "not complete" in words or "No store" in words, words
    return False


def examine_wreck(path: Path) -> None:
    """What a kill leaves is refused by a reader and by a writer, each saying why."""
    whole = is_whole_or_refused(path)
    lock = path / LOCK
    if lock.exists() and not whole:
        for resume in (False, True):
            words = refused(lambda resume=resume: DiskWriter(path, resume=resume))
            assert f"delete {lock}" in words, words
            assert "gone" in words or "does not name a process" in words, words
    lock.unlink(missing_ok=True)


def every_kill(folder: str) -> None:
    folder = Path(folder)
    run(folder / "whole")
    want = contents(folder / "whole")
    for number in itertools.count():
        path = folder / f"kill-{number}"
        if not killed_at(number, path, resume=False):
            break
        examine_wreck(path)
        run(path, resume=True)
        assert contents(path) == want, number
    assert number > 50, number


def many_kills(folder: str) -> None:
    """Each run that goes on is killed as well, always after so many operations."""
    folder = Path(folder)
    run(folder / "whole")
    want = contents(folder / "whole")
    for number in range(27, 60, 3):
        path = folder / f"kills-{number}"
        rounds = 0
        while killed_at(number, path, resume=True):
            examine_wreck(path)
            rounds += 1
            assert rounds < 10, number
        assert rounds, number
        assert contents(path) == want, number
