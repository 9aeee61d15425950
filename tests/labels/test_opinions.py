"""Opinions on the rows of a table: none has seen the label, and each has its use."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from natgeo.labels import builtin, detectors, opinions
from natgeo.labels.left_out import skill
from natgeo.labels.scan import scan_labels


@pytest.fixture(autouse=True)
def relaxed():
    # Optax does not promise strict promotion; the user's process does not ask for it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_no_opinion_has_seen_the_label(rng):
    x = rng.normal(size=(160, 4)).astype(np.float32)
    y = rng.integers(0, 2, 160).astype(np.int32)
    said = opinions.table_opinions(x, y, 2, epochs=8)
    assert list(said) == ["trees", "network", "kernel", "lines"]
    for name, each in said.items():
        assert each.shape == (160, 2), name
        assert skill(each, y) < 0.06, name

    # A column that says the label: all of them see it, and the scan lists what they
    # weigh and orders by what they say together.
    x[:, 1] = y + 0.1 * x[:, 1]
    y[:8] = 1 - y[:8]
    said = opinions.table_opinions(x, y, 2, epochs=8)
    assert all(skill(each, y) > 0.4 for each in said.values())
    trained = builtin.train(x, y, 2, epochs=2)
    params = trained.checkpoints[-1]
    found = scan_labels(trained.apply, params, (x, y), opinions=said, batch_size=32)
    assert found.detector == "loss, out of sample"
    assert set(found.suspicious(8)) == set(range(8))
    assert "trees" in found.choices["opinions"]
    assert (found.suggestion.labels[:8] == 1 - y[:8]).all()


def test_waves_approximate_the_gaussian_kernel(rng):
    x = rng.normal(size=(2000, 3)) * [1, 10, 100] + 5
    waves = opinions.random_waves(x, count=2000)
    assert opinions.random_waves(x[:30]).shape == (30, 30)
    unit = (x - x.mean(axis=0)) / x.std(axis=0)
    distance = np.linalg.norm(unit[:100, None] - unit[None, :100], axis=2)
    width = np.median(np.linalg.norm(unit[:1000] - unit[1000:], axis=1))
    want = np.exp(-np.square(distance / width))
    got = 2 / 2000 * waves[:100] @ waves[:100].T
    assert np.abs(got - want).max() < 0.15
    assert np.abs(got - want).mean() < 0.03
    assert np.isfinite(opinions.random_waves(np.ones((5, 2)))).all()


def test_weights_are_the_likeliest_ones(rng):
    y = rng.integers(0, 3, 400)
    truth = np.eye(3)[y]
    good = truth + 0.8 * rng.normal(size=(400, 3))
    fair = truth + 1.5 * rng.normal(size=(400, 3))
    noise = rng.normal(size=(400, 3))
    weights = detectors.stack_weights([good, fair, noise], y)
    assert weights[0] > weights[1] > weights[2]
    assert weights[2] < 0.1

    def mean_loss(powers):
        total = powers[0] * good + powers[1] * fair + powers[2] * noise
        return detectors.loss(total, y).mean()

    best = mean_loss(weights)
    around = weights + 0.05 * rng.normal(size=(200, 3))
    assert min(mean_loss(np.maximum(one, 0)) for one in around) >= best - 1e-9
    together = detectors.loss(detectors.stacked([good, fair, noise], y), y)
    assert together.mean() == pytest.approx(best)
    assert best < min(detectors.loss(2 * one, y).mean() for one in (good, fair))
