"""The natural geometry against the printed formulas with an explicit inverse."""

import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter
from tests.geometry import oracles

EPS = np.finfo(np.float64).eps
SHAPES = {"N>K": (60, 7), "N=K": (7, 7), "N<K": (4, 7), "one": (1, 1)}
SPREADS = {"well": 1.0, "cond 1e4": 1e2, "cond 1e8": 1e4}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(params=SPREADS.values(), ids=SPREADS)
def problem(request, shape, rng):
    """Features whose covariance has condition number about spread squared."""
    width = shape[1]
    scales = np.geomspace(1, 1 / request.param, width)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    features = (rng.normal(size=shape) * scales) @ turn
    ridge = 1e-2 / request.param**2
    return features, ridge, np.linalg.cond(oracles.covariance(features, ridge))


def test_every_quantity_matches_the_formula(problem):
    features, ridge, condition = problem
    geometry = natural_geometry(features, ridge=ridge)
    q = oracles.covariance(features, ridge)
    slack = 200 * EPS * condition

    np.testing.assert_allclose(geometry.covariance, q, atol=100 * EPS * q.max())
    gram = geometry.natural @ geometry.natural.T
    inverse = np.linalg.inv(q)
    want = features @ inverse @ features.T
    np.testing.assert_allclose(gram, want, rtol=0, atol=slack * np.abs(want).max())
    assert geometry.condition == pytest.approx(condition, rel=slack)
    eigenvalues = np.linalg.eigvalsh(q)
    np.testing.assert_allclose(
        geometry.spectrum, eigenvalues, rtol=0, atol=50 * EPS * eigenvalues[-1]
    )
    assert geometry.spectral_amplification == pytest.approx(
        1 / np.sqrt(eigenvalues[0]), rel=slack
    )
    want = oracles.effective_dimension(features, ridge)
    assert geometry.effective_dimension == pytest.approx(want, rel=slack)
    assert 0 <= geometry.effective_dimension <= len(q)


def test_effective_dimension_is_the_mean_squared_natural_norm(problem):
    features, ridge, condition = problem
    geometry = natural_geometry(features, ridge=ridge)
    mean = np.mean(np.sum(geometry.natural**2, axis=1))
    slack = 200 * EPS * condition
    assert geometry.effective_dimension == pytest.approx(mean, rel=slack)


def test_without_a_ridge_the_effective_dimension_is_K(rng):
    geometry = natural_geometry(rng.normal(size=(50, 6)), ridge=0)
    assert geometry.effective_dimension == pytest.approx(6, rel=1e-13)


def test_natural_distance(problem, rng):
    features, ridge, condition = problem
    geometry = natural_geometry(features, ridge=ridge)
    others = rng.normal(size=(5, features.shape[1]))
    want = [oracles.distance(features, ridge, features[0], other) for other in others]
    got = geometry.distance(features[:1], others)
    assert got.shape == (5,)
    np.testing.assert_allclose(got, want, rtol=200 * EPS * condition)
    one = geometry.distance(features[0], others[0])
    assert one.shape == ()
    assert float(one) == pytest.approx(want[0], rel=200 * EPS * condition)


def test_near_duplicates_keep_their_digits(rng):
    """Whitening first and subtracting then would leave no correct digit."""
    features, first = rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    second = np.nextafter(first, np.inf)
    want = [
        oracles.distance(features, 0.1, *pair)
        for pair in zip(first, second, strict=True)
    ]
    got = natural_geometry(features, ridge=0.1).distance(first, second)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_whitening_rows_and_single_features(problem):
    features, ridge, _ = problem
    geometry = natural_geometry(features, ridge=ridge)
    np.testing.assert_array_equal(geometry.whiten(features), geometry.natural)
    # BLAS may sum one row in another order than many.
    scale = np.abs(geometry.natural[0]).max()
    single = geometry.whiten(features[0])
    assert single.shape == features[0].shape
    np.testing.assert_allclose(single, geometry.natural[0], rtol=0, atol=1e-8 * scale)


def test_natural_features_are_computed_once_and_read_only(rng):
    geometry = natural_geometry(rng.normal(size=(9, 3)))
    assert geometry.natural is geometry.natural
    with pytest.raises(ValueError, match="read-only"):
        geometry.natural[0, 0] = 1


def test_the_default_ridge_is_a_thousandth_of_the_mean_eigenvalue(rng):
    features = rng.normal(size=(30, 4))
    mean = np.trace(oracles.covariance(features, 0)) / 4
    assert natural_geometry(features).ridge == pytest.approx(mean / 1000)
    assert natural_geometry(features, ridge=0.5).ridge == 0.5
    assert natural_geometry(features, ridge=0).ridge == 0


@pytest.mark.parametrize("scale", [1e20, 1e-30])
def test_extreme_float32_scales_give_the_same_geometry(rng, scale):
    features = np.float32(rng.normal(size=(30, 4)))
    power = np.float32(2.0 ** round(np.log2(scale)))  # scaling by it is exact
    usual, scaled = natural_geometry(features), natural_geometry(features * power)
    np.testing.assert_allclose(scaled.natural, usual.natural, rtol=1e-12)
    assert scaled.condition == pytest.approx(usual.condition, rel=1e-12)
    assert scaled.ridge == pytest.approx(usual.ridge * float(power) ** 2, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_narrow_features_are_exact_data(rng, dtype):
    import jax.numpy as jnp

    features = rng.normal(size=(30, 4)).astype(jnp.dtype(dtype))
    narrow = natural_geometry(features, ridge=0.1)
    wide = natural_geometry(np.float64(features), ridge=0.1)
    np.testing.assert_array_equal(narrow.natural, wide.natural)
    np.testing.assert_array_equal(narrow.covariance, wide.covariance)
    assert narrow.train.dtype.name == dtype


def test_arrays_memory_and_disk_give_the_same_geometry(rng, tmp_path):
    features = np.float32(rng.normal(size=(30, 4)))
    with DiskWriter(tmp_path / "s", shard_rows=7) as writer:
        writer.append(features)
        disk = writer.close()
    array, memory = natural_geometry(features), natural_geometry(MemoryStore(features))
    np.testing.assert_array_equal(array.natural, memory.natural)
    np.testing.assert_array_equal(natural_geometry(disk).natural, array.natural)


def test_weights_come_from_the_store_and_are_one_otherwise(rng):
    features = rng.normal(size=(9, 3))
    weights = np.float32(rng.normal(size=9))
    assert natural_geometry(features).weights.tolist() == [1.0] * 9
    got = natural_geometry(MemoryStore(features, {"weights": weights})).weights
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, weights)


def test_a_duplicated_data_set_has_the_same_geometry(rng):
    features = rng.normal(size=(20, 4))
    once = natural_geometry(features, ridge=0.1)
    twice = natural_geometry(np.vstack([features, features]), ridge=0.1)
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=1e-12)


def test_natural_distances_do_not_depend_on_coordinates(rng):
    """With no ridge, d_nat is the same after any invertible change of features."""
    features, change = rng.normal(size=(20, 4)), rng.normal(size=(4, 4))
    before = natural_geometry(features, ridge=0)
    after = natural_geometry(features @ change, ridge=0)
    np.testing.assert_allclose(
        after.distance(features[:5] @ change, features[5:10] @ change),
        before.distance(features[:5], features[5:10]),
        rtol=200 * EPS * max(before.condition, after.condition),
    )


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.ones((2, 4)), "4 features per example.*have 3"),
        (np.ones(4), "4 features"),
        (np.array([[1.0, 2.0, np.inf]]), "inf at row 0, column 2"),
        (np.ones((1, 1, 3)), "two axes"),
        (np.ones((2, 3), int), "int64"),
    ],
)
def test_what_does_not_fit_is_not_whitened(rng, features, words):
    geometry = natural_geometry(rng.normal(size=(9, 3)))
    with pytest.raises(DataError, match=words):
        geometry.whiten(features)


def test_distance_between_features_of_different_width_is_refused(rng):
    geometry = natural_geometry(rng.normal(size=(9, 3)))
    with pytest.raises(DataError, match="features"):
        geometry.distance(np.ones((2, 3)), np.ones((2, 4)))


def test_it_says_what_it_is(rng):
    geometry = natural_geometry(rng.normal(size=(9, 3)), ridge=0.5)
    assert isinstance(geometry, NaturalGeometry)
    assert repr(geometry) == "NaturalGeometry(N=9, K=3, ridge=0.5)"
    assert geometry.width == 3
