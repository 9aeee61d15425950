"""Language models: outputs and weights by hand, refusals, and a small transformer."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError, DataError
from natgeo.features import tasks
from natgeo.features.countsketch import CountSketch
from natgeo.features.gradients import feature_step
from natgeo.features.projectors import Identity
from natgeo.features.taps import find_uses

VOCABULARY = 7
LENGTH = 5
TOKENS = np.int32([3, 1, 4, 1, 5])
MASKS = {
    "all": [1, 1, 1, 1, 1],
    "the first is never predicted": [0, 1, 1, 1, 1],
    "right padding": [1, 1, 1, 0, 0],
    "prompt": [0, 0, 1, 1, 1],
    "one token": [0, 0, 0, 0, 1],
}


def bigram(params, tokens):
    """A model whose logits after token v are row v of its table."""
    return params["table"][tokens]


def table(seed=0, scale=2.0):
    draws = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))
    return {"table": jnp.asarray(scale * draws, jnp.float32)}


def by_hand(params, tokens, chosen, output):
    """f and its gradient in the table, one token at a time, float64."""
    logits = np.asarray(params["table"], np.float64)
    value, gradient = 0.0, np.zeros_like(logits)
    for t in chosen:
        before, token = tokens[t - 1], tokens[t]
        p = np.exp(logits[before]) / np.exp(logits[before]).sum()
        given = np.arange(VOCABULARY) == token
        if output == "margin":
            value += np.log(p[token] / (1 - p[token]))
            gradient[before] += given - np.where(given, 0, p) / (1 - p[token])
        else:
            value -= np.log(p[token])
            gradient[before] += p - given
    return value, gradient


def evaluate(task, params, second):
    """f, its gradient in the table, and r of TOKENS beside every entry of `second`."""

    def one(params, example):
        value, gradient = jax.value_and_grad(task.output)(params, example)
        weight = value if task.weight is None else task.weight(value, example)
        return value, gradient["table"], weight

    examples = np.tile(TOKENS, (len(second), 1)), np.asarray(second)
    return jax.jit(jax.vmap(one, in_axes=(None, 0)))(params, examples)


@pytest.mark.parametrize("output", ["margin", "loss"])
def test_a_sequence_sums_its_predicted_tokens(output):
    params, task = table(), tasks.language_model(bigram, output=output)
    made = evaluate(task, params, list(MASKS.values()))
    assert (task.weight is None) == (output == "loss")
    for mask, value, gradient, weight in zip(MASKS.values(), *made, strict=True):
        chosen = [t for t in range(1, LENGTH) if mask[t]]
        want, hand = by_hand(params, TOKENS, chosen, output)
        np.testing.assert_allclose(value, want, rtol=1e-5)
        np.testing.assert_allclose(gradient, hand, atol=1e-5)
        if output == "margin":
            r = 1 / (1 + np.exp(want / len(chosen)))
            np.testing.assert_allclose(weight, r, rtol=1e-5)


@pytest.mark.parametrize("output", ["margin", "loss"])
def test_one_token_by_its_position(output):
    params, task = table(), tasks.language_model(bigram, output=output, per_token=True)
    positions = np.arange(1, LENGTH, dtype=np.uint8)
    made = evaluate(task, params, positions)
    for position, value, gradient, weight in zip(positions, *made, strict=True):
        want, hand = by_hand(params, TOKENS, [position], output)
        np.testing.assert_allclose(value, want, rtol=1e-5)
        np.testing.assert_allclose(gradient, hand, atol=1e-5)
        if output == "margin":  # r = 1 - p exactly
            row = np.exp(np.float64(params["table"][TOKENS[position - 1]]))
            p = row[TOKENS[position]] / row.sum()
            np.testing.assert_allclose(weight, 1 - p, rtol=1e-5)


def test_weight_is_the_slope_of_the_loss_where_tokens_are_equally_well_predicted():
    """L = n softplus(-f / n) there, and r = -dL/df."""
    params = {"table": np.eye(VOCABULARY, dtype=np.float32) * 3}
    tokens = np.int32([2, 2, 2, 2])
    margin = tasks.language_model(bigram)
    loss = tasks.language_model(bigram, output="loss")

    def losses(f):
        return 3 * jax.nn.softplus(-f / 3)

    @jax.jit
    def both(params, tokens):
        f = margin.output(params, tokens)
        return (
            (losses(f), loss.output(params, tokens)),
            (-jax.grad(losses)(f), margin.weight(f, tokens)),
        )

    for want, got in both(params, tokens):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_an_infinite_logit_of_a_token_left_out_does_not_reach_the_gradient():
    params = {"table": table()["table"].at[4].set(-jnp.inf)}
    task = tasks.language_model(bigram)
    example = (TOKENS, np.int32([1, 1, 1, 0, 0]))  # nothing is predicted from a 4
    gradient = jax.jit(jax.grad(task.output))(params, example)["table"]
    _, hand = by_hand(table(), TOKENS, [1, 2], "margin")
    np.testing.assert_allclose(gradient, hand, atol=1e-5)


def test_a_half_precision_model_is_summed_in_float32():
    params = {"table": table()["table"].astype(jnp.bfloat16)}
    task = tasks.language_model(bigram, output="loss")
    value = jax.jit(task.output)(params, TOKENS)
    assert value.dtype == jnp.float32
    want, _ = by_hand(params, TOKENS, range(1, LENGTH), "loss")
    np.testing.assert_allclose(value, want, rtol=1e-5)


def test_what_is_attributed_is_part_of_the_name():
    made = [
        tasks.language_model(bigram, output=output, per_token=per_token).name
        for output in ("margin", "loss")
        for per_token in (False, True)
    ]
    assert len(set(made)) == 4
    with pytest.raises(ArgumentError, match=r"output='mean'.*'margin' or 'loss'"):
        tasks.language_model(bigram, output="mean")


ROWS = np.tile(TOKENS, (4, 1))


def changed(row, place, value):
    tokens = ROWS.astype(np.int64)
    tokens[row, place] = value
    return tokens


BAD = {
    "a token too large": (changed(2, 3, 7), "Token 7 at position 3 of example 2 .* 6."),
    "a token below zero": (changed(1, 0, -1), "Token -1 at position 0 of example 1"),
    "halves": (ROWS + 0.5, r"dtype float64 .* whole numbers"),
    "one token": (ROWS[:, :1], r"shape \(4, 1\) .* at least two"),
    "no sequences": (ROWS[:, 0], r"shape \(4,\) .* whole numbers \[B, T\]"),
    "three parts": ((ROWS, ROWS, ROWS), r"tuple: expected tokens or \(tokens, mask\)"),
    "a short mask": (
        (ROWS, ROWS[:, 1:] * 0 + 1),
        r"Masks .*\(4, 4\) from .*shape \(4, 5\)",
    ),
    "a mask of 2": (
        (ROWS, ROWS * 0 + 2),
        "Example 0 has no mask of 0 and 1 .* not .2 2 2 2 2.[.]",
    ),
    "an empty mask": (
        (ROWS, np.int32([[0, 1, 1, 1, 1]] * 3 + [[1, 0, 0, 0, 0]])),
        "Example 3 has no mask .* leaves a token to predict",
    ),
}
BAD_POSITIONS = {
    "no position": (ROWS, r"ndarray: expected \(tokens, position\)"),
    "the first": (
        (ROWS, np.int32([1, 0, 2, 3])),
        "Example 1 .* expected 1 to 4, not 0.",
    ),
    "behind": ((ROWS, np.int32([1, 4, 5, 6])), "Example 2 has no position"),
    "fractions": ((ROWS, np.full(4, 1.5)), "Positions have dtype float64"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_bad_sequence_is_refused_by_its_index(data, message):
    task = tasks.language_model(bigram)
    with pytest.raises(DataError, match=message):
        task.validator(table(), data)(data, 0)


@pytest.mark.parametrize(("data", "message"), BAD_POSITIONS.values(), ids=BAD_POSITIONS)
def test_a_bad_position_is_refused_by_its_index(data, message):
    task = tasks.language_model(bigram, per_token=True)
    with pytest.raises(DataError, match=message):
        task.validator(table(), data)(data, 0)


def test_the_index_counts_the_batches_before():
    validate = tasks.language_model(bigram).validator(table(), ROWS)
    validate(ROWS, 8)
    with pytest.raises(DataError, match="of example 10 is not"):
        validate(changed(2, 3, 7), 8)


def test_a_model_that_is_no_language_model_is_refused():
    task = tasks.language_model(lambda params, tokens: bigram(params, tokens)[:, -1])
    with pytest.raises(DataError, match=r"returns shape \(1, 7\) .* vocabulary"):
        task.validator(table(), ROWS)


def test_a_model_that_mixes_the_batch_is_refused():
    def mixing(params, tokens):
        logits = bigram(params, tokens)
        return logits - logits.mean(axis=0, keepdims=True)

    with pytest.raises(DataError, match="different prediction alone than in a batch"):
        ng.featurize(tasks.language_model(mixing), table(), ROWS, Identity())


def test_featurize_takes_tokens_of_any_whole_type_with_and_without_a_mask():
    params, task = table(), tasks.language_model(bigram)
    want, hand = by_hand(params, TOKENS, range(1, LENGTH), "margin")
    for data in (ROWS.astype(np.uint8), (ROWS.astype(np.int64), np.ones((4, LENGTH)))):
        store = ng.featurize(task, params, data, Identity(), batch_size=4)
        features = np.concatenate(list(store.blocks(10)))
        np.testing.assert_allclose(features, np.tile(hand.ravel(), (4, 1)), atol=1e-5)
        np.testing.assert_allclose(store.column("outputs"), np.full(4, want), 1e-5)
        r = 1 / (1 + np.exp(want / (LENGTH - 1)))
        np.testing.assert_allclose(store.column("weights"), np.full(4, r), rtol=1e-5)


class Transformer(nn.Module):
    """Embedding, LayerNorm, causal attention on a residual stream, and a head."""

    width: int = 8

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, self.width, name="embed")(tokens)
        one = nn.Dense(3 * self.width, use_bias=False, name="attend")(nn.LayerNorm()(x))
        heads = one.reshape(*tokens.shape, 2, 3, self.width // 2)
        mask = nn.make_causal_mask(tokens)
        mixed = nn.dot_product_attention(*jnp.moveaxis(heads, 3, 0), mask=mask)
        x = x + mixed.reshape(x.shape)
        return nn.Dense(VOCABULARY, name="head")(jnp.tanh(x))


@pytest.fixture(scope="module")
def transformer():
    model = Transformer()
    params = jax.jit(model.init)(jax.random.key(0), TOKENS[None])
    return model.apply, params


def test_per_token_features_sum_to_those_of_the_sequence_by_both_routes(transformer):
    """Linearity: the loss of a sequence is the sum of its tokens' losses.

    The sequences hand factors to the sketch and the tokens formed gradients, so that
    its two routes meet on every kind of layer.
    """
    apply, params = transformer
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (2, LENGTH), np.int32)
    whole = tasks.language_model(apply, output="loss")
    single = tasks.language_model(apply, output="loss", per_token=True)
    projector = CountSketch(64)

    assert len(find_uses(whole.output, params, tokens[0]).leaves) == 3
    together = jax.jit(feature_step(whole, projector))(params, tokens)
    step = jax.jit(feature_step(single, projector, form=True))
    positions = np.tile(np.arange(1, LENGTH, dtype=np.int32), 2)
    apart = step(params, (np.repeat(tokens, LENGTH - 1, axis=0), positions))

    assert together["features"].shape == (2, 64)
    for name in ("features", "outputs"):
        summed = np.asarray(apart[name]).reshape(2, LENGTH - 1, -1).sum(axis=1)
        want = np.asarray(together[name]).reshape(2, -1)
        np.testing.assert_allclose(summed, want, atol=5e-6 * np.abs(want).max())
