"""Outputs and weights of every task against the formulas, in NumPy float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from natgeo.errors import ArgumentError, DataError
from natgeo.features import tasks

CLASSES = 4
LOGITS = {
    "ordinary": [0.3, -1.2, 2.0, 0.7],
    "tie": [1.0, 1.0, 1.0, 1.0],
    "certain": [1e4, -1e4, 0.0, 50.0],
    "wrong": [-1e4, 1e4, 1e4, 0.0],
    "all huge": [1e4, 1e4, 1e4, 1e4],
    "all tiny": [-1e4, -1e4, -1e4, -1e4],
}


def logsumexp(values):
    values = np.float64(values)
    top = values.max()
    return top + np.log(np.exp(values - top).sum())


def softmax(values):
    return np.exp(np.float64(values) - logsumexp(values))


def others_softmax(logits, label):
    """Gradient of the margin, negated, off the label: softmax over the other labels."""
    others = np.arange(len(logits)) != label
    out = np.zeros(len(logits))
    out[others] = softmax(np.float64(logits)[others])
    return out


def table(params, x):
    """A model whose logits are its parameters."""
    return x[:, :1] * params["logits"][None, :]


def evaluate(task, logits):
    """Output, gradient and weight for every label as the given one."""
    params = {"logits": jnp.asarray(logits, jnp.float32)}

    def one(label):
        example = (jnp.ones(1, jnp.float32), label)
        value, gradient = jax.value_and_grad(task.output)(params, example)
        weight = value if task.weight is None else task.weight(value, example)
        return value, gradient["logits"], weight

    labels = jnp.arange(len(logits), dtype=jnp.int32)
    return [np.asarray(made) for made in jax.vmap(one)(labels)]


def rounding(logits):
    """Float32 cannot place a logsumexp closer than the ulp of the largest logit."""
    return 4 * np.finfo(np.float32).eps * (1 + np.abs(logits).max())


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_margin_is_log_odds_with_weight_one_minus_p(logits):
    values, gradients, weights = evaluate(tasks.classification(table), logits)
    for label in range(CLASSES):
        want = logits[label] - logsumexp(np.delete(np.float64(logits), label))
        hand = (np.arange(CLASSES) == label) - others_softmax(logits, label)
        # r = 1 - p_y: the probability of all other labels.
        one_minus_p = np.delete(softmax(logits), label).sum()
        error = rounding(logits)
        np.testing.assert_allclose(values[label], want, rtol=0, atol=error)
        np.testing.assert_allclose(gradients[label], hand, atol=1e-6)
        np.testing.assert_allclose(weights[label], one_minus_p, rtol=error, atol=1e-30)


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_loss_is_cross_entropy_without_a_weight(logits):
    task = tasks.classification(table, output="loss")
    assert task.weight is None
    values, gradients, _ = evaluate(task, logits)
    for label in range(CLASSES):
        want = logsumexp(logits) - logits[label]
        hand = softmax(logits) - (np.arange(CLASSES) == label)
        np.testing.assert_allclose(values[label], want, rtol=0, atol=rounding(logits))
        np.testing.assert_allclose(gradients[label], hand, atol=1e-6)


def test_margin_of_two_classes_is_the_difference_of_logits():
    values, gradients, _ = evaluate(tasks.classification(table), [3.0, -2.5])
    assert values.tolist() == [5.5, -5.5]
    assert gradients.tolist() == [[1.0, -1.0], [-1.0, 1.0]]


@pytest.mark.parametrize("prediction", [0.0, 1.5, -1e4])
@pytest.mark.parametrize("trailing", [(), (1,)], ids=["[B]", "[B, 1]"])
def test_regression_is_the_prediction_with_weight_residual(prediction, trailing):
    def apply(params, x):
        return jnp.reshape(x @ params["w"], (len(x), *trailing))

    task = tasks.regression(apply)
    params = {"w": jnp.asarray([prediction, 2.0], jnp.float32)}
    example = (jnp.float32([1.0, 0.5]), jnp.float32(3.25))
    value, gradient = jax.value_and_grad(task.output)(params, example)
    want = prediction + 1.0

    assert value.shape == ()
    np.testing.assert_allclose(value, want, rtol=1e-7)
    np.testing.assert_array_equal(gradient["w"], [1.0, 0.5])
    np.testing.assert_allclose(task.weight(value, example), 3.25 - want, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_labels_of_any_whole_number_type_give_the_same_margin(dtype):
    task = tasks.classification(table)
    params = {"logits": jnp.asarray(LOGITS["ordinary"], jnp.float32)}
    example = (np.ones(1, np.float32), dtype(2))
    want = 2.0 - logsumexp([0.3, -1.2, 0.7])
    np.testing.assert_allclose(task.output(params, example), want, rtol=1e-6)


def linen_model():
    model = nn.Dense(CLASSES)
    params = model.init(jax.random.key(0), jnp.zeros((1, 3), jnp.float32))

    def read(p):
        return (p["params"]["kernel"], p["params"]["bias"])

    return model.apply, params, read


def nnx_model():
    graph, params = nnx.split(nnx.Linear(3, CLASSES, rngs=nnx.Rngs(0)))

    def read(p):
        return (p["kernel"].get_value(), p["bias"].get_value())

    return lambda params, x: nnx.merge(graph, params)(x), params, read


def plain_model():
    rng = np.random.default_rng(3)
    params = {
        "kernel": jnp.asarray(rng.normal(size=(3, CLASSES)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=CLASSES), jnp.float32),
    }

    def apply(params, x):
        return x @ params["kernel"] + params["bias"][None, :]

    return apply, params, lambda p: (p["kernel"], p["bias"])


# linen's Dense broadcasts its bias as [1, classes]; rank promotion stays an error.
MODELS = {"linen": linen_model, "nnx": nnx_model, "plain": plain_model}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("output", ["margin", "loss"])
def test_gradients_of_every_kind_of_model_match_the_hand_formula(make, output):
    apply, params, read = make()
    task = tasks.classification(apply, output=output)
    x, label = np.float32([0.5, -1.0, 2.0]), 1
    got_kernel, got_bias = read(jax.grad(task.output)(params, (x, jnp.int32(label))))

    kernel, bias = (np.asarray(part, np.float64) for part in read(params))
    logits = x @ kernel + bias
    given = np.arange(CLASSES) == label
    residual = (
        given - others_softmax(logits, label)
        if output == "margin"
        else softmax(logits) - given
    )
    np.testing.assert_allclose(got_bias, residual, atol=1e-6)
    np.testing.assert_allclose(got_kernel, np.outer(x, residual), atol=3e-6)


def test_gradient_of_a_deep_model_matches_finite_differences_in_float64():
    rng = np.random.default_rng(0)
    shapes = [("a", (3, 5)), ("b", (5,)), ("c", (5, CLASSES))]
    flat = rng.normal(size=sum(int(np.prod(shape)) for _, shape in shapes))

    def tree(vector):
        parts, start = {}, 0
        for name, shape in shapes:
            size = int(np.prod(shape))
            parts[name] = vector[start : start + size].reshape(shape)
            start += size
        return parts

    def apply(params, x):
        return jnp.tanh(x @ params["a"] + params["b"][None, :]) @ params["c"]

    task = tasks.classification(apply)
    example = (rng.normal(size=3), np.int64(2))
    step = 1e-6
    with jax.enable_x64(True):
        gradient = jax.grad(lambda v: task.output(tree(v), example))(jnp.asarray(flat))
        evaluate = jax.jit(lambda v: task.output(tree(v), example))
        differences = [
            (evaluate(flat + step * axis) - evaluate(flat - step * axis)) / (2 * step)
            for axis in np.eye(len(flat))
        ]
        gradient, differences = np.asarray(gradient), np.asarray(differences)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, differences, atol=1e-8)


def test_a_plain_function_of_a_dict_example_is_a_task():
    def output(params, example):
        return params["w"] * example["a"] + example["b"]["c"]

    task = tasks.as_task(output)
    example = {"a": jnp.float32(3), "b": {"c": jnp.float32(4)}}
    assert float(task.output({"w": jnp.float32(2)}, example)) == 10
    assert task.weight is None
    assert "output" in task.name
    assert tasks.as_task(task) is task


@pytest.mark.parametrize("output", ["logits", "", None])
def test_an_unknown_output_is_refused(output):
    with pytest.raises(ArgumentError, match=r"expected 'margin' or 'loss'"):
        tasks.classification(table, output=output)


def test_what_is_attributed_is_part_of_the_name():
    margin = tasks.classification(table)
    loss = tasks.classification(table, output="loss")
    assert len({margin.name, loss.name, tasks.regression(table).name}) == 3


def softplus_of_minus(margin, example):
    del example
    return jax.nn.softplus(-margin)


def half_square(prediction, example):
    return jnp.square(example[1] - prediction) / 2


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_the_weight_from_the_loss_of_a_margin_is_one_minus_p(logits):
    closed = tasks.classification(table)
    derived = tasks.from_loss(closed.output, softplus_of_minus)
    for want, got in zip(
        evaluate(closed, logits), evaluate(derived, logits), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-30)


def test_the_weight_from_half_the_squared_error_is_the_residual():
    closed = tasks.regression(lambda params, x: x @ params["w"])
    derived = tasks.from_loss(closed.output, half_square)
    params = {"w": jnp.asarray([1.5, 2.0], jnp.float32)}
    example = (jnp.float32([1.0, 0.5]), jnp.float32(3.25))
    f = derived.output(params, example)
    assert float(f) == 2.5
    assert float(derived.weight(f, example)) == 0.75
    assert float(closed.weight(f, example)) == 0.75


def test_the_weight_from_a_loss_matches_differences_in_float64():
    """A loss without a closed form: Huber with a width that the example brings."""

    def loss(f, example):
        z = (f - example["y"]) / example["width"]
        return jnp.sqrt(1 + z * z)

    task = tasks.from_loss(lambda params, example: params["w"], loss)
    example, step = {"y": 0.3, "width": 2.0}, 1e-6
    with jax.enable_x64(True):
        got = float(task.weight(jnp.float64(1.7), example))
        differences = (loss(1.7 - step, example) - loss(1.7 + step, example)) / 2 / step
    assert abs(got - float(differences)) < 1e-9


def test_from_loss_is_named_after_both_functions():
    task = tasks.from_loss(tasks.regression(table).output, half_square)
    assert task.name.endswith(" with half_square")
    assert tasks.from_loss(half_square, half_square, name="mine").name == "mine"
    for output, loss in ((1.0, half_square), (tasks.regression(table), half_square)):
        with pytest.raises(ArgumentError, match=r"output=.* is not a function"):
            tasks.from_loss(output, loss)
    with pytest.raises(ArgumentError, match=r"loss=None is not a function"):
        tasks.from_loss(half_square, None)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_similarity_and_its_gradient_match_the_hand_formula(similarity):
    rng = np.random.default_rng(4)
    w, one, two = rng.normal(size=(3, 4)), *rng.normal(size=(2, 3))
    task = tasks.contrastive(lambda p, x: x @ p["w"], similarity=similarity)
    example = (jnp.asarray(one, jnp.float32), jnp.asarray(two, jnp.float32))
    params = {"w": jnp.asarray(w, jnp.float32)}
    value, gradient = jax.value_and_grad(task.output)(params, example)

    a, b = one @ w, two @ w
    na, nb = (np.linalg.norm(e) if similarity == "cosine" else 1.0 for e in (a, b))
    f = a @ b / (na * nb)
    shrink = f if similarity == "cosine" else 0.0
    slope_a = b / (na * nb) - shrink * a / na**2  # df/da
    slope_b = a / (na * nb) - shrink * b / nb**2
    assert task.weight is None
    np.testing.assert_allclose(value, f, rtol=1e-5)
    hand = np.outer(one, slope_a) + np.outer(two, slope_b)
    np.testing.assert_allclose(gradient["w"], hand, atol=1e-5)


def test_contrastive_refuses_what_it_cannot_compare():
    with pytest.raises(ArgumentError, match=r"similarity='l2': expected 'cosine'"):
        tasks.contrastive(table, similarity="l2")
    params = {"w": jnp.ones((3, 4), jnp.float32)}
    x = np.ones((2, 3), np.float32)
    task = tasks.contrastive(lambda p, x: x @ p["w"])
    task.validator(params, (x, x))((x, x), 0)
    with pytest.raises(DataError, match=r"must be a pair"):
        task.validator(params, x)
    deep = (x, x[:, None])
    with pytest.raises(DataError, match=r"\(1, 4\) and \(1, 1, 4\): .* \[1, D\]"):
        task.validator(params, deep)
