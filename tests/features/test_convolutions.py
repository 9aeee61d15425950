"""Convolutions and lookups found in traced programs, against ordinary gradients."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.features import gradients, taps
from natgeo.features.gradients import feature_step
from natgeo.features.projectors import CountSketch, Kronecker
from natgeo.features.tasks import Task

# name: (input, kernel, layout, options of the convolution)
IMAGE = ("NHWC", "HWIO", "NHWC")
CONVOLUTIONS = {
    "same": ((1, 6, 5, 2), (3, 3, 2, 4), IMAGE, {"padding": "SAME"}),
    "valid": ((1, 6, 5, 2), (2, 3, 2, 4), IMAGE, {"padding": "VALID"}),
    "strides": (
        (1, 7, 8, 2),
        (3, 2, 2, 3),
        IMAGE,
        {"padding": "SAME", "window_strides": (2, 3)},
    ),
    "uneven and negative padding": (
        (1, 6, 6, 2),
        (3, 3, 2, 3),
        IMAGE,
        {"padding": [(2, 0), (-1, 3)]},
    ),
    "dilated kernel": (
        (1, 8, 8, 2),
        (3, 2, 2, 3),
        IMAGE,
        {"padding": "SAME", "rhs_dilation": (2, 3)},
    ),
    "dilated input": (
        (1, 4, 5, 2),
        (3, 3, 2, 3),
        IMAGE,
        {"padding": [(1, 2), (2, 1)], "lhs_dilation": (2, 3)},
    ),
    "one pixel": ((1, 4, 4, 3), (1, 1, 3, 2), IMAGE, {"padding": "VALID"}),
    "the whole image": ((1, 4, 4, 3), (4, 4, 3, 2), IMAGE, {"padding": "VALID"}),
    "channels first": (
        (1, 2, 6, 5),
        (4, 2, 3, 3),
        ("NCHW", "OIHW", "NCHW"),
        {"padding": "SAME"},
    ),
    "a sequence": (
        (1, 9, 2),
        (3, 2, 4),
        ("NHC", "HIO", "NHC"),
        {"padding": "SAME", "window_strides": (2,)},
    ),
    "a volume": (
        (1, 4, 3, 5, 2),
        (2, 2, 3, 2, 3),
        ("NDHWC", "DHWIO", "NDHWC"),
        {"padding": "SAME"},
    ),
    "a batch within an example": (
        (3, 4, 4, 2),
        (3, 3, 2, 2),
        IMAGE,
        {"padding": "SAME"},
    ),
}


def convolution(name):
    shape, kernel, layout, options = CONVOLUTIONS[name]
    strides = options.get("window_strides", (1,) * (len(shape) - 2))
    more = {k: v for k, v in options.items() if k != "window_strides"}

    def output(params, x):
        y = jax.lax.conv_general_dilated(
            jnp.sin(x), params["k"], strides, dimension_numbers=layout, **more
        )
        return jnp.sum(jnp.tanh(y) ** 2)

    return output, shape, kernel


def weights(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) / 2, jnp.float32)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_kernels_are_the_ordinary_ones(rng, name):
    output, shape, kernel = convolution(name)
    params, x = {"k": weights(rng, *kernel)}, weights(rng, *shape)
    found = taps.find_uses(output, params, x)
    assert found.leaves == {0}
    value, formed, factors, _ = found.gradients(params, x)
    ((gradient,),) = factors.values()
    assert not formed
    want = jax.grad(output)(params, x)["k"]
    assert gradient.shape == kernel
    np.testing.assert_allclose(value, output(params, x), rtol=1e-6)
    np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-5)


def test_a_kernel_used_twice_has_the_sum_of_both(rng):
    def output(params, x):
        y = x
        for _ in range(2):
            y = jnp.tanh(
                jax.lax.conv_general_dilated(
                    y, params["k"], (1, 1), "SAME", dimension_numbers=IMAGE
                )
            )
        return jnp.sum(y)

    params, x = {"k": weights(rng, 3, 3, 2, 2)}, weights(rng, 2, 1, 5, 5, 2)
    both_routes_agree(output, params, x)


@pytest.mark.parametrize("groups", ["feature_group_count", "batch_group_count"])
def test_grouped_convolutions_keep_their_ordinary_gradient(rng, groups):
    shape = (1, 5, 5, 4) if groups == "feature_group_count" else (2, 5, 5, 2)

    def output(params, x):
        y = jax.lax.conv_general_dilated(
            x, params["k"], (1, 1), "SAME", dimension_numbers=IMAGE, **{groups: 2}
        )
        return jnp.sum(y**2)

    params = {"k": weights(rng, 3, 3, 2, 4)}
    x = weights(rng, 3, *shape)
    assert not taps.find_uses(output, params, x[0]).leaves
    both_routes_agree(output, params, x)


def test_an_image_as_the_kernel_is_left_alone(rng):
    """A convolution whose *input* is the parameter."""

    def output(params, x):
        y = jax.lax.conv_general_dilated(
            params["k"], x, (1, 1), "SAME", dimension_numbers=IMAGE
        )
        return jnp.sum(y**2)

    params, x = {"k": weights(rng, 1, 5, 5, 2)}, weights(rng, 3, 3, 3, 2, 2)
    assert not taps.find_uses(output, params, x[0]).leaves
    both_routes_agree(output, params, x)


def both_routes_agree(output, params, x, kinds=(CountSketch,), tolerance=1e-5):
    task = Task("a test", output)
    # Few coordinates and many: additions and convolutions. Kronecker has one way.
    for kind, dim in [(CountSketch, 5), *((kind, 64) for kind in kinds)]:
        one, two = (
            np.asarray(
                jax.jit(feature_step(task, kind(dim, seed=4), form=form))(params, x)[
                    "features"
                ]
            )
            for form in (False, True)
        )
        assert np.abs(two).max() > 0
        np.testing.assert_allclose(one, two, atol=tolerance * np.abs(two).max())


TOKENS = jnp.array([[3, 0, 3, 3], [1, 2, 6, 0], [5, 5, 5, 5]], jnp.int32)


def embedded(take):
    def output(params, tokens):
        return jnp.sum(jnp.tanh(take(params["e"], tokens)) ** 2)

    return output


# Narrower and wider than the seven rows: the sketch runs along the longer side.
@pytest.mark.parametrize("width", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "take",
    [
        lambda e, t: jnp.take(e, t, axis=0),
        lambda e, t: e[t],
        lambda e, t: e[t.reshape(2, 2)],
        lambda e, t: e[-1 - t],
        lambda e, t: jnp.take(e, t, axis=0, mode="clip"),
        lambda e, t: jnp.take(e, t + 3, axis=0, mode="clip"),
        lambda e, t: e.at[t + 3].get(mode="fill", fill_value=0),
        lambda e, t: e.at[t].get(mode="promise_in_bounds"),
    ],
    ids=[
        "take",
        "index",
        "square",
        "negative",
        "clip",
        "clipped",
        "dropped",
        "promised",
    ],
)
def test_lookups_have_the_gradients_of_the_whole_matrix(rng, take, width):
    params = {"e": weights(rng, 7, width)}
    output = embedded(take)
    found = taps.find_uses(output, params, TOKENS[0])
    assert found.leaves == {0}
    assert all(isinstance(use, taps.Lookup) for use in found.uses.values())
    both_routes_agree(output, params, TOKENS, (CountSketch, Kronecker))


def test_columns_and_parts_of_rows_are_not_lookups(rng):
    params = {"e": weights(rng, 7, 5)}
    for take in (
        lambda e, t: jnp.take(e, t % 5, axis=1),
        lambda e, t: e[t, t % 5],
        lambda e, t: e[t[0]],
        lambda e, t: jax.lax.dynamic_slice(e, (t[0], jnp.int32(0)), (2, 5)),
        lambda e, t: jnp.take(e.T, t % 5, axis=0),
    ):
        output = embedded(take)
        assert not taps.find_uses(output, params, TOKENS[0]).leaves
        both_routes_agree(output, params, TOKENS)


def test_tied_embeddings_are_tapped_on_both_sides(rng):
    def output(params, tokens):
        hidden = jnp.tanh(params["e"][tokens] @ params["w"])
        return jnp.sum(jax.nn.log_softmax(hidden @ params["e"].T)[:, 1])

    params = {"e": weights(rng, 7, 4), "w": weights(rng, 4, 4)}
    found = taps.find_uses(output, params, TOKENS[0])
    assert found.leaves == {0, 1}
    assert len(found.uses) == 3
    both_routes_agree(output, params, TOKENS, (CountSketch, Kronecker))


def test_flax_attention_is_tapped(rng):
    class Attention(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(7, 8)(tokens)
            return nn.MultiHeadDotProductAttention(num_heads=2)(x)

    model = Attention()
    params = model.init(jax.random.key(0), TOKENS)["params"]

    def output(params, tokens):
        return jnp.sum(model.apply({"params": params}, tokens[None]) ** 2)

    found = taps.find_uses(output, params, TOKENS[0])
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(params)]
    tapped = {paths[leaf] for leaf in found.leaves}
    assert tapped == {path for path in paths if "bias" not in path}
    both_routes_agree(output, params, TOKENS)


def test_parameters_cast_to_half_precision_are_tapped(rng):
    def output(params, x):
        hidden = x.astype(jnp.bfloat16) @ params["w"].astype(jnp.bfloat16)
        return jnp.sum(hidden.astype(jnp.float32) ** 2)

    params, x = {"w": weights(rng, 6, 4)}, weights(rng, 3, 6)
    assert taps.find_uses(output, params, x[0]).leaves == {0}
    both_routes_agree(output, params, x, tolerance=2e-2)


def test_parameters_cast_to_integers_are_not(rng):
    def output(params, x):
        steps = params["w"].astype(jnp.int32).astype(jnp.float32)
        return jnp.sum(x @ steps) + jnp.sum(params["w"] ** 2)

    params, x = {"w": weights(rng, 6, 4)}, weights(rng, 3, 6)
    assert not taps.find_uses(output, params, x[0]).leaves
    both_routes_agree(output, params, x)


def test_the_route_can_be_chosen(rng, monkeypatch):
    """With `form` no structure is looked for, and the record says so."""
    output, shape, kernel = convolution("same")
    task = Task("same", output)
    params, data = {"k": weights(rng, *kernel)}, weights(rng, 5, *shape)
    usual = ng.featurize(task, params, data, CountSketch(16))
    monkeypatch.setattr(gradients, "find_uses", None)  # fails if it is called
    formed = ng.featurize(task, params, data, CountSketch(16), form=True)
    scale = np.abs(np.asarray(usual)).max()
    np.testing.assert_allclose(np.asarray(formed), usual, atol=1e-5 * scale)
    assert formed.metadata["form"] is True
    assert "form" not in usual.metadata
