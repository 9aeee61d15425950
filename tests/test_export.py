"""Every jitted kernel lowers for accelerators that are not at hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from natgeo.features import tasks
from natgeo.features.gradients import feature_step
from natgeo.features.projectors import PROJECTORS, Identity
from natgeo.geometry import kernels
from natgeo.geometry.scores import score_tile

PLATFORMS = ["cpu", "cuda", "tpu"]


def lowered(function, *arguments):
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    return export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)


@pytest.mark.parametrize("name", PROJECTORS)
def test_the_feature_step_lowers_everywhere(name, rng):
    kind = PROJECTORS[name]
    projector = kind() if kind is Identity else kind(dim=16)
    params = {"w": jnp.zeros((6, 3)), "b": jnp.zeros(3)}
    task = tasks.classification(lambda p, x: jnp.tanh(x) @ p["w"] + p["b"][None, :])
    x = rng.standard_normal((4, 6)).astype(np.float32)
    batch = (x, np.zeros(4, np.int32))
    made = lowered(feature_step(task, projector), params, batch)
    assert made.platforms == tuple(PLATFORMS)
    assert {(4,), (4, projector.width(params))} == {a.shape for a in made.out_avals}


@pytest.mark.parametrize("name", ["countsketch", "kronecker"])
def test_structured_gradients_lower_everywhere(name):
    """Convolutions by patches, lookups by rows, attention by factors."""
    shapes = {"k": (3, 3, 2, 4), "e": (9, 8), "q": (8, 2, 4), "w": (64, 8)}
    params = {key: jnp.ones(shape) for key, shape in shapes.items()}

    def output(params, example):
        image, tokens = example
        seen = jax.lax.conv_general_dilated(
            image[None],
            params["k"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        hidden = params["e"][tokens] + (seen.reshape(1, 64) @ params["w"])
        return jnp.sum(jnp.tanh(jnp.einsum("td,dhk->thk", hidden, params["q"])))

    task = tasks.Task("a mixture", output)
    batch = jnp.zeros((2, 4, 4, 2)), jnp.zeros((2, 5), jnp.int32)
    made = lowered(feature_step(task, PROJECTORS[name](dim=16)), params, batch)
    assert {(2,), (2, 16)} == {a.shape for a in made.out_avals}


@pytest.mark.parametrize("ridge", [False, True])
def test_the_screen_of_the_sweep_lowers_everywhere(ridge):
    pairs, each, one = jnp.zeros((64, 256)), jnp.zeros(8), jnp.float32(1)
    curve = (pairs, each, one, each, one) if ridge else ()
    scores = jnp.zeros((64, 8)), jnp.zeros((8, 256))
    made = lowered(kernels._count, *scores, each, pairs, *curve)
    assert made.out_avals[0].shape == (8, 256)


def test_the_score_tile_lowers_everywhere():
    targets, train, weights = jnp.zeros((3, 8)), jnp.zeros((5, 8)), jnp.zeros(5)
    made = lowered(score_tile, targets, train, weights)
    assert made.out_avals[0].shape == (3, 5)
