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


def test_the_score_tile_lowers_everywhere():
    targets, train, weights = jnp.zeros((3, 8)), jnp.zeros((5, 8)), jnp.zeros(5)
    made = lowered(score_tile, targets, train, weights)
    assert made.out_avals[0].shape == (3, 5)
