"""Per-example gradients: checks before, identity of parameters, and who is to blame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.features import gradients, tasks
from natgeo.features.projectors import Identity


def quadratic(params, example):
    """f = w.x + (w.x)^2 / 2 + c, so df/dw = (1 + w.x) x and df/dc = 1."""
    s = jnp.sum(params["w"] * example)
    return s + s * s / 2 + params["c"]


PARAMS = {"c": np.float32(0.25), "w": np.float32([1.0, -2.0, 0.5])}
X = np.float32([[1, 2, 3], [0, 0, 0], [-1, 0.5, 4]])


def test_step_gives_hand_gradients_and_outputs():
    step = gradients.feature_step(tasks.as_task(quadratic), Identity())
    made = jax.jit(step)(jax.tree.map(jnp.asarray, PARAMS), X)
    s = np.float64(X) @ np.float64(PARAMS["w"])
    hand = np.column_stack([np.ones(3), (1 + s)[:, None] * X])
    assert set(made) == {"features", "outputs"}
    np.testing.assert_allclose(made["features"], hand, rtol=1e-6)
    np.testing.assert_allclose(made["outputs"], s + s * s / 2 + 0.25, rtol=1e-6)


def test_step_gives_the_weight_of_the_task():
    task = tasks.Task("t", quadratic, weight=lambda f, example: 2 * f + example[0])
    made = gradients.feature_step(task, Identity())(
        jax.tree.map(jnp.asarray, PARAMS), X
    )
    np.testing.assert_allclose(
        made["weights"], 2 * made["outputs"] + X[:, 0], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_narrow_parameters_give_float32_features(dtype):
    params = {name: jnp.asarray(leaf, dtype) for name, leaf in PARAMS.items()}
    made = gradients.feature_step(tasks.as_task(quadratic), Identity())(
        params, jnp.asarray(X, dtype)
    )
    assert {array.dtype.name for array in made.values()} == {"float32"}


def test_float64_parameters_give_float64_features_in_a_scope():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.float64(leaf), PARAMS)
        gradients.check_params(params)
        made = gradients.feature_step(tasks.as_task(quadratic), Identity())(
            params, np.float64(X)
        )
        dtypes = {array.dtype.name for array in made.values()}
    assert dtypes == {"float64"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_unsound_parameters_are_named_by_path(value):
    params = {"layers": [{"w": np.ones(3, np.float32)}, {"w": np.float32([1, value])}]}
    with pytest.raises(DataError, match=r"params\['layers'\]\[1\]\['w'\] holds NaN"):
        gradients.check_params(params)


def test_unsound_bfloat16_parameters_are_found():
    params = {"w": jnp.asarray([1.0, jnp.nan], jnp.bfloat16)}
    with pytest.raises(DataError, match=r"params\['w'\]"):
        gradients.check_params(params)


@pytest.mark.parametrize(
    "leaf",
    [np.int32(3), np.array([True]), np.complex64(1), "abc", jax.random.key(0)],
    ids=["int", "bool", "complex", "string", "key"],
)
def test_leaves_without_a_gradient_are_refused(leaf):
    with pytest.raises(ArgumentError, match=r"params\['step'\].*no gradient"):
        gradients.check_params({"step": leaf, "w": np.float32(1)})


def test_float64_parameters_without_x64_are_refused_not_rounded():
    with (
        jax.enable_x64(False),
        pytest.raises(ArgumentError, match=r"params\['w'\] is float64.*x64"),
    ):
        gradients.check_params({"w": np.ones(2)})


@pytest.mark.parametrize("params", [{}, [], None, {"a": {}}])
def test_empty_parameters_are_refused(params):
    with pytest.raises(ArgumentError, match="holds no arrays"):
        gradients.check_params(params)


def test_blame_names_the_parameter_whose_gradient_is_not_finite():
    def root(params, example):
        return params["fine"] * example + jnp.sqrt(params["root"] - example)

    params = {"fine": jnp.float32(1), "root": jnp.float32(4)}
    task = tasks.as_task(root)
    # At the root sqrt is 0 but its slope is infinite: the output alone looks sound.
    assert np.isfinite(task.output(params, jnp.float32(4)))
    assert gradients.blame(task, params, jnp.float32(4)).endswith("params['root']")


def test_blame_falls_back_to_the_output_and_then_to_the_weight():
    def nan(params, example):
        return jnp.where(example > 0, jnp.nan, params * 1.0)

    params = jnp.float32(1)
    assert gradients.blame(tasks.as_task(nan), params, jnp.float32(1)) == "the output"
    assert "weight" in gradients.blame(tasks.as_task(nan), params, jnp.float32(-1))


def test_params_digest_sees_path_dtype_shape_and_every_byte():
    base = {"a": np.zeros((2, 3), np.float32)}
    one_ulp = np.zeros((2, 3), np.float32)
    one_ulp[1, 2] = np.nextafter(np.float32(0), np.float32(1))
    variants = [
        base,
        {"b": base["a"]},
        {"a": base["a"].reshape(3, 2)},
        {"a": np.zeros((2, 3), np.int32)},
        {"a": one_ulp},
        {"a": base["a"], "b": base["a"]},
    ]
    assert len({gradients.params_digest(params) for params in variants}) == 6
    again = {"a": jnp.zeros((2, 3), jnp.float32)}
    assert gradients.params_digest(again) == gradients.params_digest(base)


def test_params_digest_ignores_memory_layout():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = np.asfortranarray(array)
    assert gradients.params_digest([array]) == gradients.params_digest([turned])
