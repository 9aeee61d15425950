"""Gradients in some of the parameters, chosen by path."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import natgeo as ng
from natgeo.errors import ArgumentError, DataError
from natgeo.features.countsketch import CountSketch
from natgeo.features.gradients import feature_step, join_params, split_params
from natgeo.features.projectors import Identity, Rademacher
from natgeo.features.tasks import Task, restricted


def output(params, x):
    hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
    return jnp.sum(hidden @ params["head"]["kernel"])


@pytest.fixture
def params(rng):
    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return {
        "body": {"kernel": draw(5, 4), "bias": draw(4)},
        "head": {"kernel": draw(4, 3)},
    }


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        ("head", ["head.kernel"]),
        ("kernel", ["body.kernel", "head.kernel"]),
        (r"^(?!.*head)", ["body.bias", "body.kernel"]),
        (None, ["body.bias", "body.kernel", "head.kernel"]),
    ],
)
@pytest.mark.parametrize("form", [True, False])
def test_features_are_the_gradients_of_the_chosen_parameters(
    params, x, only, kept, form
):
    task = Task("t", output, only=only)
    gradient = jax.vmap(jax.grad(output), in_axes=(None, 0))(params, x)
    chosen, _ = split_params(gradient, only)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(chosen)]
    assert [path.replace("']['", ".").strip("[']") for path in paths] == kept
    for projector in (CountSketch(16), Rademacher(16), Identity()):
        step = feature_step(task, projector, form=form)
        got = jax.jit(step)(params, x)["features"]
        np.testing.assert_allclose(got, projector.project(chosen), rtol=1e-4, atol=1e-5)


def test_the_parts_join_to_the_whole(params):
    whole = join_params(*split_params(params, "head"))
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(params), strict=True):
        assert one is other


def test_nnx_parameters_are_chosen_by_path(rng):
    graph, state = nnx.split(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    x = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)

    def output(params, x):
        return jnp.sum(nnx.merge(graph, params)(x[None]) ** 2)

    step = jax.jit(feature_step(Task("nnx", output, only="bias"), Identity()))
    whole = jax.vmap(jax.grad(output), in_axes=(None, 0))(state, x)
    want = [leaf for leaf in jax.tree.leaves(whole) if leaf.shape == (2, 3)]
    np.testing.assert_allclose(step(state, x)["features"], want[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("only", "says"), [("tail", "matches none"), ("(", "regular expression"), (3, "3")]
)
def test_a_bad_choice_is_named(params, only, says):
    with pytest.raises(ArgumentError, match=says):
        split_params(params, only)


def test_stores_of_different_choices_are_not_compared(params, x):
    task = Task("t", output)
    data = np.asarray(x)
    head, body, whole = (
        ng.featurize(chosen, params, data, CountSketch(4))
        for chosen in (restricted(task, "head"), restricted(task, "body"), task)
    )
    assert not np.array_equal(head, whole)
    geometry = ng.natural_geometry(head, ridge=1.0)
    assert ng.scores(geometry, head).shape == (3, 3)
    for other in (body, whole):
        with pytest.raises(DataError, match="only is"):
            ng.scores(geometry, other)
    with pytest.raises(ArgumentError, match="matches none"):
        ng.featurize(restricted(task, "tail"), params, data, CountSketch(4))
