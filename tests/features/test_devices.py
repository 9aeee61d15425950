"""One device equals several, against a hand formula."""

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
