"""How many examples a step takes, for steps and devices of known memory."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo import progress
from natgeo.features import batches, plan, tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import CountSketch
from natgeo.store.parts import Share

HEAD = (np.zeros((3, 5)), np.zeros(3, np.int64))
BUDGET = 20 * 2**20  # of a CPU
PROBE = 8


class Step:
    """A compiled step that says it takes `each` bytes for an example."""

    def __init__(self, each):
        self.each, self.shapes = each, None

    def lower(self, params, shapes):
        self.shapes = shapes
        return self

    def compile(self):
        return self

    def memory_analysis(self):
        if self.each is None:
            return None
        return types.SimpleNamespace(temp_size_in_bytes=PROBE * self.each)


def devices(number=1, limit=None, platform="cpu"):
    stats = None if limit is None else {"bytes_limit": limit}
    device = types.SimpleNamespace(platform=platform, memory_stats=lambda: stats)
    return [device] * number


def chosen(each, number=1, rows=None, **kind):
    return plan.choose(Step(each), {}, HEAD, devices(number, **kind), rows)


@pytest.mark.parametrize(
    ("each", "size"),
    [
        (BUDGET, 1),
        (BUDGET + 1, 1),  # one example is the least, whatever it takes
        (BUDGET // 2, 2),
        (BUDGET // 3, 2),
        (BUDGET // 100, 64),
        (BUDGET // 256, 256),
        (BUDGET // 257, 256),
        (1, 256),
        (0, 256),  # nothing stated is not a division by zero
    ],
)
def test_a_step_is_the_largest_power_of_two_in_the_budget(each, size):
    found = chosen(each)
    assert found.batch_size == size
    assert found.temporary == max(each, 1) * size
    assert found.temporary <= BUDGET or size == 1


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        (1, 8),
        (8, 8),
        (9, 8),
        (16, 16),
        (200, 128),
        (255, 128),
        (256, 256),
        (10**9, 256),
    ],
)
def test_no_step_is_larger_than_the_data(rows, size):
    assert chosen(1, rows=rows).batch_size == size


def test_the_budget_is_that_of_each_device():
    assert chosen(BUDGET // 16, number=4).batch_size == 4 * 16
    assert chosen(BUDGET // 16, number=4).temporary == BUDGET // 16 * 16
    assert chosen(1, number=4, rows=100).batch_size == 4 * 16
    assert chosen(1, number=3, rows=1).batch_size == 3 * 8


def test_an_accelerator_gives_an_eighth_of_its_memory():
    gpu = {"platform": "gpu", "limit": 80 * 2**30}
    assert chosen(2**30, **gpu).batch_size == 8
    assert chosen(2**30, number=2, **gpu).batch_size == 16
    assert chosen(2**20, platform="gpu").batch_size == 16  # it says nothing


def test_a_backend_that_says_nothing_gets_the_probe():
    found = chosen(None, number=2)
    assert found == plan.Plan(2 * PROBE, None)
    assert found.describe() == "steps of 16 examples"
    assert "64.0 KiB" in plan.Plan(4, 2**16).describe()


def test_the_probe_has_the_shapes_and_dtypes_of_a_step():
    step = Step(1)
    plan.choose(step, {}, HEAD, devices(2), None)
    made = [(leaf.shape, leaf.dtype.name) for leaf in step.shapes]
    assert made == [((16, 5), "float32"), ((16,), "int32")]


def data(rows=40):
    rng = np.random.default_rng(0)
    return np.float32(rng.standard_normal((rows, 5))), rng.integers(0, 3, rows)


def apply(params, x):
    return x @ params["w"]


TASK = tasks.classification(apply)
PARAMS = {"w": jnp.asarray(np.random.default_rng(1).standard_normal((5, 3)), "f4")}


def run(given, **options):
    return featurize(TASK, PARAMS, given, CountSketch(16, seed=0), **options)


def pieces(*cuts):
    x, y = data()
    return list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_choice_changes_no_feature(number, prefetch):
    used = jax.devices()[:number]
    want = run(data(), batch_size=8, devices=used[:1])
    for given in (data(), pieces(0, 3, 20), iter(pieces(0, 3, 20))):
        got = run(given, devices=used, prefetch=prefetch)
        assert got.metadata["batch_size"] % number == 0
        assert got.shape == want.shape
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=1e-5)


def stopped():
    yield from pieces(20)[:1]
    raise KeyboardInterrupt


@pytest.mark.parametrize("share", [None, (0, 1)])
def test_a_resumed_run_keeps_the_batch_of_the_store(tmp_path, monkeypatch, share):
    folder = tmp_path / "s"
    options = {"store": folder, "shard_rows": 4, "share": share}
    with pytest.raises(KeyboardInterrupt):
        run(stopped(), batch_size=4, **options)
    named = None if share is None else Share(*share)
    assert plan.begun_with(folder, named) == 4
    monkeypatch.setattr(plan, "choose", None)  # nothing is to be chosen
    store = run(iter(pieces(7)), resume=True, **options)
    assert store.metadata["batch_size"] == 4
    want = run(data(), batch_size=4)
    np.testing.assert_array_equal(store.rows(np.arange(40)), np.asarray(want))


def test_without_a_store_nothing_was_begun(tmp_path):
    assert plan.begun_with(None, None) is None
    assert plan.begun_with(tmp_path / "none", None) is None
    assert plan.begun_with(tmp_path, Share(0, 2)) is None


def test_the_choice_is_said_on_standard_error_and_only_if_it_is_wanted(
    capsys, monkeypatch
):
    monkeypatch.setattr(progress, "_PATIENCE_S", 1e9)  # no bar on a slow machine
    run(data())
    assert capsys.readouterr() == ("", "")
    run(data(), batch_size=8, progress=True)
    assert capsys.readouterr() == ("", "")
    store = run(data(), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"steps of {store.metadata['batch_size']} examples" in err


def test_what_is_peeked_at_is_not_the_whole_first_batch():
    given = np.zeros((1000, 4))
    head, _ = batches.peek(iter([given]), 64)
    assert head.shape == (64, 4)
    assert head.base is None
