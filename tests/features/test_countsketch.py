"""The two routes of the CountSketch against its definition, entry by entry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.features import countsketch
from natgeo.features.countsketch import CountSketch
from natgeo.features.projectors import Rademacher
from natgeo.features.seeded import matrix_shape, path_key

# T, R, C, K: wide, tall, wider than K, one row, one column, K of one
SIZES = {
    "tall": (1, 30, 4, 16),
    "wide": (1, 4, 30, 64),
    "wider than K": (1, 5, 40, 16),
    "several positions": (3, 7, 6, 32),
    "one row": (2, 1, 9, 8),
    "odd K": (4, 6, 5, 13),
    "K of one": (1, 3, 3, 1),
}


def by_definition(key, matrix, dim):
    """sum over entries of sign * value at coordinate, one at a time, float64."""
    longer, shorter = max(matrix.shape[1:]), min(matrix.shape[1:])
    if matrix.shape[2] != (longer if longer <= dim else shorter):
        matrix = matrix.transpose(0, 2, 1)  # slices run along the last axis
    rows, columns = matrix.shape[1:]
    bits = np.asarray(jax.random.bits(jax.random.fold_in(key, 0), (rows,), jnp.uint32))
    more = np.asarray(
        jax.random.bits(jax.random.fold_in(key, 1), (columns,), jnp.uint32)
    )
    out = np.zeros((len(matrix), dim))
    for i in range(rows):
        for j in range(columns):
            place = (int(bits[i] >> 1) % dim + j) % dim
            sign = (1 - 2 * int(bits[i] & 1)) * (1 - 2 * int(more[j] & 1))
            out[:, place] += sign * np.float64(matrix[:, i, j])
    return out


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("convolve", [True, False], ids=["convolved", "formed"])
def test_products_match_the_definition(rng, monkeypatch, size, convolve):
    positions, rows, columns, dim = size
    a = jnp.asarray(rng.standard_normal((2, positions, rows)), jnp.float32)
    g = jnp.asarray(rng.standard_normal((2, positions, columns)), jnp.float32)
    matrix = np.einsum("btr,btc->brc", np.float64(a), np.float64(g))
    want = by_definition(path_key(5, "['w']"), matrix, dim)
    monkeypatch.setattr(countsketch, "convolution_is_cheaper", lambda *_: convolve)

    def run(a, g, by_column):
        sketch = CountSketch(dim, seed=5).sketch({"['w']": (rows, columns)})
        sketch.add_product(0, by_column, *((g, a) if by_column else (a, g)))
        return sketch.total()

    for by_column in (False, True):
        got = run(a, g, by_column)
        assert got.shape == (2, dim)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).sum())


@pytest.mark.parametrize("shape", [(30, 4), (4, 30), (5, 40), (7,), (), (2, 3, 4)])
def test_formed_gradients_match_the_definition(rng, shape):
    gradient = jnp.asarray(rng.standard_normal((2, *shape)), jnp.float32)
    got = CountSketch(16, seed=3).project({"w": gradient})
    matrix = np.asarray(gradient).reshape(2, *matrix_shape(shape))
    want = by_definition(path_key(3, "['w']"), matrix, 16)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_the_loop_and_the_scatter_agree(rng, monkeypatch):
    gradient = {"w": jnp.asarray(rng.standard_normal((3, 9, 21)), jnp.float32)}
    usual = CountSketch(8).project(gradient)
    monkeypatch.setattr(
        jax.lax,
        "platform_dependent",
        lambda *operands, cpu, default: default(*operands),
    )
    np.testing.assert_allclose(CountSketch(8).project(gradient), usual, atol=1e-5)


def test_convolution_is_chosen_where_it_must_be():
    cheaper = countsketch.convolution_is_cheaper
    assert not cheaper(1, 64, 128, 4096)  # a small layer
    assert cheaper(1, 4096, 4096, 4096)  # a large one
    assert cheaper(128, 4096, 4096, 4096)  # a large one on a sequence
    assert not cheaper(512, 64, 64, 4096)  # many positions, few parameters


def test_it_is_as_faithful_as_a_dense_projection(rng):
    """Errors of inner products of a product-shaped gradient, rms over seeds."""
    a = rng.standard_normal((2, 20, 1))
    gradient = {"w": jnp.asarray(a * rng.standard_normal((2, 1, 30)), jnp.float32)}
    want = float(np.sum(gradient["w"][0] * gradient["w"][1]))

    def rms(kind):
        def one(seed):
            projector = kind(64)
            object.__setattr__(projector, "seed", seed)
            features = projector.project(gradient)
            return jnp.vdot(features[0], features[1]) - want

        errors = jax.jit(lambda s: jax.lax.map(one, s))(jnp.arange(400))
        return float(np.sqrt(np.mean(np.square(errors))))

    assert rms(CountSketch) < 1.4 * rms(Rademacher)


def test_devices_and_batches_do_not_matter(rng):
    params = {"w": jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)}
    task = ng.tasks.classification(lambda p, x: jnp.tanh(x) @ p["w"])
    data = rng.standard_normal((23, 6)).astype(np.float32), rng.integers(0, 3, 23)
    projector = CountSketch(16)
    want = np.asarray(ng.featurize(task, params, data, projector))
    for count, size in ((1, 1), (1, 7), (2, 64), (4, 7)):
        devices = jax.devices()[:count]
        got = ng.featurize(
            task, params, data, projector, batch_size=size, devices=devices
        )
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
