"""Second moments and their factor, against the formula one row at a time."""

import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.geometry import covariance as cov
from tests.geometry import oracles

EPS = np.finfo(np.float64).eps


@pytest.fixture(params=["float64", "float32", "float16", "bfloat16"])
def features(request, rng):
    import jax.numpy as jnp

    return rng.normal(size=(29, 4)).astype(jnp.dtype(request.param))


def test_streaming_is_merging_is_direct(features):
    exact = np.float64(features)
    want = sum(np.outer(row, row) for row in exact)
    atol = 100 * EPS * np.abs(want).max()
    for cuts in ([], [1], [5, 6, 20], range(1, 29)):
        blocks = np.split(features, list(cuts))
        streamed = cov.moments(iter(blocks), 4)
        assert streamed.count == 29
        assert streamed.second.dtype == np.float64
        np.testing.assert_allclose(streamed.second, want, rtol=0, atol=atol)
        merged = cov.moments(blocks[::2], 4).merge(cov.moments(blocks[1::2], 4))
        assert merged.count == 29
        np.testing.assert_allclose(merged.second, want, rtol=0, atol=atol)


def test_adding_does_not_change_what_was_there(features):
    before = cov.moments([features[:5]], 4)
    kept = before.second.copy()
    before.add(features[5:]).merge(before)
    np.testing.assert_array_equal(before.second, kept)
    assert before.count == 5


def test_float32_sums_do_not_lose_small_directions():
    """A float32 running sum cannot see the second direction next to the first."""
    features = np.float32([[1e4, 0], [0, 1e-2]] * 500)
    second = cov.moments([features], 2).second
    assert second[0, 0] == 500 * 1e8
    assert second[1, 1] == pytest.approx(500 * np.float64(np.float32(1e-2)) ** 2)


@pytest.mark.parametrize("ridge", [0.0, 0.25])
def test_covariance_is_the_mean_outer_product_plus_ridge(features, ridge):
    got = cov.covariance(cov.moments([features], 4), ridge)
    want = oracles.covariance(np.float64(features), ridge)
    np.testing.assert_allclose(got, want, atol=100 * EPS)


@pytest.mark.parametrize("spread", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("count", [3, 6, 50])
def test_factor_and_whitener(rng, count, spread):
    features = rng.normal(size=(count, 6)) * np.geomspace(1, 1 / spread, 6)
    ridge = 1e-8
    total = cov.moments([features], 6)
    lower, whitener = cov.factorize(total, ridge)
    q = oracles.covariance(features, ridge)
    assert (np.triu(lower, 1) == 0).all()
    assert (np.triu(whitener, 1) == 0).all()
    assert (np.diag(lower) > 0).all()
    atol = 50 * EPS * np.abs(q).max()
    np.testing.assert_allclose(lower @ lower.T, q, rtol=0, atol=atol)
    identity = whitener @ q @ whitener.T
    atol = 50 * EPS * np.linalg.cond(q)
    np.testing.assert_allclose(identity, np.eye(6), rtol=0, atol=atol)


def test_default_ridge_is_a_thousandth_of_the_mean_eigenvalue(rng):
    features = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5]
    total = cov.moments([features], 5)
    eigenvalues = np.linalg.eigvalsh(oracles.covariance(features, 0))
    assert cov.default_ridge(total) == pytest.approx(eigenvalues.mean() / 1000)
    # It bounds the condition number by 1000 K, even with fewer examples than K.
    few = cov.moments([features[:2]], 5)
    q = cov.covariance(few, cov.default_ridge(few))
    assert np.linalg.cond(q) <= 1000 * 5 * (1 + 1e-6) + 1


@pytest.mark.parametrize(
    "features",
    [
        np.ones((9, 3)),
        np.zeros((9, 3)),
        np.eye(3)[:2],
        np.outer(np.arange(1.0, 9), [1.0, 2.0, 3.0]),
        np.hstack([np.eye(4), np.eye(4)[:, :1] * (1 + 1e-15)]),
    ],
    ids=["equal", "zero", "N<K", "rank one", "nearly equal columns"],
)
def test_rank_deficient_without_a_ridge_suggests_one_that_works(features):
    total = cov.moments([features], features.shape[1])
    with pytest.raises(DataError, match="not positive definite with ridge=0") as caught:
        cov.factorize(total, 0.0)
    message = str(caught.value)
    assert f"N={len(features)}, K={features.shape[1]}" in message
    suggested = float(message.split("for instance ")[1].split(",")[0])
    cov.factorize(total, suggested)


def test_a_negative_ridge_is_refused(rng):
    total = cov.moments([rng.normal(size=(9, 3))], 3)
    with pytest.raises(ArgumentError, match=r"ridge=-0\.1"):
        cov.factorize(total, -0.1)


def test_an_overflow_is_refused_not_factorized():
    with np.errstate(over="ignore"):
        total = cov.moments([np.full((4, 2), 1e200)], 2)
    with pytest.raises(DataError, match="overflows float64"):
        cov.factorize(total, 1.0)


@pytest.mark.parametrize("width", [7, 8, 9, 23])
def test_a_wide_covariance_is_factorised_in_pieces(rng, monkeypatch, width):
    features = rng.normal(size=(60, width)) * np.geomspace(1, 1e-3, width)
    total = cov.moments([features], width)
    want = cov.factorize(total, 1e-9)
    monkeypatch.setattr(cov, "_LAPACK_WIDTH", 3)
    lower, inverse = cov.factorize(total, 1e-9)
    np.testing.assert_allclose(lower, want[0], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(lower @ lower.T, cov.covariance(total, 1e-9), atol=1e-14)
    np.testing.assert_allclose(inverse @ lower, np.eye(width), atol=1e-9)
    for array in (lower, inverse):
        np.testing.assert_array_equal(array, np.tril(array))


@pytest.mark.parametrize("bad", range(7))
def test_pieces_that_are_not_positive_definite_are_found(rng, monkeypatch, bad):
    monkeypatch.setattr(cov, "_LAPACK_WIDTH", 2)
    features = rng.normal(size=(30, 7))
    features[:, bad] = features[:, (bad + 1) % 7]
    with pytest.raises(DataError, match="not positive definite"):
        cov.factorize(cov.moments([features], 7), 0.0)
