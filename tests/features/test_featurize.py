"""Featurizing against an explicit loop, over batchings, devices, dtypes and stores."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import DataError, StoreError
from natgeo.features import tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import Identity, Rademacher, Sparse
from natgeo.store.disk import DiskStore

N, CLASSES = 23, 3
RNG = np.random.default_rng(77)
X = np.float32(RNG.normal(size=(N, 5)))
Y = RNG.integers(0, CLASSES, size=N)
PARAMS = {
    "hidden": np.float32(RNG.normal(size=(5, 7))),
    "out": {
        "bias": np.float32(RNG.normal(size=CLASSES)),
        "kernel": np.float32(RNG.normal(size=(7, CLASSES))),
    },
}


def apply(params, x):
    hidden = jnp.tanh(jnp.matmul(x, params["hidden"], precision="highest"))
    logits = jnp.matmul(hidden, params["out"]["kernel"], precision="highest")
    return logits + params["out"]["bias"][None, :]


TASK = tasks.classification(apply)


def by_hand(x=X, y=Y):
    """Backpropagation in NumPy float64: gradient [N, P] in tree order, f and 1 - p."""
    hidden, bias, kernel = (
        np.float64(leaf)
        for leaf in (PARAMS["hidden"], PARAMS["out"]["bias"], PARAMS["out"]["kernel"])
    )
    rows, outputs, weights = [], [], []
    for example, label in zip(np.float64(x), y, strict=True):
        h = np.tanh(example @ hidden)
        logits = h @ kernel + bias
        given = np.arange(CLASSES) == label
        odds = np.exp(logits - logits.max()) * ~given
        residual = given - odds / odds.sum()
        d_hidden = np.outer(example, (kernel @ residual) * (1 - h * h))
        d_kernel = np.outer(h, residual)
        rows.append(np.concatenate([d_hidden.ravel(), residual, d_kernel.ravel()]))
        probability = np.exp(logits - logits.max())
        probability /= probability.sum()
        outputs.append(np.log(probability[label] / (1 - probability[label])))
        weights.append(1 - probability[label])
    return np.array(rows), np.array(outputs), np.array(weights)


def linear_output(params, x):
    return jnp.sum(params["w"] * x)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_features_match_backpropagation_by_hand_on_any_number_of_devices(count):
    made = featurize(
        TASK, PARAMS, (X, Y), Identity(), batch_size=8, devices=jax.devices()[:count]
    )
    rows, outputs, weights = by_hand()
    np.testing.assert_allclose(np.asarray(made), rows, atol=1e-5)
    np.testing.assert_allclose(made.column("outputs"), outputs, atol=1e-5)
    np.testing.assert_allclose(made.column("weights"), weights, atol=1e-5)


def test_the_device_test_sees_gradients_that_mix_examples(monkeypatch):
    monkeypatch.setattr(jax.lax, "pcast", lambda leaf, axis, *, to: leaf)
    # A task of its own, so that the compiled step of the others is not reused.
    task = tasks.classification(apply)
    made = featurize(task, PARAMS, (X, Y), Identity(), batch_size=8)
    assert not np.allclose(np.asarray(made), by_hand()[0], atol=1e-3)


@pytest.mark.parametrize("projector", [Rademacher(16, 3), Sparse(16, 3, 2)], ids=str)
def test_features_are_projected_per_example_gradients(projector):
    params = jax.tree.map(jnp.asarray, PARAMS)
    gradient = jax.jit(jax.grad(TASK.output))
    examples = [(X[i], jnp.int32(Y[i])) for i in range(N)]
    loop = [gradient(params, example) for example in examples]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *loop)
    want = np.asarray(projector.project(stacked))

    made = featurize(TASK, PARAMS, (X, Y), projector)
    assert made.shape == (N, 16)
    atol = 1e-5 * np.abs(want).max()
    np.testing.assert_allclose(np.asarray(made), want, rtol=0, atol=atol)


def test_batching_of_the_data_changes_no_bit():
    whole = featurize(TASK, PARAMS, (X, Y), Rademacher(8), batch_size=8)
    cuts = [1, 2, 11, 20]
    lists = list(zip(np.split(X, cuts), np.split(Y, cuts), strict=True))
    for data in (lists, (batch for batch in lists), [(jnp.asarray(X), Y)]):
        made = featurize(TASK, PARAMS, data, Rademacher(8), batch_size=8)
        assert made.digest() == whole.digest()
        for name in ("outputs", "weights"):
            np.testing.assert_array_equal(made.column(name), whole.column(name))


def test_batch_size_changes_only_rounding():
    one = jax.devices()[:1]
    made = [
        np.asarray(featurize(TASK, PARAMS, (X, Y), Rademacher(8), **options))
        for options in (
            {"batch_size": 1, "devices": one},
            {"batch_size": 7, "devices": one},
            {"batch_size": 64},
        )
    ]
    norms = np.linalg.norm(made[0], axis=1, keepdims=True)
    for other in made[1:]:
        assert (np.abs(other - made[0]) <= 1e-5 * norms).all()


def test_batch_size_is_rounded_up_to_the_devices_and_recorded():
    made = featurize(
        linear_output, {"w": X[0]}, X, Identity(), batch_size=5, devices=jax.devices()
    )
    assert made.metadata["batch_size"] == 8


def test_an_example_does_not_depend_on_its_neighbours_or_on_padding():
    whole = np.asarray(featurize(TASK, PARAMS, (X, Y), Identity(), batch_size=8))
    changed = X.copy()
    changed[:-1] = 100.0
    made = np.asarray(featurize(TASK, PARAMS, (changed, Y), Identity(), batch_size=8))
    np.testing.assert_array_equal(made[-1], whole[-1])
    first = featurize(TASK, PARAMS, (X[:1], Y[:1]), Identity(), batch_size=8)
    assert first.shape[0] == 1
    np.testing.assert_array_equal(np.asarray(first)[0], whole[0])


def test_ragged_batches_and_a_second_data_set_compile_once():
    traced = []

    def output(params, x):
        traced.append(x.shape)
        return jnp.sum(params["w"] * x)

    params = {"w": X[0]}
    ragged = np.split(X, [3, 4, 17])
    featurize(output, params, ragged, Identity(), batch_size=8)
    featurize(output, params, X[:9], Identity(), batch_size=8)
    # Once by the check of the output's shape, once in the compiled step.
    assert len(traced) == 2


def test_the_compiled_step_is_traced_at_most_once():
    chex.clear_trace_counter()
    limited = chex.assert_max_traces(linear_output, n=2)  # the check and the step
    featurize(limited, {"w": X[0]}, np.split(X, [3, 4]), Identity(), batch_size=8)


def test_dict_examples_and_a_plain_function():
    def output(params, example):
        return jnp.sum(params["w"] * example["image"]) * example["scale"]

    scale = np.float32(np.arange(N))
    data = {"image": X, "scale": scale}
    made = featurize(output, {"w": X[0]}, data, Identity())
    np.testing.assert_array_equal(np.asarray(made), X * scale[:, None])
    np.testing.assert_allclose(
        made.column("outputs"), (X @ X[0]) * scale, rtol=1e-5, atol=1e-4
    )
    assert made.columns == ("outputs",)
    assert made.column("weights") is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_models_give_float32_features(dtype):
    params = {"w": jnp.asarray(X[0], dtype)}
    made = featurize(linear_output, params, jnp.asarray(X, dtype), Identity())
    assert made.dtype == np.float32
    assert made.column("outputs").dtype == np.float32
    # The gradient of w.x is x itself: nothing is rounded twice.
    want = np.asarray(jnp.asarray(X, dtype), np.float32)
    np.testing.assert_array_equal(np.asarray(made), want)


def test_float64_in_a_scope_gives_float64_features():
    with jax.enable_x64(True):
        params = {"w": np.float64(X[0])}
        made = featurize(linear_output, params, np.float64(X), Identity())
    assert made.dtype == np.float64
    np.testing.assert_array_equal(np.asarray(made), np.float64(X))


def test_metadata_says_what_changes_a_number():
    made = featurize(TASK, PARAMS, (X, Y), Rademacher(8, 5), batch_size=8)
    assert made.metadata["task"] == "classification-margin"
    assert made.metadata["projector"] == {"type": "Rademacher", "dim": 8, "seed": 5}
    assert made.metadata["versions"]["jax"] == jax.__version__
    other = jax.tree.map(lambda leaf: leaf + np.float32(1), PARAMS)
    again = featurize(TASK, other, (X, Y), Rademacher(8, 5), batch_size=8)
    assert again.metadata["params"] != made.metadata["params"]


def test_disk_and_memory_hold_the_same_bytes(tmp_path):
    arguments = (TASK, PARAMS, (X, Y), Rademacher(8))
    memory = featurize(*arguments, batch_size=8)
    disk = featurize(*arguments, batch_size=8, store=tmp_path / "train")
    assert isinstance(disk, DiskStore)
    assert np.asarray(disk).tobytes() == np.asarray(memory).tobytes()
    assert disk.digest() == memory.digest()
    assert disk.metadata == memory.metadata
    assert set(disk.columns) == set(memory.columns) == {"outputs", "weights"}
    for name in disk.columns:
        np.testing.assert_array_equal(disk.column(name), memory.column(name))
    # And a reader later, with nothing but the folder.
    assert DiskStore(tmp_path / "train").digest() == memory.digest()


def test_numpy_integers_in_a_projector_reach_a_disk_store(tmp_path):
    projector = Rademacher(np.int64(4), np.int64(2))
    made = featurize(linear_output, {"w": X[0]}, X, projector, store=tmp_path / "s")
    assert made.metadata["projector"] == {"type": "Rademacher", "dim": 4, "seed": 2}


def test_a_bad_example_leaves_a_store_that_refuses_to_open(tmp_path):
    bad = X.copy()
    bad[20, 0] = np.nan
    with pytest.raises(DataError, match="Example 20"):
        featurize(
            linear_output,
            {"w": X[0]},
            bad,
            Identity(),
            batch_size=8,
            store=tmp_path / "s",
        )
    with pytest.raises(StoreError, match=r"No store|not complete"):
        DiskStore(tmp_path / "s")


def test_nnx_and_linen_parameters_work_on_four_devices():
    import flax.linen as nn
    from flax import nnx

    linen = nn.Dense(CLASSES)
    graph, state = nnx.split(nnx.Linear(5, CLASSES, rngs=nnx.Rngs(0)))
    variables = {
        "params": {
            "kernel": state["kernel"].get_value(),
            "bias": state["bias"].get_value(),
        }
    }
    made = [
        np.asarray(featurize(tasks.classification(model), params, (X, Y), Identity()))
        for model, params in (
            (linen.apply, variables),
            (lambda params, x: nnx.merge(graph, params)(x), state),
        )
    ]
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)
    assert made[0].shape == (N, 6 * CLASSES)
