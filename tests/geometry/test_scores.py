"""Scores against the formula with an explicit inverse, one pair at a time."""

import jax
import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.geometry import scores as module
from natgeo.geometry.natural import natural_geometry, self_influence
from natgeo.geometry.scores import score_tile, scores
from natgeo.store.memory import MemoryStore
from tests.geometry import oracles

SHAPES = {"N>K": (40, 6), "N=K": (6, 6), "N<K": (4, 6), "one": (1, 1)}
SPREADS = {"well": 1.0, "cond 1e4": 1e2, "cond 1e8": 1e4}


def problem(rng, shape, spread, dtype):
    scales = np.geomspace(1, 1 / spread, shape[1])
    features = (rng.normal(size=shape) * scales).astype(dtype)
    targets = (rng.normal(size=(5, shape[1])) * scales).astype(dtype)
    weights = rng.uniform(-1, 1, size=shape[0]).astype(dtype)
    return MemoryStore(features, {"weights": weights}), targets, 1e-2 / spread**2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scores_match_the_explicit_inverse(rng, shape, spread, dtype):
    store, targets, ridge = problem(rng, shape, spread, dtype)
    geometry = natural_geometry(store, ridge=ridge)
    got = scores(geometry, targets)
    features = np.asarray(store)
    want = oracles.scores(features, targets, ridge, store.column("weights"))

    assert got.dtype == dtype
    assert got.shape == (5, shape[0])
    # Whitening is float64: the condition number multiplies the float64 rounding only.
    condition = np.linalg.cond(oracles.covariance(features, ridge))
    sizes = np.sqrt(
        np.outer(
            oracles.self_influence(features, ridge, targets),
            oracles.self_influence(features, ridge),
        )
    )
    slack = 20 * np.finfo(dtype).eps + 200 * np.finfo(np.float64).eps * condition
    assert (np.abs(got - want) <= slack * sizes).all()


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_self_influence_matches_the_explicit_inverse(rng, shape, spread):
    store, _, ridge = problem(rng, shape, spread, np.float32)
    geometry = natural_geometry(store, ridge=ridge)
    got = self_influence(geometry)
    condition = np.linalg.cond(geometry.covariance)
    want = oracles.self_influence(np.asarray(store), ridge)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=200 * 2.3e-16 * condition)
    # N times the ridge leverage score: at most N, with mean the effective dimension.
    assert (got <= shape[0] * (1 + 1e-9)).all()
    assert got.mean() == pytest.approx(geometry.effective_dimension, rel=1e-6)


def test_float64_features_keep_float64_scores_without_x64(rng):
    features = rng.normal(size=(30, 4))
    # Far beyond float32: the targets differ in the 12th digit only.
    targets = np.stack([features[0], features[0] * (1 + 1e-12)])
    with jax.enable_x64(False):
        got = scores(natural_geometry(features, ridge=0.1), targets)
    assert got.dtype == np.float64
    want = oracles.scores(features, targets, 0.1)
    np.testing.assert_allclose(got[1] - got[0], want[0] * 1e-12, rtol=1e-2, atol=1e-15)
    with jax.enable_x64(True):
        again = scores(natural_geometry(features, ridge=0.1), targets)
    np.testing.assert_array_equal(again, got)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_narrower_features_give_float32_scores_with_x64_on_too(rng, dtype):
    import jax.numpy as jnp

    features = rng.normal(size=(30, 4)).astype(jnp.dtype(dtype))
    geometry = natural_geometry(features, ridge=0.1)
    usual = scores(geometry, features[:2])
    assert usual.dtype == np.float32
    with jax.enable_x64(True):
        np.testing.assert_array_equal(scores(geometry, features[:2]), usual)


def test_scores_obey_cauchy_schwarz(rng):
    features = np.float32(rng.normal(size=(50, 6)))
    geometry = natural_geometry(features)
    self_scores = self_influence(geometry)
    bound = np.sqrt(np.outer(self_scores[:7], self_scores))
    assert (np.abs(scores(geometry, features[:7])) <= bound * (1 + 1e-5)).all()


@pytest.mark.parametrize("count", [4, 7, 8, 9])
def test_tiles_do_not_change_scores(rng, monkeypatch, count):
    features = np.float32(rng.normal(size=(count, 3)))
    weights = np.float32(rng.normal(size=count))
    geometry = natural_geometry(MemoryStore(features, {"weights": weights}))
    whole = scores(geometry, features)
    monkeypatch.setattr(module, "_TILE_ROWS", 4)
    np.testing.assert_allclose(scores(geometry, features), whole, rtol=1e-5, atol=1e-6)


def test_the_kernel_is_traced_once_over_tiles_and_calls(rng, monkeypatch):
    traced = []

    def counted(targets, train, weights):
        traced.append(train.shape)
        return score_tile(targets, train, weights)

    monkeypatch.setattr(module, "score_tile", jax.jit(counted))
    monkeypatch.setattr(module, "_TILE_ROWS", 8)
    geometry = natural_geometry(np.float32(rng.normal(size=(29, 3))))
    targets = np.float32(rng.normal(size=(5, 3)))
    assert scores(geometry, targets).shape == (5, 29)
    scores(geometry, targets + np.float32(1))
    assert traced == [(8, 3)]


def test_targets_may_be_a_store_or_an_array(rng):
    features = np.float32(rng.normal(size=(9, 3)))
    geometry = natural_geometry(features)
    np.testing.assert_array_equal(
        scores(geometry, MemoryStore(features[:2])), scores(geometry, features[:2])
    )


ORIGIN = {
    "task": "classification-margin",
    "params": "a" * 64,
    "projector": {"type": "Rademacher", "dim": 3, "seed": 0},
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "classification-loss"),
        ("params", "b" * 64),
        ("projector", {"type": "Rademacher", "dim": 3, "seed": 1}),
    ],
)
def test_targets_of_another_run_are_refused(rng, field, value):
    features = np.float32(rng.normal(size=(9, 3)))
    geometry = natural_geometry(MemoryStore(features, metadata=ORIGIN))
    same = MemoryStore(features, metadata={**ORIGIN, "batch_size": 3})
    scores(geometry, same)
    other = MemoryStore(features, metadata={**ORIGIN, field: value})
    with pytest.raises(DataError, match=f"do not belong together: {field}") as caught:
        scores(geometry, other)
    assert str(value) in str(caught.value)
    assert str(ORIGIN[field]) in str(caught.value)


def test_targets_of_another_width_are_refused(rng):
    geometry = natural_geometry(np.float32(rng.normal(size=(9, 3))))
    with pytest.raises(DataError, match="targets have 4 features"):
        scores(geometry, np.ones((2, 4), np.float32))
