"""The contract of every projector in the table, and the frozen values of each.

A projector is tested by being listed in `projectors.PROJECTORS`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.features import projectors
from natgeo.features.projectors import (
    PROJECTORS,
    Gaussian,
    Identity,
    Rademacher,
    Sparse,
)
from natgeo.features.seeded import Seeded
from natgeo.types import Projector

WIDTH = 8
SEEDED = sorted(set(PROJECTORS) - {"identity"})
# Kronecker shares K out over the leaves by their shapes, so neither the variance of a
# projection to K dimensions nor indifference to the other leaves is promised.
# test_kronecker.py tests what it promises instead.
SHARING_ALL_OF_K = sorted(set(SEEDED) - {"kronecker"})
# Entries of modulus one: the norm of a gradient with a single entry is kept exactly.
SIGNED = sorted(set(SEEDED) - {"gaussian"})
# One leaf a shape, without the batch axis: a block of signs is 2048 parameters.
SHAPES = {
    "tall": (300, 2),
    "wide": (2, 300),
    "scalar": (),
    "block and one": (2049,),
    "blocks, not a multiple": (3, 1500),
}


def make(name, *, dim=WIDTH, seed=0):
    return PROJECTORS[name](dim, seed) if name in SEEDED else PROJECTORS[name]()


def gradients(*, batch=3, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"bias": (5,), "deep": {"kernel": (40, 60), "scale": ()}}

    def draw(shape):
        return np.asarray(rng.normal(size=(batch, *shape)), dtype)

    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def project(projector, tree):
    """Features in one compilation: eager projection compiles every operation."""
    return np.asarray(jax.jit(projector.project)(tree))


def project_for_seeds(name, tree, seeds):
    """Features for a number of seeds in one compilation, [seeds, B, K]."""

    def one(seed):
        projector = make(name)
        object.__setattr__(projector, "seed", seed)
        return projector.project(tree)

    return np.asarray(
        jax.jit(lambda s: jax.lax.map(one, s))(np.asarray(seeds, np.int32))
    )


def assert_norm_of_one_entry(name, norms):
    """Exactly 1 for signs; for a Gaussian 1 in the mean square, and never small."""
    if name in SIGNED:
        np.testing.assert_allclose(norms, 1, rtol=1e-6)
    assert ((norms > 0.3) & (norms < 2)).all()


@pytest.fixture(params=sorted(PROJECTORS))
def name(request):
    return request.param


def test_it_satisfies_the_protocol(name):
    projector = make(name)
    assert isinstance(projector, Projector)
    tree = gradients(batch=2)
    params = jax.tree.map(lambda leaf: leaf[0], tree)
    assert project(projector, tree).shape == (2, projector.width(params))


def test_it_is_linear(name):
    a, b = gradients(seed=1), gradients(seed=2)
    made = jax.jit(make(name).project)
    together = made(jax.tree.map(lambda x, y: np.float32(3) * x - y, a, b))
    apart = 3 * np.float64(made(a)) - np.float64(made(b))
    np.testing.assert_allclose(together, apart, atol=1e-4 * np.abs(apart).max())


def test_rows_are_independent(name):
    tree = gradients(batch=3)
    made = jax.jit(make(name).project)
    whole = np.asarray(made(tree))
    # What the other rows hold does not reach this one, bit for bit.
    changed = jax.tree.map(np.copy, tree)
    for leaf in jax.tree.leaves(changed):
        leaf[[0, 2]] = np.float32(1e30)
    np.testing.assert_array_equal(np.asarray(made(changed))[1], whole[1])
    for row in range(3):
        alone = made(jax.tree.map(lambda leaf, r=row: leaf[r : r + 1], tree))
        scale = np.abs(whole[row]).max()
        np.testing.assert_allclose(alone[0], whole[row], rtol=0, atol=1e-5 * scale)


def test_it_gives_the_same_features_with_and_without_jit(name):
    tree = {"w": np.float32(np.random.default_rng(0).normal(size=(2, 30)))}
    eager, jitted = make(name).project(tree), project(make(name), tree)
    np.testing.assert_allclose(eager, jitted, rtol=0, atol=1e-5 * np.abs(eager).max())


def test_it_is_hashable_and_equal_by_its_fields(name):
    assert make(name) == make(name)
    assert hash(make(name)) == hash(make(name))


def test_description_survives_json(name):
    described = dict(make(name).describe())
    assert described["type"] == type(make(name)).__name__
    assert json.loads(json.dumps(described, allow_nan=False)) == described


@pytest.mark.parametrize("name", SEEDED)
def test_description_of_numpy_integers_is_plain(name):
    described = dict(make(name, dim=np.int64(4), seed=np.uint8(3)).describe())
    assert json.loads(json.dumps(described)) == dict(
        make(name, dim=4, seed=3).describe()
    )


@pytest.mark.parametrize("name", SEEDED)
def test_everything_that_changes_a_number_is_described(name):
    variants = [make(name), make(name, seed=1), make(name, dim=9)]
    assert len({json.dumps(dict(v.describe()), sort_keys=True) for v in variants}) == 3
    assert len(set(variants)) == 3


def test_float64_stays_float64(name):
    with jax.enable_x64(True):
        wide = np.asarray(project(make(name), gradients(dtype=np.float64)))
        assert wide.dtype == np.float64
    narrow = np.asarray(project(make(name), gradients()))
    assert narrow.dtype == np.float32
    # The same random map in both precisions.
    np.testing.assert_allclose(narrow, wide, atol=1e-5 * np.abs(wide).max())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_inner_products_are_unbiased(name, shape):
    """E <P a, P b> = <a, b>, for a leaf of every shape beside another leaf."""
    rng = np.random.default_rng(5)
    size = int(np.prod(shape))
    both = rng.normal(size=(2, size + 3))
    both[1] += both[0]  # so that <a, b> is far from zero
    first = np.zeros((4, size))
    first[0, 0] = first[1, -1] = 2.0  # the first and the last coordinate alone
    first[2:] = both[:, :size] / np.sqrt(size)
    tree = {
        "leaf": np.float32(first).reshape(4, *shape),
        "other": np.float32(np.vstack([np.zeros((2, 3)), both[:, size:]])),
    }
    flat = np.hstack([np.float64(leaf).reshape(4, -1) for leaf in tree.values()])
    want = flat @ flat.T
    if name not in SEEDED:
        got = np.float64(project(make(name), tree))
        np.testing.assert_allclose(got @ got.T, want, rtol=1e-6)
        return
    count = 400
    features = np.float64(project_for_seeds(name, tree, range(count)))
    grams = features @ features.transpose(0, 2, 1)
    error = grams.mean(axis=0) - want
    spread = grams.std(axis=0) / np.sqrt(count)
    assert (np.abs(error) <= 4.5 * spread + 1e-5 * (1 + np.abs(want))).all()
    if name not in SHARING_ALL_OF_K:
        return
    # The variance is that of a projection to WIDTH dimensions, not of a coarser map.
    norms = np.diag(want)
    bound = 3.5 * (np.outer(norms, norms) + want**2) / WIDTH
    assert (grams.var(axis=0) <= bound + 1e-6).all()


@pytest.mark.parametrize("name", SEEDED)
def test_blocks_of_a_large_parameter_are_projected_independently(name):
    """Coordinates one block apart would be parallel if a block were repeated."""
    leaf = np.zeros((2, 3 * 2048), np.float32)
    leaf[0, 5] = leaf[1, 2048 + 5] = 1
    features = project_for_seeds(name, {"w": leaf}, range(200))
    products = np.abs(np.sum(features[:, 0] * features[:, 1], axis=-1))
    assert (products < 0.999).mean() > 0.7


@pytest.mark.parametrize("name", SEEDED)
def test_the_last_coordinate_of_a_partial_block_is_not_padded_away(name):
    sizes = (2047, 2048, 2049, 4097)
    tree = [np.zeros((len(sizes), size), np.float32) for size in sizes]
    for row, leaf in enumerate(tree):
        leaf[row, -1] = 1
    norms = np.linalg.norm(project(make(name), tree), axis=1)
    assert_norm_of_one_entry(name, norms)


@pytest.mark.parametrize("name", SEEDED)
def test_different_seeds_differ(name):
    seeds = [*range(20), 2**31 - 2, 2**31 - 1]
    features = project_for_seeds(name, {"w": np.ones((1, 50), np.float32)}, seeds)
    assert len({row.tobytes() for row in features}) == len(seeds)


@pytest.mark.parametrize("name", SHARING_ALL_OF_K)
def test_a_leaf_is_projected_by_its_path_not_by_its_neighbours(name):
    leaf = np.float32(np.random.default_rng(1).normal(size=(2, 30)))
    neighbour = {"a": leaf * 0, "w": leaf, "z": {"y": leaf[:, :3] * 0}}
    projector = make(name)
    alone = project(projector, {"w": leaf})
    np.testing.assert_array_equal(project(projector, neighbour), alone)
    assert not np.array_equal(project(projector, {"v": leaf}), alone)


@pytest.mark.parametrize("name", SEEDED)
def test_widths_have_no_prefix_relation(name):
    leaf = {"w": np.float32(np.random.default_rng(1).normal(size=(1, 90)))}
    wide = np.asarray(project(make(name, dim=512), leaf))[0, :256]
    narrow = np.asarray(project(make(name, dim=256), leaf))[0]
    assert not np.allclose(wide * np.sqrt(2), narrow, rtol=1e-3)
    assert not np.allclose(wide, narrow, rtol=1e-3)


@pytest.mark.parametrize("name", SEEDED)
def test_a_width_that_is_no_multiple_of_a_word_works(name):
    features = project(make(name, dim=33), {"w": np.eye(40, dtype=np.float32)[:2]})
    assert features.shape == (2, 33)
    assert_norm_of_one_entry(name, np.linalg.norm(features, axis=1))


@pytest.mark.parametrize("name", SEEDED)
def test_an_empty_parameter_adds_nothing(name):
    leaf = np.ones((2, 3), np.float32)
    with_empty = {"e": np.zeros((2, 0), np.float32), "w": leaf}
    alone = project(make(name), {"w": leaf})
    np.testing.assert_array_equal(project(make(name), with_empty), alone)


@pytest.mark.parametrize("nonzeros", [2, 4])
def test_sparse_copies_keep_inner_products(nonzeros):
    tree = {"w": np.float32([[1.0, 0, 0], [0, 0, 2.0], [1, 1, 1]])}

    def one(seed):
        projector = Sparse(WIDTH, 0, nonzeros)
        object.__setattr__(projector, "seed", seed)
        return projector.project(tree)

    count = 2000
    features = np.float64(jax.jit(lambda s: jax.lax.map(one, s))(jnp.arange(count)))
    grams = features @ features.transpose(0, 2, 1)
    error = np.abs(grams.mean(axis=0) - tree["w"] @ tree["w"].T)
    assert (error <= 4.5 * grams.std(axis=0) / np.sqrt(count) + 1e-6).all()


def test_sparse_coordinates_are_spread_evenly():
    features = np.asarray(project(Sparse(WIDTH, 3), {"w": np.eye(4000, dtype="f4")}))
    assert (np.count_nonzero(features, axis=1) == 1).all()
    counts = np.count_nonzero(features, axis=0)
    # Binomial with mean 500 and standard deviation 21.
    assert (np.abs(counts - 500) < 5 * 21).all()
    assert abs(features.sum()) < 5 * np.sqrt(4000)


def test_identity_concatenates_in_tree_order():
    tree = {"b": np.float32([[[1, 2], [3, 4]]]), "a": np.float32([[0]])}
    assert Identity().project(tree).tolist() == [[0, 1, 2, 3, 4]]
    assert Identity().width({"b": np.zeros((2, 2)), "a": np.zeros(1)}) == 5


# Changing any of these breaks every store that was written before: it needs a new
# projector name, not a new expectation.
def test_frozen_values_of_rademacher():
    tree = {"w": np.float32([[1, 2, 4, 8]])}
    got = np.asarray(project(Rademacher(6, 7), tree)) * np.sqrt(6)
    assert np.rint(got).astype(int).tolist() == [[-5, -1, 5, 11, 7, -3]]
    larger = {"w": np.float32([np.arange(5000) % 7])}
    got = np.asarray(project(Rademacher(3, 7), larger)) * np.sqrt(3)
    assert np.rint(got).astype(int).tolist() == [[-115, 181, -149]]


def test_frozen_values_of_gaussian():
    tree = {"w": np.float32([[1, 2, 4, 8]])}
    got = np.asarray(project(Gaussian(4, 7), tree)) * 2
    np.testing.assert_allclose(
        got, [[-4.28269, 1.432507, -3.018329, -0.262683]], atol=1e-5
    )


def test_entries_of_gaussian_are_normal():
    unit = {"w": np.eye(4000, 4096, dtype=np.float32)}
    entries = np.sort(np.float64(project(Gaussian(5, 3), unit)).ravel()) * np.sqrt(5)
    got = np.searchsorted(entries, [-2, -1, 0, 1, 2]) / len(entries)
    want = [0.02275, 0.15866, 0.5, 0.84134, 0.97725]  # the normal distribution
    assert (np.abs(got - want) < 4 * 0.5 / np.sqrt(len(entries))).all()


def test_frozen_values_of_sparse():
    tree = {"w": np.float32([[1, 2, 4, 8]])}
    got = np.asarray(project(Sparse(6, 7), tree))
    assert got.astype(int).tolist() == [[0, 0, -8, 1, 4, 0]]
    got = np.asarray(project(Sparse(6, 7, nonzeros=4), tree)) * 2
    assert got.astype(int).tolist() == [[-4, -7, -10, -7, 8, -2]]


def test_features_do_not_depend_on_the_default_generator():
    tree = {"w": np.ones((1, 40), np.float32)}
    usual = np.asarray(Sparse(4, 1).project(tree))
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(Sparse(4, 1).project(tree), usual)


def test_the_table_names_every_public_projector():
    listed = set(PROJECTORS.values())
    defined = {
        value
        for key, value in vars(projectors).items()
        if isinstance(value, type)
        and hasattr(value, "describe")
        and value is not Seeded
        and not key.startswith("_")
    }
    assert defined == listed
