"""Retraining: every model is the one that a plain loop trains, however it is batched.

The oracles are a closed form (ridge regression) and gradient descent by hand in NumPy.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from natgeo import evaluate
from natgeo.errors import ArgumentError, DataError, StoreError
from natgeo.evaluate import fingerprint, jobs
from natgeo.evaluate.retraining import further
from natgeo.features.devices import data_mesh

N, D, M = 12, 3, 4
RIDGE, RATE, MOMENTUM = 0.1, 0.1, 0.5


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x, targets = (rng.normal(size=(n, D)).astype(np.float32) for n in (N, M))
    y = (x @ rng.normal(size=D) + 0.3 * rng.normal(size=N)).astype(np.float32)
    order = np.stack([rng.permutation(N)[:4] for _ in range(6)])
    return x, y, targets, order


def loss(params, example):
    x, y = example
    return (jnp.sum(x * params) - y) ** 2 / 2


def solve(x, y):
    """Ridge regression on the weighted examples, as one pure function."""

    def train(params, weights, key):
        del key, params
        kept = (x * weights[:, None].astype(x.dtype)).T
        return jnp.linalg.solve(kept @ x + RIDGE * jnp.eye(D, dtype=x.dtype), kept @ y)

    return train


def by_hand(x, y, order, weights, start):
    """Heavy-ball descent in float64: the batch mean over what has weight."""
    params, speed = start.astype(np.float64), 0.0
    for rows in order:
        share = weights[rows].astype(np.float64)
        errors = x[rows] @ params - y[rows]
        slope = (share * errors) @ x[rows] / (share.sum() or 1)
        speed = slope + MOMENTUM * speed
        params = params - RATE * speed
    return params


def zeros(key):
    del key
    return jnp.zeros(D)


def normal(key):
    return jax.random.normal(key, (D,))


def sgd(problem):
    x, y, _, order = problem
    return evaluate.Sgd(loss, optax.sgd(RATE, MOMENTUM), (x, y), order)


def predictions(problem):
    targets = jnp.asarray(problem[2])
    return lambda params: jnp.sum(targets * params[None, :], axis=1)


@pytest.fixture(scope="module")
def masks():
    return evaluate.half_subsets(N, 10, seed=1)


def test_every_model_is_the_one_a_plain_loop_trains(problem, masks):
    x, y, targets, order = problem
    masks = masks.copy()
    masks[0] = 0
    masks[0, np.setdiff1d(np.arange(N), order[0])[:2]] = 1  # a batch without weight
    masks[1, :3] = [2, 0.5, 3]  # counts and shares are weights too
    got = evaluate.retrain(
        zeros, sgd(problem), predictions(problem), masks, chunk=4, progress=False
    )
    want = [targets @ by_hand(x, y, order, row, np.zeros(D)) for row in masks]
    np.testing.assert_allclose(got.outputs, want, atol=2e-6)
    assert got.each.shape == (1, 10, M)
    assert got.chunk == 4
    assert repr(got) == "Retrained(S=10, M=4, seeds=1)"


def test_devices_and_chunks_do_not_change_the_models(problem, masks):
    args = normal, sgd(problem), predictions(problem), masks
    want = evaluate.retrain(*args, chunk=1, devices=jax.devices()[:1], seeds=[5])
    got = evaluate.retrain(*args, chunk=8, seeds=[5])
    assert got.chunk == 8
    np.testing.assert_allclose(got.each, want.each, atol=1e-6)
    again = evaluate.retrain(*args, chunk=8, seeds=[5])
    np.testing.assert_array_equal(got.each, again.each)


def test_leave_one_out_is_exact_for_ridge_regression(problem):
    """Sherman-Morrison: f_t - f_t(without i) = x_t A^-1 x_i r_i / (1 - h_i)."""
    x, y, targets, _ = (np.asarray(a, np.float64) for a in problem)
    with jax.enable_x64(True):
        got = evaluate.retrain(
            lambda key: jnp.zeros(D, jnp.float64),
            solve(jnp.asarray(x), jnp.asarray(y)),
            lambda params: jnp.asarray(targets) @ params,
            evaluate.leave_out(N, range(N)),
        )
    assert got.each.dtype == np.float64
    inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(D))
    residual = y - x @ inverse @ x.T @ y
    leverage = np.einsum("nd,de,ne->n", x, inverse, x)
    want = targets @ inverse @ x.T * residual / (1 - leverage)
    np.testing.assert_allclose(got.effects, want, rtol=1e-10)


def test_models_of_a_seed_differ_by_their_weights_alone(problem):
    x, y, *_ = problem
    order = evaluate.shuffled(N, 5, 3)
    steps = evaluate.Sgd(loss, optax.sgd(RATE), (x, y), order)
    rows = np.ones((3, N))
    got = evaluate.retrain(normal, steps, predictions(problem), rows, seeds=3, chunk=4)
    assert got.seeds == (0, 1, 2)
    np.testing.assert_array_equal(got.each[:, 0], got.each[:, 2])
    assert np.abs(got.each[0] - got.each[1]).max() > 1e-3
    np.testing.assert_allclose(got.outputs, got.each.mean(axis=0), rtol=1e-6)
    epochs = np.asarray(order(jax.random.key(0))).reshape(3, 10)
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_further_training_subtracts_what_everything_does(problem):
    """The effect of i is measured from the model's end, against further training."""
    x, y, targets, order = problem
    end = np.array([0.5, -1.0, 2.0], np.float32)
    got = evaluate.retrain(
        further(end),
        sgd(problem),
        predictions(problem),
        evaluate.leave_out(N, [3, [1, 5]]),
    )
    without = np.ones((3, N))
    without[1, 3] = without[2, [1, 5]] = 0
    made = [targets @ by_hand(x, y, order, row, end) for row in without]
    want = np.stack([made[0] - made[1], made[0] - made[2]], axis=1)
    np.testing.assert_allclose(got.effects, want, atol=2e-6)


class Stopped(Exception):
    pass


def interrupted(monkeypatch, after):
    """Training ends with an error after some chunks."""
    train = jobs.Job.train_chunk
    done = []

    def stop(self, *args):
        if len(done) == after:
            raise Stopped
        done.append(1)
        return train(self, *args)

    monkeypatch.setattr(jobs.Job, "train_chunk", stop)
    return done


def test_a_stopped_run_goes_on_with_the_same_numbers(
    problem, masks, tmp_path, monkeypatch
):
    args = normal, sgd(problem), predictions(problem), masks
    want = evaluate.retrain(*args, chunk=4, seeds=2)
    folder = tmp_path / "runs"
    with monkeypatch.context() as patch:
        interrupted(patch, 4)
        with pytest.raises(Stopped):
            evaluate.retrain(*args, chunk=4, seeds=2, folder=folder)
    assert len(json.loads((folder / "manifest.json").read_text())["chunks"]) == 4
    with monkeypatch.context() as patch:
        done = interrupted(patch, 99)
        # The chunk of the first run is taken up.
        got = evaluate.retrain(*args, seeds=2, folder=folder)
    assert len(done) == 2
    np.testing.assert_array_equal(got.each, want.each)
    with monkeypatch.context() as patch:
        interrupted(patch, 0)
        got = evaluate.retrain(*args, seeds=2, folder=folder)
    np.testing.assert_array_equal(got.each, want.each)


def test_other_settings_data_or_code_are_refused(problem, masks, tmp_path):
    x, y, targets, order = problem
    run = evaluate.retrain
    out, steps = predictions(problem), sgd(problem)
    run(zeros, steps, out, masks, folder=tmp_path)
    x2 = x.copy()
    x2[0, 0] += 1e-6

    def same(changed, **options):
        with pytest.raises(StoreError, match="holds another retraining") as info:
            run(*changed, **{"folder": tmp_path} | options)
        return str(info.value).split("what differs: ")[1]

    made = optax.sgd(RATE, MOMENTUM)
    other = evaluate.Sgd(loss, made, (x2, y), order)
    assert same((zeros, other, out, masks)).startswith("data (")
    other = evaluate.Sgd(loss, made, (x, y), order[::-1])
    assert same((zeros, other, out, masks)).startswith("data (")
    other = evaluate.Sgd(loss, optax.sgd(0.11, MOMENTUM), (x, y), order)
    assert same((zeros, other, out, masks)).startswith("training (")
    assert same((normal, steps, out, masks)).startswith("init (")
    changed = predictions((x, y, targets + 1, order))
    assert same((zeros, steps, changed, masks)).startswith("outputs (")
    assert same((zeros, steps, out, 1 - masks)).startswith("weights (")
    assert same((zeros, steps, out, masks), seeds=2).startswith("seeds (")
    assert same((zeros, steps, out, masks), chunk=4).startswith("chunk (")
    assert "devices (" in same((zeros, steps, out, masks), devices=jax.devices()[:2])


def test_data_inside_a_whole_training_are_part_of_what_makes_it_the_same(problem):
    x, y, *_ = problem
    arguments = jnp.zeros(D), jnp.ones(N), jax.random.key(0)
    made = fingerprint.of_program
    want = made(solve(jnp.asarray(x), jnp.asarray(y)), *arguments)
    assert made(solve(jnp.asarray(x), jnp.asarray(y)), *arguments) == want
    other = x.copy()
    other[1, 1] += 1e-6
    assert made(solve(jnp.asarray(other), jnp.asarray(y)), *arguments) != want
    inner = jax.jit(solve(jnp.asarray(other), jnp.asarray(y)))
    assert made(inner, *arguments) != made(
        jax.jit(solve(jnp.asarray(x), jnp.asarray(y))), *arguments
    )


def test_damaged_and_foreign_folders_are_refused(problem, masks, tmp_path):
    def run(folder):
        evaluate.retrain(
            zeros, sgd(problem), predictions(problem), masks, chunk=4, folder=folder
        )

    run(tmp_path / "a")
    file = tmp_path / "a" / "outputs-00001.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StoreError, match=r"outputs-00001\.npy does not match"):
        run(tmp_path / "a")
    file.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match="truncated"):
        run(tmp_path / "a")
    for text in ("{", "[]", '{"format": "natgeo-store", "version": 1}'):
        (tmp_path / "a" / "manifest.json").write_text(text)
        with pytest.raises(StoreError, match="not the manifest of a retraining"):
            run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds no retraining"):
        run(tmp_path / "b")
    (tmp_path / "c").write_text("a file")
    with pytest.raises(StoreError, match="Name a new folder"):
        run(tmp_path / "c")
    with pytest.raises(StoreError, match="Cannot write"):
        run(tmp_path / "c" / "d")


def test_the_chunk_is_chosen_from_memory_and_convolutions_go_alone(problem, masks):
    mesh = data_mesh(jax.devices()[:1])

    def planned(train):
        job = jobs.Job(zeros, train, predictions(problem), mesh)
        return job.planned(masks)

    assert planned(sgd(problem)) == 256

    def large(params, weights, key):
        del key
        many = jnp.sin(jnp.arange(1_000_000, dtype=jnp.float32)) * weights[0]
        return params + jnp.sort(many)[:D]

    assert 1 <= planned(large) < 20

    def convolved(params, weights, key):
        del key
        return params + 0 * jnp.convolve(weights, params, mode="valid")[:D]

    assert planned(jax.jit(convolved)) == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weights": np.ones((2, N + 1))}, DataError, "13 columns.*12 examples"),
        ({"weights": np.zeros((2, N))}, DataError, r"weights\[0\] has .* zeros"),
        ({"weights": -np.ones((2, N))}, DataError, "negative weight"),
        ({"weights": np.full((2, N), np.nan)}, DataError, "weights holds nan"),
        ({"weights": np.ones(N)}, DataError, r"shape \(12,\)"),
        ({"weights": [[1], [1, 2]]}, DataError, "not an array"),
        ({"init": 3}, ArgumentError, "init=3 must be a function"),
        ({"seeds": 0}, ArgumentError, "at least 1"),
        ({"seeds": [1, 1]}, ArgumentError, "different whole numbers"),
        ({"seeds": []}, ArgumentError, "different whole numbers"),
        ({"seeds": "x"}, ArgumentError, "whole number"),
        ({"chunk": 0}, ArgumentError, "chunk=0"),
        ({"outputs": lambda params: params[0]}, DataError, "for each target"),
        ({"outputs": lambda params: (params,)}, DataError, "for each target"),
    ],
)
def test_bad_arguments_end_in_one_sentence(problem, change, error, words):
    arguments = {
        "init": zeros,
        "train": sgd(problem),
        "outputs": predictions(problem),
        "weights": np.ones((2, N)),
    }
    with pytest.raises(error, match=words):
        evaluate.retrain(**arguments | change)


def test_training_that_diverges_is_named(problem, masks):
    x, y, _, order = problem
    wild = evaluate.Sgd(loss, optax.sgd(1e30), (x, y), order)
    with pytest.raises(DataError, match=r"weights\[0\], seed 0, gives .* diverged"):
        evaluate.retrain(zeros, wild, predictions(problem), masks)


@pytest.mark.parametrize(
    ("data", "order", "error", "words"),
    [
        (lambda x, y: (x, y[:3]), [[0]], DataError, "one row for each"),
        (lambda x, y: (x, y), [0, 1], ArgumentError, r"\[steps, B\]"),
        (lambda x, y: (x, y), [[N]], ArgumentError, "order.*12.*out of range"),
        (lambda x, y: (x, y), [[0.5]], ArgumentError, "dtype float64"),
    ],
)
def test_bad_data_and_orders_are_refused(problem, data, order, error, words):
    x, y, *_ = problem
    with pytest.raises(error, match=words):
        evaluate.Sgd(loss, optax.sgd(RATE), data(x, y), np.array(order))


def test_subsets_are_what_they_say():
    masks = evaluate.half_subsets(7, 50, seed=0, share=0.4)
    assert masks.sum(axis=1).tolist() == [3] * 50
    assert set(masks.sum(axis=0)) <= set(range(8, 37))  # 21 expected, deviation 3.5
    np.testing.assert_array_equal(
        masks, evaluate.half_subsets(7, 50, seed=0, share=0.4)
    )
    rows = evaluate.leave_out(5, [2, [0, 4]])
    assert rows.tolist() == [[1] * 5, [1, 1, 0, 1, 1], [0, 1, 1, 1, 0]]
    with pytest.raises(ArgumentError, match="fewer than all"):
        evaluate.half_subsets(7, 5, seed=0, share=0.99)
    with pytest.raises(ArgumentError, match="out of range"):
        evaluate.leave_out(5, [5])
    with pytest.raises(ArgumentError, match="at least one example"):
        evaluate.leave_out(5, [])
    with pytest.raises(ArgumentError, match="more than the 5"):
        evaluate.shuffled(5, 6, 1)


def test_effects_need_a_model_of_everything():
    made = evaluate.Retrained(np.zeros((1, 2, 3)), np.zeros((2, 4)), (0,), 2)
    with pytest.raises(DataError, match=r"evaluate\.leave_out"):
        _ = made.effects
