"""Several processes on this machine: the same store and bits, also after a kill."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from natgeo.errors import ArgumentError, StoreError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.disk import DiskStore
from natgeo.store.lock import LOCK
from natgeo.store.parts import Share
from tests.features import test_resume as single

ROOT = Path(__file__).parents[2]
PROJECT = """
import os
import numpy as np
import jax.numpy as jnp

WEIGHTS = np.float32(np.random.default_rng(0).standard_normal((5, 3)))

def model():
    apply = lambda params, x: jnp.matmul(x, params["w"], precision="highest")
    return apply, {"w": jnp.asarray(WEIGHTS)}

def data():
    rng = np.random.default_rng(1)
    for number in range(24):
        if number == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), 9)
        yield np.float32(rng.standard_normal((10, 5))), rng.integers(0, 3, 10)
"""
SCRIPT = """
import json, sys
from pathlib import Path
import jax
import numpy as np
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import natgeo as ng
import project

apply, params = project.model()
task = ng.tasks.classification(apply)
train = ng.featurize(
    task, params, project.data(), ng.projectors.CountSketch(8),
    store="together", batch_size=8, shard_rows=16,
)
targets = ng.featurize(task, params, train_targets := next(project.data()),
    ng.projectors.CountSketch(8))
geometry = ng.natural_geometry(train, ridge=0.25, shared=True)
Path(f"found-{sys.argv[2]}.json").write_text(json.dumps({
    "shape": train.shape,
    "digest": train.digest(),
    "moments": geometry.covariance.tobytes().hex(),
    "targets": targets.shape,
}))
"""


def start(folder, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*running):
    """(exit code, standard output, standard error) of each."""
    # At the same time: one may wait for another, and that one must not stay a zombie.
    with ThreadPoolExecutor(len(running)) as pool:
        wait = functools.partial(subprocess.Popen.communicate, timeout=120)
        outputs = list(pool.map(wait, running))
    return [
        (process.returncode, *output)
        for process, output in zip(running, outputs, strict=True)
    ]


NATGEO = ("-c", "from natgeo.cli import main; main()")
FEATURIZE = (
    *NATGEO,
    *"featurize --model project:model --data project:data --json".split(),
    *"--dim 8 --batch-size 8 --shard-rows 16".split(),
)


def loopback() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def joined(address, number, *, out="joined"):
    numbers = ("--processes", 2, "--process", number)
    return (*FEATURIZE, "--out", out, "--coordinator", address, *numbers)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project, and the store that one process of two devices writes for it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "project.py").write_text(PROJECT)
    (folder / "script.py").write_text(SCRIPT)
    ((code, _, error),) = ended(start(folder, *FEATURIZE, "--out", "one"))
    assert code == 0, error
    return folder


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*.*")}


def test_two_processes_write_the_store_of_one(project):
    address = loopback()
    done = ended(*(start(project, *joined(address, number)) for number in (0, 1)))
    assert [code for code, _, _ in done] == [0, 0], done
    one, store = DiskStore(project / "one"), DiskStore(project / "joined")
    assert (store.parts, store.shape) == (2, (240, 8))
    assert store.digest() == one.digest()
    assert store.metadata == one.metadata
    np.testing.assert_array_equal(np.asarray(store), np.asarray(one))
    for name in ("outputs", "weights"):
        np.testing.assert_array_equal(store.column(name), one.column(name))
    # Process 0 speaks for all, and nothing else is on its standard output.
    assert json.loads(done[0][1])["sha256"] == one.digest()
    assert done[1][1] == ""


def test_a_killed_process_is_continued_to_the_same_bytes(project):
    for number in (0, 1):
        share = ("--out", "whole", "--share", f"{number}/2")
        ((code, _, error),) = ended(start(project, *FEATURIZE, *share))
        assert code == 0, error
    address = loopback()
    killed = ended(
        start(project, *joined(address, 0, out="killed")),
        start(project, *joined(address, 1, out="killed"), KILL_AT="22"),
    )
    assert killed[1][0] == -signal.SIGKILL
    # The other one finishes its part, and says which part is missing.
    assert killed[0][0] == 4, killed[0]
    assert "part-00001-of-00002" in killed[0][2]
    assert "which is gone" in killed[0][2]
    # How many depends on how far the data were read ahead: whole shards in any case.
    safe = r"part-00001-of-00002 only (16|32|48|64|80|96) examples"
    with pytest.raises(StoreError, match=safe):
        DiskStore(project / "killed")
    os.unlink(Share(1, 2).folder(project / "killed") / LOCK)
    address = loopback()
    resumed = ended(
        *(
            start(project, *joined(address, number, out="killed"), "--resume")
            for number in (0, 1)
        )
    )
    assert [code for code, _, _ in resumed] == [0, 0], resumed
    assert contents(project / "killed") == contents(project / "whole")


def test_a_script_of_two_processes_shares_the_store_and_its_moments(project):
    address = loopback()
    done = ended(*(start(project, "script.py", address, number) for number in (0, 1)))
    assert [code for code, _, _ in done] == [0, 0], done
    # In files: Gloo prints to standard output whenever it connects.
    found = [json.loads((project / f"found-{n}.json").read_text()) for n in (0, 1)]
    assert found[0] == found[1]
    one = DiskStore(project / "one")
    assert found[0]["digest"] == one.digest()
    assert found[0]["targets"] == [10, 8]
    covariance = np.frombuffer(bytes.fromhex(found[0]["moments"])).reshape(8, 8)
    want = natural_geometry(one, ridge=0.25).covariance
    np.testing.assert_allclose(covariance, want, rtol=1e-13, atol=1e-15)


def run_share(path, index, of, **options):
    return single.run(path, share=(index, of), **options)


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_shares_in_one_process_join_to_the_whole(tmp_path, of):
    want = single.run(None)
    for index in range(of):
        data = [(single.X, single.Y), single.pieces()][index % 2]
        made = run_share(tmp_path / "s", index, of, data=data)
        rows = [row for row in range(single.N) if row // single.SHARD % of == index]
        np.testing.assert_array_equal(np.asarray(made), np.asarray(want)[rows])
        again = run_share(tmp_path / "s", index, of, resume=True)
        assert again.shape == made.shape
    store = DiskStore(tmp_path / "s")
    assert store.digest() == want.digest()
    assert store.metadata == want.metadata
    for name in ("outputs", "weights"):
        np.testing.assert_array_equal(store.column(name), want.column(name))


@pytest.mark.parametrize("stop", range(5))
def test_a_share_stopped_at_any_batch_is_continued_bit_for_bit(tmp_path, stop):
    for index in (0, 1):
        run_share(tmp_path / "want", index, 2)
        with pytest.raises(KeyboardInterrupt):
            run_share(tmp_path / "s", index, 2, data=single.pieces(stop))
        run_share(tmp_path / "s", index, 2, resume=True)
    assert contents(tmp_path / "s") == contents(tmp_path / "want")


def test_a_bad_example_of_a_share_has_its_number_in_the_whole(tmp_path):
    x = single.X.copy()
    x[[10, 20], 0] = np.nan
    for index, row in ((0, 20), (1, 10)):
        with pytest.raises(single.DataError, match=f"Example {row} "):
            run_share(tmp_path / "s", index, 2, data=(x, single.Y))


def test_a_share_without_examples_is_no_geometry(tmp_path):
    empty = run_share(tmp_path / "s", 4, 5)
    assert empty.shape == (0, 6)
    with pytest.raises(single.DataError, match="holds no examples"):
        natural_geometry(empty)


def test_what_is_no_share_is_refused(tmp_path):
    for share in (1, (1,), (2, 2), (0, "2")):
        with pytest.raises(ArgumentError, match="share"):
            single.run(tmp_path / "s", share=share)
    with pytest.raises(ArgumentError, match=r"share=\(0, 2\) needs store="):
        single.run(None, share=(0, 2))
    assert not (tmp_path / "s").exists()


def test_moments_are_shared_by_one_process_too(tmp_path):
    store = single.run(tmp_path / "s")
    alone = natural_geometry(store, ridge=0.1)
    shared = natural_geometry(store, ridge=0.1, shared=True)
    np.testing.assert_array_equal(shared.covariance, alone.covariance)


def test_a_large_sum_is_exchanged_in_pieces(monkeypatch):
    """Three processes emulated: the pieces of every one come back in order."""
    from natgeo.geometry import processes

    rng = np.random.default_rng(5)
    matrices = rng.standard_normal((3, 7, 7)) * np.exp2(
        rng.integers(-40, 40, (3, 1, 1))
    )
    cut = []

    def gather(part):
        start = len(cut) * len(part)
        cut.append(part)
        out = np.zeros((3, len(part)), np.uint8)
        for row, matrix in zip(out, matrices, strict=True):
            taken = np.frombuffer(matrix.tobytes(), np.uint8)[start : start + len(part)]
            row[: len(taken)] = taken
        np.testing.assert_array_equal(out[0], part)
        return out

    monkeypatch.setattr(processes.multihost_utils, "process_allgather", gather)
    monkeypatch.setattr(processes, "_GATHERED_BYTES", 80)
    found = processes._sum_over_processes(matrices[0])
    assert len(cut) == 5
    np.testing.assert_array_equal(found, (matrices[0] + matrices[1]) + matrices[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--coordinator", "127.0.0.1:1"], "belong together"),
        (["--distributed"], "could not be joined"),
        (["--share", "2/2"], "share=2 is out of range"),
        (["--share", "a"], "--share='a' must be P/N"),
        (["--share", "0/2", "--distributed"], "leave out --distributed"),
    ],
)
def test_wrong_processes_get_one_line(project, arguments, words):
    command = (*FEATURIZE, "--out", "never", *arguments)
    ((code, out, error),) = ended(start(project, *command))
    assert (code, out) == (2, ""), error
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (project / "never").exists()
