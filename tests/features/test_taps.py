"""Uses found in traced programs: their factors give the ordinary gradients."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from natgeo.features import taps
from natgeo.features.countsketch import CountSketch
from natgeo.features.gradients import feature_step
from natgeo.features.tasks import Task


def weights(**shapes):
    rng = np.random.default_rng(7)
    return {
        name: jnp.asarray(rng.standard_normal(shape) / 2, jnp.float32)
        for name, shape in shapes.items()
    }


@jax.jit
def layer(w, x):
    return jnp.tanh(x @ w)


def mlp(params, x):
    return jnp.sum(jnp.tanh(x @ params["a"] + params["b"]) @ params["c"])


def left(params, x):
    return jnp.sum(params["c"].T @ jnp.tanh(params["a"].T @ x))


def torch_style(params, x):
    return jnp.sum(jnp.tanh(x @ params["a"].T) ** 2)


def tied(params, x):
    return jnp.sum(jnp.tanh(x @ params["a"]) @ params["a"].T)


def called_twice(params, x):
    return jnp.sum(layer(params["c"], layer(params["a"], x)))


def sequence(params, x):
    y = jnp.reshape(x, (2, 3)) @ params["d"]
    return jnp.sum(jax.nn.softmax(y @ y.T) @ y)


def attention(params, x):
    y = jnp.einsum("td,dhk->thk", jnp.reshape(x, (2, 3)), params["e"])
    return jnp.sum(jnp.tanh(jnp.einsum("thk,hko->to", y, params["f"])))


def also_elsewhere(params, x):
    return mlp(params, x) + jnp.sum(params["a"] ** 2)


def scanned(params, x):
    def body(carry, w):
        return jnp.tanh(carry @ w), None

    return jnp.sum(jax.lax.scan(body, x, params["s"])[0])


def rematerialised(params, x):
    return jnp.sum(jax.checkpoint(lambda a, x: jnp.tanh(x @ a))(params["a"], x))


def batched_product(params, x):
    return jnp.sum(jnp.einsum("bi,bij->bj", jnp.reshape(x, (2, 3)), params["g"]) ** 2)


def untouched(params, x):
    return jnp.sum(x @ params["a"]) + 0 * jnp.sum(params["b"])


SHAPES = {
    "a": (6, 5),
    "b": (5,),
    "c": (5, 4),
    "d": (3, 4),
    "e": (3, 2, 4),
    "f": (2, 4, 3),
    "g": (2, 3, 4),
    "s": (3, 6, 6),
}
# name: (function, parameters, which of them are handed out as factors)
CASES = {
    "mlp": (mlp, "abc", "ac"),
    "parameter on the left": (left, "ac", "ac"),
    "transposed weights": (torch_style, "z", ""),
    "tied weights": (tied, "a", "a"),
    "one jitted layer called twice": (called_twice, "ac", "ac"),
    "several positions": (sequence, "d", "d"),
    "attention": (attention, "ef", "f"),
    "also used elsewhere": (also_elsewhere, "abc", "c"),
    "inside a scan": (scanned, "s", ""),
    "inside a checkpoint": (rematerialised, "a", ""),
    "batched with the parameter": (batched_product, "g", ""),
    "an unused parameter": (untouched, "ab", "a"),
}


def case(name):
    function, names, tapped = CASES[name]
    if name == "transposed weights":
        return function, weights(a=(5, 6)), {"a"}
    return function, weights(**{n: SHAPES[n] for n in names}), set(tapped)


@pytest.mark.parametrize("name", CASES)
def test_factors_and_formed_gradients_make_up_the_gradient(rng, name):
    function, params, expected = case(name)
    x = jnp.asarray(rng.standard_normal(6), jnp.float32)
    want = jax.grad(function)(params, x)
    found = taps.find_uses(function, params, x)
    value, formed, factors, _ = found.gradients(params, x)
    names = sorted(params)
    got = {names[i]: np.float64(gradient) for i, gradient in formed.items()}
    handed_out = set()
    for order, product in found.uses.items():
        key = names[product.leaf]
        a, g = (np.float64(factor) for factor in factors[order])
        matrix = g.T @ a if product.by_column else a.T @ g
        got[key] = got.get(key, 0) + matrix.reshape(params[key].shape)
        handed_out.add(key)
    np.testing.assert_allclose(value, function(params, x), rtol=1e-6)
    assert set(got) == set(params)
    for key in params:
        np.testing.assert_allclose(got[key], want[key], rtol=1e-5, atol=1e-6)
    assert handed_out == expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dim", [4, pytest.param(64, marks=pytest.mark.slow)])
def test_both_routes_give_the_same_features(rng, name, dim):
    function, params, _ = case(name)
    x = jnp.asarray(rng.standard_normal((3, 6)), jnp.float32)
    task = Task(name, function)
    made = [
        jax.jit(feature_step(task, CountSketch(dim, seed=2), form=form))(params, x)
        for form in (False, True)
    ]
    scale = np.abs(made[1]["features"]).max()
    for name in ("features", "outputs"):
        np.testing.assert_allclose(
            made[0][name], made[1][name], rtol=1e-5, atol=1e-6 * scale
        )


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3))(x))
        x = nn.GroupNorm(num_groups=1)(x)
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


def test_flax_linen_layers_are_tapped(rng):
    model = Convolutional()
    x = jnp.asarray(rng.standard_normal((2, 5, 5, 2)), jnp.float32)
    params = model.init(jax.random.key(0), x)["params"]

    def output(params, x):
        return jnp.sum(model.apply({"params": params}, x[None]) ** 2)

    found = taps.find_uses(output, params, x[0])
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(params)]
    tapped = {paths[i] for i in found.leaves}
    assert tapped == {"['Conv_0']['kernel']", "['Dense_0']['kernel']"}
    task = Task("conv", output)
    one, two = (
        jax.jit(feature_step(task, CountSketch(32), form=form))(params, x)["features"]
        for form in (False, True)
    )
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * np.abs(two).max())


def test_flax_nnx_is_tapped(rng):
    graph, params = nnx.split(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    x = jnp.asarray(rng.standard_normal(4), jnp.float32)

    def output(params, x):
        return jnp.sum(nnx.merge(graph, params)(x[None]))

    found = taps.find_uses(output, params, x)
    assert len(found.leaves) == 1
    _, _, factors, _ = found.gradients(params, x)
    ((a, g),) = factors.values()
    want = jax.tree.leaves(jax.grad(output)(params, x))
    np.testing.assert_allclose(a.T @ g, want[next(iter(found.leaves))], rtol=1e-6)
