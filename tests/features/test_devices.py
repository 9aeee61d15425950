"""One device equals several, against a hand formula."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.features.devices import data_mesh, data_parallel

WEIGHTS = np.float32([0.5, -1.0, 0.25])
INPUTS = np.float32(np.random.default_rng(8).normal(size=(8, 3)))
# d tanh(w.x) / dw = (1 - tanh(w.x)^2) x
BY_HAND = (1 - np.tanh(np.float64(INPUTS) @ WEIGHTS) ** 2)[:, None] * INPUTS


def gradients(weights, batch):
    def output(weights, x):
        return jnp.tanh(jnp.sum(weights * x))

    return jax.vmap(jax.grad(output), in_axes=(None, 0))(weights, batch)


def test_the_tests_run_on_four_devices():
    assert len(jax.devices()) == 4


@pytest.mark.parametrize("count", [1, 2, 4])
def test_per_example_gradients_do_not_mix_examples(count):
    mesh = data_mesh(jax.devices()[:count])
    got = data_parallel(gradients, mesh)(WEIGHTS, INPUTS)
    np.testing.assert_allclose(got, BY_HAND, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_without_the_cast_gradients_are_wrong_on_more_than_one_device(
    count, monkeypatch
):
    """Guards the test above: this is the silent error that it must catch."""
    monkeypatch.setattr(jax.lax, "pcast", lambda leaf, axis, *, to: leaf)
    mesh = data_mesh(jax.devices()[:count])
    got = data_parallel(gradients, mesh)(WEIGHTS, INPUTS)
    assert np.allclose(got, BY_HAND, atol=1e-6) == (count == 1)


def test_a_mesh_has_the_one_axis_and_all_devices_by_default():
    assert data_mesh().axis_names == ("data",)
    assert data_mesh().size == 4
    assert data_mesh(jax.devices()[:3]).size == 3


MATRIX = """
import sys
import jax, jax.numpy as jnp
import numpy as np
from natgeo.features import tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import CountSketch

assert len(jax.devices()) == 8
rng = np.random.default_rng(0)
params = {
    "first": np.float32(rng.normal(size=(16, 32)) / 4),
    "last": np.float32(rng.normal(size=(32, 5)) / 6),
}
x, y = np.float32(rng.normal(size=(101, 16))), rng.integers(0, 5, 101)

def apply(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"]

task = tasks.classification(apply)
made = {}
for devices in (1, 2, 4, 8):
    for size in (1, 7, 64):
        made[f"{devices} {size}"] = np.asarray(
            featurize(task, params, (x, y), CountSketch(64), batch_size=size,
                      devices=jax.devices()[:devices])
        )
np.savez(sys.argv[1], **made)
"""


@pytest.mark.slow
def test_devices_and_batches_change_only_rounding(tmp_path):
    """1, 2, 4 and 8 devices, batches of 1, 7 and 64: 2e-6 of a feature's norm."""
    done = subprocess.run(
        [sys.executable, "-c", MATRIX, str(tmp_path / "made.npz")],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = np.load(tmp_path / "made.npz")
    assert len(made) == 12
    want = np.float64(made["1 64"])
    norms = np.linalg.norm(want, axis=1, keepdims=True)
    assert norms.min() > 0
    worst = max(float((np.abs(made[key] - want) / norms).max()) for key in made)
    assert worst <= 2e-6
