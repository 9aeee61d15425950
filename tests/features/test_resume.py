"""Featurizing that is stopped anywhere and continued, end to end."""

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError, StoreError
from natgeo.features import tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import Identity, Rademacher
from natgeo.store.disk import DiskStore
from natgeo.store.lock import LOCK

N, CLASSES, BATCH, SHARD = 23, 3, 4, 8
RNG = np.random.default_rng(11)
X = np.float32(RNG.normal(size=(N, 5)))
Y = RNG.integers(0, CLASSES, size=N)
PARAMS = {"w": np.float32(RNG.normal(size=(5, CLASSES)))}
ROOT = Path(__file__).parents[2]


def apply(params, x):
    return jnp.matmul(x, params["w"], precision="highest")


TASK = tasks.classification(apply)
PROJECTOR = Rademacher(6, 1)


def run(store, data=(X, Y), *, task=TASK, params=PARAMS, projector=PROJECTOR, **other):
    options = {"batch_size": BATCH, "shard_rows": SHARD, **other}
    return featurize(task, params, data, projector, store=store, **options)


def contents(path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in Path(path).iterdir()}


def pieces(stop=None, error=KeyboardInterrupt, cuts=(5, 6, 14, 20)):
    """The data in uneven batches, which give out before batch number `stop`."""
    parts = zip(np.split(X, cuts), np.split(Y, cuts), strict=True)
    for number, part in enumerate(parts):
        if number == stop:
            raise error
        yield part


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / "s"
    memory = run(None)
    disk = run(path)
    assert disk.digest() == memory.digest()
    assert disk.metadata == memory.metadata
    return contents(path)


@pytest.fixture
def unfinished(tmp_path):
    """Interrupted after 16 safe examples."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", pieces(4))
    with pytest.raises(StoreError, match="not complete: 16 examples"):
        DiskStore(tmp_path / "s")
    return tmp_path / "s"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_a_run_stopped_at_any_batch_is_continued_bit_for_bit(tmp_path, whole, error):
    for stop in range(5):
        path = tmp_path / str(stop)
        with pytest.raises(error):
            run(path, pieces(stop, error))
        assert not (path / LOCK).exists()
        # Arrays and iterables, and other cuts of the same data, are the same data.
        data = [(X, Y), pieces(), pieces(cuts=(1, 9))][stop % 3]
        run(path, data, resume=True)
        assert contents(path) == whole


def test_stored_examples_are_not_computed_again(unfinished, monkeypatch):
    from natgeo.features import featurize as module

    steps = []
    real = module._compiled_step

    def counting(*arguments):
        step = real(*arguments)

        def counted(params, batch):
            steps.append(len(batch[0]))
            return step(params, batch)

        return counted

    monkeypatch.setattr(module, "_compiled_step", counting)
    run(unfinished, resume=True)
    # One batch to see that the model is the same, two for the seven that were missing.
    assert steps == [BATCH] * 3
    steps.clear()
    run(unfinished, resume=True)
    assert steps == [BATCH]


def test_a_missing_store_is_begun_and_a_complete_one_returned(tmp_path, whole):
    run(tmp_path / "s", resume=True)
    assert contents(tmp_path / "s") == whole
    made = run(tmp_path / "s", pieces(), resume=True)
    assert isinstance(made, DiskStore)
    assert contents(tmp_path / "s") == whole


@pytest.mark.parametrize("rows", [24, 31])
def test_a_complete_store_is_not_taken_for_that_of_other_data(tmp_path, rows):
    run(tmp_path / "s")
    longer = np.resize(X, (rows, 5)), np.resize(Y, rows)
    for data, words in (
        ((X[::-1].copy(), Y), "The data changed at example 0"),
        ((X[:20], Y[:20]), "The data end at example 20, .* holds 23"),
        (longer, "The data changed at example 16 or after it"),
    ):
        with pytest.raises(StoreError, match=words):
            run(tmp_path / "s", data, resume=True)


def test_data_that_go_on_after_a_complete_store_are_found(tmp_path):
    run(tmp_path / "s", (X[:16], Y[:16]))
    with pytest.raises(StoreError, match=r"after example 15.*complete with 16"):
        run(tmp_path / "s", resume=True)


def test_an_unfinished_store_is_refused_without_resume(unfinished, whole):
    before = contents(unfinished)
    with pytest.raises(StoreError, match=r"16 examples of it safe.*resume=True"):
        run(unfinished)
    assert contents(unfinished) == before


def test_every_difference_between_the_runs_is_named(unfinished, whole):
    before = contents(unfinished)
    with pytest.raises(StoreError) as caught:
        run(
            unfinished,
            resume=True,
            task=tasks.classification(apply, output="loss"),
            params={"w": PARAMS["w"] + np.float32(1)},
            projector=Rademacher(5, 2),
            batch_size=3,
            shard_rows=12,
            devices=jax.devices()[:1],
        )
    words = str(caught.value)
    for part in (
        "batch_size: the store has 4, this run has 3",
        'columns: the store has ["outputs", "weights"], this run has ["outputs"]',
        "devices.number: the store has 4, this run has 1",
        "params: the store has",
        "projector.dim: the store has 6, this run has 5",
        "projector.seed: the store has 1, this run has 2",
        "shard_rows: the store has 8, this run has 12",
        'task: the store has "classification-margin", this run has',
    ):
        assert part in words
    assert words.count("this run has") == 8
    assert contents(unfinished) == before
    run(unfinished, resume=True)
    assert contents(unfinished) == whole


def test_precision_and_versions_are_part_of_the_key(unfinished, monkeypatch):
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    with (
        jax.enable_x64(not jax.config.read("jax_enable_x64")),
        jax.default_matmul_precision("bfloat16"),
        pytest.raises(StoreError) as caught,
    ):
        run(unfinished, resume=True)
    words = str(caught.value)
    assert "precision.x64: the store has" in words
    assert 'precision.matmul: the store has "None", this run has "bfloat16"' in words
    assert "versions.jax: the store has" in words
    assert words.count("this run has") == 3


@pytest.mark.parametrize(("row", "words"), [(0, "0 to 7"), (15, "8 to 15")])
def test_changed_data_are_found(unfinished, row, words):
    before = contents(unfinished)
    for changed in ((X.copy(), Y), (X, Y.copy())):
        if changed[0] is X:
            changed[1][row] = (Y[row] + 1) % CLASSES
        else:
            changed[0][row, 0] += 1
        with pytest.raises(StoreError, match=f"The data changed at .* {words}"):
            run(unfinished, changed, resume=True)
    assert contents(unfinished) == before


def test_data_of_another_dtype_or_structure_are_changed_data(unfinished):
    with pytest.raises(StoreError, match="The data changed at example 0"):
        run(unfinished, (np.float64(X), Y), resume=True)
    for data in ((X, Y, Y), {"a": X, "b": Y}):  # the task refuses them before that
        with pytest.raises(DataError, match="A batch must be a pair"):
            run(unfinished, data, resume=True)


def test_data_that_end_too_soon_are_found(unfinished):
    with pytest.raises(StoreError, match=r"The data end at example 9, .*holds 16"):
        run(unfinished, (X[:9], Y[:9]), resume=True)
    with pytest.raises(DataError, match="no examples"):
        run(unfinished, [], resume=True)


@pytest.mark.parametrize("finished", [False, True])
def test_a_model_whose_code_changed_is_found(unfinished, finished):
    if finished:
        run(unfinished, resume=True)
    other = tasks.classification(lambda params, x: 2 * apply(params, x))
    with pytest.raises(StoreError, match="the code of the model or of the task"):
        run(unfinished, resume=True, task=other)
    broken = tasks.classification(lambda params, x: jnp.nan * apply(params, x))
    with pytest.raises(StoreError, match="the code of the model or of the task"):
        run(unfinished, resume=True, task=broken)


def test_a_bad_example_after_the_stored_ones_keeps_its_number(unfinished, whole):
    bad = X.copy()
    bad[20, 0] = np.nan
    with pytest.raises(DataError, match="Example 20"):
        run(unfinished, (bad, Y), resume=True)
    run(unfinished, resume=True)
    assert contents(unfinished) == whole


def test_shards_are_whole_batches(tmp_path):
    store = run(tmp_path / "s", shard_rows=9)
    assert [len(block) for block in store.blocks(100)] == [12, 11]
    # Of the padded batch: five examples a step on four devices are eight.
    store = run(tmp_path / "t", shard_rows=1, batch_size=5)
    assert [len(block) for block in store.blocks(100)] == [8, 8, 7]


def test_resume_needs_a_folder():
    with pytest.raises(ArgumentError, match=r"resume=True needs store="):
        run(None, resume=True)
    with pytest.raises(ArgumentError, match="shard_rows=0"):
        run(None, shard_rows=0)


KILLED = """
import os, sys
import tests.conftest
from tests.features import test_resume as here

def data():
    for number, part in enumerate(here.pieces()):
        if number == 4:
            os.kill(os.getpid(), 9)
        yield part

here.run(sys.argv[1], data())
"""


def test_a_killed_process_is_continued_bit_for_bit(tmp_path, whole):
    path = tmp_path / "s"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == -9, done.stderr
    with pytest.raises(StoreError, match=r"is gone: delete .*writer\.lock"):
        run(path, resume=True)
    os.unlink(path / LOCK)
    run(path, resume=True)
    assert contents(path) == whole


def test_float64_features_are_continued(tmp_path):
    with jax.enable_x64(True):
        params = {"w": np.float64(X[0])}

        def output(params, x):
            return jnp.sum(params["w"] * x)

        data = itertools.chain([np.float64(X[:12])], ["not an array of numbers"])
        options = {"task": output, "params": params, "projector": Identity()}
        with pytest.raises(DataError):
            run(tmp_path / "s", data, **options)
        made = run(tmp_path / "s", np.float64(X), resume=True, **options)
        assert made.dtype == np.float64
        np.testing.assert_array_equal(np.asarray(made), np.float64(X))


def test_the_bar_shows_the_rate_of_this_run_and_the_time_left(monkeypatch, capsys):
    from natgeo import progress

    monkeypatch.setattr(progress, "_PATIENCE_S", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress.Progress("featurizing", 10_000, visible=True, done=9_000) as bar:
        for _ in range(10):
            time.sleep(0.02)
            bar.advance(10)
    shown = capsys.readouterr().err
    assert "9100/10000" in shown
    rates = [int(rate.replace(",", "")) for rate in re.findall(r"([\d,]+)/s", shown)]
    assert rates
    assert max(rates) <= 1000  # ten rows take 0.02 s at least; 9000 were there before
