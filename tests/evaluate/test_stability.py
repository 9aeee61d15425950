"""Stability under resampling: explicit refits, and no certificate that is broken."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.linalg

import natgeo as ng
from natgeo import evaluate
from natgeo.errors import ArgumentError, DataError
from natgeo.evaluate import stability
from natgeo.store.memory import MemoryStore

N, K, M = 50, 4, 6


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(N, K)) * np.array([3.0, 1, 1, 0.3])
    return train, rng.normal(size=(M, K)), rng.uniform(0.1, 1, N)


@pytest.fixture(scope="module")
def geometry(data):
    return ng.natural_geometry(MemoryStore(data[0], {"weights": data[2]}), ridge=0.0)


def refitted(data, counts, share, ridge=0.0):
    """Scores with the covariance of the resampled examples, by the printed formula."""
    train, targets, weights = data
    copies = 1 + share * (counts - 1)
    q = (train * copies[:, None]).T @ train / N + ridge * np.eye(K)
    return targets @ np.linalg.inv(q) @ train.T * weights, q


@pytest.mark.parametrize(("share", "ridge"), [(1.0, 0.0), (0.1, 0.5)])
def test_draws_are_refits_of_the_covariance(data, share, ridge):
    train, targets, weights = data
    held = MemoryStore(train, {"weights": weights})
    geometry = ng.natural_geometry(held, ridge)
    got = evaluate.resample_examples(geometry, targets, draws=5, share=share, seed=7)
    rng, everyone = np.random.default_rng(7), np.ones(N)
    want, q = refitted(data, everyone, share, ridge)
    np.testing.assert_allclose(got.scores, want, rtol=1e-9, atol=1e-9)
    for draw, distance in zip(got.draws, got.distances, strict=True):
        counts = np.bincount(rng.integers(0, N, N), minlength=N)
        want, changed = refitted(data, counts, share, ridge)
        np.testing.assert_allclose(draw, want, rtol=1e-8, atol=1e-8)
        root = np.linalg.inv(np.linalg.cholesky(q))
        both = scipy.linalg.sqrtm(root @ changed @ root.T).real - np.eye(K)
        assert distance == pytest.approx(np.linalg.norm(both), rel=1e-6)


def test_no_pair_flips_inside_its_certified_radius(data, geometry):
    """Small resamples stay within many radii; large ones flip certified pairs."""
    order = ng.certify_rankings(geometry, data[1], ng.threats.Wasserstein2(0.01))
    radius = functools.cache(order.radius)
    small = evaluate.resample_examples(geometry, data[1], draws=60, share=0.05)
    found = evaluate.against_certificates(small, radius, pairs=60)
    gaps, sign = small._gaps(found.pairs)
    flipped = np.sign(gaps) != sign
    inside = found.distances[:, None] < found.radius[None, :]
    assert inside.mean() > 0.3
    assert (flipped & ~inside).any()
    assert not (flipped & inside).any()
    np.testing.assert_array_equal(flipped.mean(axis=0), found.flips)
    large = evaluate.resample_examples(geometry, data[1], draws=60)
    assert large.needed() > small.needed()
    assert large.needed(1.0) == large.distances.max()
    wide = evaluate.against_certificates(large, radius, pairs=60)
    np.testing.assert_array_equal(wide.pairs, found.pairs)
    assert wide.flips[wide.radius > 0].max() > 0
    # Both say the same of most pairs: far from flipping is far in either.
    close = wide.radius < np.median(wide.radius)
    assert wide.flips[close].mean() > 2 * wide.flips[~close].mean()


def test_summaries_of_the_draws():
    draws = np.array([[[1.0, 5, 2]], [[3.0, 4, 2]], [[2.0, 1, 2]], [[6.0, 2, 2]]])
    held = stability.Stability(np.array([[2.0, 3, 1]]), draws, None, 0)
    np.testing.assert_array_equal(held.median, [[2.5, 3, 2]])
    # Means 3 and 3; sums of squares 14 and 10 over three.
    want = [[3 / np.sqrt(14 / 3), 3 / np.sqrt(10 / 3), np.inf]]
    np.testing.assert_allclose(held.signal_to_noise, want)
    np.testing.assert_array_equal(held.activity(1), [[0.5, 0.5, 0]])
    assert held.activity(3).tolist() == [[1, 1, 1]]
    # Example 1 above 0 in two of four; the tie of 1 and 2 in the last is a flip.
    got = held.flips([[0, 1, 0], [0, 1, 2]])
    np.testing.assert_array_equal(got, [0.5, 0.5])
    with pytest.raises(ArgumentError, match="k=4 is more"):
        held.activity(4)
    with pytest.raises(ArgumentError, match=r"pairs, second\[0\]=3"):
        held.flips([[0, 1, 3]])
    with pytest.raises(ArgumentError, match=r"\[P, 3\]"):
        held.flips([0, 1])
    with pytest.raises(DataError, match="no distance"):
        held.needed()
    with pytest.raises(DataError, match="changes the metric"):
        evaluate.against_certificates(held, lambda **pair: 0.0)
    tied = stability.Stability(np.array([[2.0, 2, 1]]), draws, np.ones(4), 0)
    with pytest.raises(DataError, match=r"pairs\[0\] has two equal"):
        tied.flips([[0, 0, 1]])
    with pytest.raises(ArgumentError, match="level=0"):
        tied.needed(0)


@pytest.fixture(scope="module")
def both():
    rng = np.random.default_rng(1)
    return ng.ensemble(
        [
            (
                MemoryStore(rng.normal(size=(N, k)), {"weights": rng.uniform(size=N)}),
                rng.normal(size=(M, k)),
            )
            for k in (3, 5, 4)
        ],
        ridge=0.1,
    )


def test_checkpoints_are_resampled_by_the_ensemble_rule(both):
    got = evaluate.resample_checkpoints(both, draws=8, seed=3)
    np.testing.assert_allclose(got.scores, both.scores, atol=1e-5)
    rng = np.random.default_rng(3)
    for draw in got.draws:
        drawn = rng.integers(0, 3, 3)
        members = [(both.geometries[c], both.targets[c]) for c in drawn]
        np.testing.assert_allclose(draw, ng.ensemble(members).scores, atol=1e-5)
    with pytest.raises(ArgumentError, match="One checkpoint"):
        evaluate.resample_checkpoints(
            ng.ensemble([(both.geometries[0], both.targets[0])])
        )


def test_what_cannot_be_resampled_is_refused(data, geometry, monkeypatch):
    with pytest.raises(ArgumentError, match="share=0"):
        evaluate.resample_examples(geometry, data[1], share=0)
    with pytest.raises(ArgumentError, match="draws=1"):
        evaluate.resample_examples(geometry, data[1], draws=1)
    few = ng.natural_geometry(np.eye(3), ridge=0.0)
    with pytest.raises(DataError, match="singular covariance"):
        evaluate.resample_examples(few, np.ones((1, 3)), draws=50)
    monkeypatch.setattr(stability.resources, "available_memory", lambda: 1000)
    with pytest.raises(ArgumentError, match="Use fewer draws"):
        evaluate.resample_examples(geometry, data[1])
