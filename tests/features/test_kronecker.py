"""The Kronecker projector against its definition, and what it promises of widths."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.features.countsketch import CountSketch
from natgeo.features.gradients import feature_step
from natgeo.features.kronecker import Kronecker, apportion, random_signs, sides
from natgeo.features.seeded import path_key
from natgeo.features.tasks import Task

# T, R, C, K: every shape of grid, a truncated one (7 of 2 x 4), more than R or C
SIZES = {
    "square": (1, 6, 5, 9),
    "truncated": (3, 6, 5, 7),
    "tall": (2, 20, 2, 11),
    "wide": (2, 2, 20, 11),
    "wider than the leaf": (1, 2, 2, 13),
}


def by_definition(seed, path, matrix, width):
    """The first entries of vec(A^T G B) / sqrt(w), float64."""
    left, right = sides(*matrix.shape[1:], width)
    key = path_key(seed, path)
    a = random_signs(jax.random.fold_in(key, 0), matrix.shape[1], left)
    b = random_signs(jax.random.fold_in(key, 1), matrix.shape[2], right)
    grid = np.float64(a).T @ np.float64(matrix) @ np.float64(b)
    return grid.reshape(len(matrix), -1)[:, :width] / np.sqrt(width)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_both_routes_match_the_definition(rng, size):
    positions, rows, columns, dim = size
    a = np.float32(rng.standard_normal((3, positions, rows)))
    g = np.float32(rng.standard_normal((3, positions, columns)))
    matrix = np.einsum("btr,btc->brc", np.float64(a), np.float64(g))
    want = by_definition(5, "['w']", matrix, dim)

    def product(by_column):
        sketch = Kronecker(dim, seed=5).sketch({"['w']": (rows, columns)})
        sketch.add_product(0, by_column, *((g, a) if by_column else (a, g)))
        return sketch.total()

    formed = {"w": np.float32(matrix)}
    routes = jax.jit(
        lambda: (product(False), product(True), Kronecker(dim, seed=5).project(formed))
    )
    for got in routes():
        assert got.shape == (3, dim)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_a_leaf_used_twice_is_the_sum_of_its_products(rng):
    a, g = np.float32(rng.standard_normal((2, 2, 3, 4)))
    sketch = Kronecker(6).sketch({"['w']": (4, 4)})
    sketch.add_product(0, False, a, g)
    sketch.add_product(0, False, g, a)
    matrix = np.einsum("btr,btc->brc", np.float64(a), np.float64(g))
    want = by_definition(0, "['w']", matrix + matrix.transpose(0, 2, 1), 6)
    np.testing.assert_allclose(sketch.total(), want, atol=1e-5)


def test_matrices_stand_in_tree_order_before_what_the_vectors_share(rng):
    tree = {
        name: np.float32(rng.standard_normal((2, *shape)))
        for name, shape in {"a": (9, 4), "b": (5,), "c": (2, 3, 6), "d": ()}.items()
    }
    shapes = [(9, 4), (5, 1), (6, 6), (1, 1)]
    widths, shared = apportion(shapes, 20)
    got = jax.jit(Kronecker(20, seed=2).project)(tree)
    matrix = tree["c"].reshape(2, 6, 6)
    vectors = CountSketch(shared, seed=2).project({k: tree[k] for k in "bd"})
    want = [
        by_definition(2, "['a']", tree["a"], widths[0]),
        by_definition(2, "['c']", matrix, widths[2]),
        np.asarray(vectors),
    ]
    np.testing.assert_allclose(got, np.hstack(want), atol=1e-5)


LEAVES = [(784, 512), (512, 1), (512, 256), (256, 1), (256, 10), (10, 1), (0, 5)]


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 17, 512, 1000, 10**6])
def test_widths_sum_to_the_dimension(dim):
    widths, shared = apportion(LEAVES, dim)
    assert sum(widths) + shared == dim
    assert shared >= 1
    # A vector or an empty leaf never has coordinates of its own; a large matrix does.
    assert [widths[leaf] for leaf in (1, 3, 5, 6)] == [0, 0, 0, 0]
    assert (widths[0] > 0) == (dim >= 2)
    assert widths[0] >= widths[2] >= widths[4]


def test_widths_follow_the_square_root_of_the_sizes():
    widths, shared = apportion(LEAVES, 1003)
    roots = np.sqrt([784 * 512, 512 * 256, 256 * 10, 512 + 256 + 10])
    # One coordinate each, and the others in proportion.
    want = 1 + 999 * roots / roots.sum()
    np.testing.assert_allclose([*widths[0:5:2], shared], want, atol=1)


def test_widths_without_vectors_go_to_the_matrices_alone():
    assert apportion([(4, 4), (4, 4)], 9) == ([5, 4], 0)
    assert apportion([(4, 4), (4, 4), (5, 4)], 2) == ([0, 0, 1], 1)
    assert apportion([(4, 4)], 1) == ([1], 0)
    assert apportion([(0, 1), (0, 4)], 3) == ([0, 0], 3)


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_the_grid_has_room_and_no_row_to_spare(rows, columns):
    for width in range(1, 60):
        left, right = sides(rows, columns, width)
        assert left * right >= width > (left - 1) * right - right
        if width <= rows * columns:
            assert left <= rows
            assert right <= columns


def test_what_other_leaves_hold_does_not_reach_a_leaf_but_their_shapes_do(rng):
    """Independence of the other leaves holds for values, not for their presence."""
    leaf = np.float32(rng.standard_normal((2, 6, 5)))
    other = np.float32(rng.standard_normal((2, 8, 5)))
    made = jax.jit(Kronecker(16).project)
    width = apportion([(6, 5), (8, 5)], 16)[0][0]
    one = np.asarray(made({"w": leaf, "z": other}))
    two = np.asarray(made({"w": leaf, "z": -3 * other}))
    np.testing.assert_array_equal(one[:, :width], two[:, :width])
    alone = np.asarray(made({"w": leaf}))
    assert alone.shape == one.shape
    assert not np.allclose(alone[:, :width], one[:, :width], atol=1e-3)


def test_inner_products_are_unbiased_over_several_leaves(rng):
    """E <P a, P b> = <a, b>, with a truncated grid and one product a leaf."""
    rows, columns = rng.standard_normal((2, 2, 7, 1)), rng.standard_normal((2, 1, 1, 6))
    tree = {
        "m": np.float32(rows[0] * columns[0]),
        "n": np.float32(rows[1][:, :5] * columns[1][:, :, :4]),
        "v": np.float32(rng.standard_normal((2, 5))),
    }
    flat = np.hstack([np.float64(leaf).reshape(2, -1) for leaf in tree.values()])
    want = flat @ flat.T

    def one(seed):
        projector = Kronecker(24)
        object.__setattr__(projector, "seed", seed)
        features = projector.project(tree)
        return jnp.matmul(features, features.T, precision="highest")

    count = 2000
    grams = np.float64(jax.jit(lambda s: jax.lax.map(one, s))(jnp.arange(count)))
    spread = grams.std(axis=0) / np.sqrt(count)
    assert (np.abs(grams.mean(axis=0) - want) < 4.5 * spread + 1e-4).all()
    assert (spread < 0.1 * np.abs(want).max()).all()


def test_both_routes_agree_through_the_kernel(rng):
    params = {
        "one": jnp.asarray(rng.standard_normal((5, 6)), jnp.float32),
        "bias": jnp.zeros(6, jnp.float32),
        "two": jnp.asarray(rng.standard_normal((6, 3)), jnp.float32),
    }

    def output(p, x):
        return jnp.sum(jnp.sin(jnp.tanh(x @ p["one"] + p["bias"][None, :]) @ p["two"]))

    batch = np.float32(rng.standard_normal((3, 4, 5)))
    task, projector = Task("sine", output), Kronecker(19, seed=1)
    made, formed = (
        jax.jit(feature_step(task, projector, form=form))(params, batch)["features"]
        for form in (False, True)
    )
    assert made.shape == (3, 19)
    np.testing.assert_allclose(made, formed, atol=1e-5 * np.abs(formed).max())


def test_devices_do_not_matter(rng):
    params = {
        "w": jnp.asarray(rng.standard_normal((6, 3)), jnp.float32),
        "b": jnp.zeros(3, jnp.float32),
    }
    task = ng.tasks.classification(lambda p, x: jnp.tanh(x) @ p["w"] + p["b"][None, :])
    data = rng.standard_normal((7, 6)).astype(np.float32), rng.integers(0, 3, 7)
    one, four = (
        np.asarray(ng.featurize(task, params, data, Kronecker(9), devices=devices))
        for devices in (jax.devices()[:1], jax.devices())
    )
    np.testing.assert_allclose(four, one, atol=1e-5 * np.abs(one).max())
