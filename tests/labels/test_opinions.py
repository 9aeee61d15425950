"""Opinions on the rows of a table: none has seen the label, and each has its use."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import ArgumentError, DataError
from natgeo.labels import detectors, inputs, opinions
from natgeo.labels.left_out import skill
from natgeo.labels.scan import scan_labels


@pytest.fixture(autouse=True)
def relaxed():
    # Optax does not promise strict promotion; the user's process does not ask for it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_no_opinion_has_seen_the_label(rng):
    x = rng.normal(size=(120, 4)).astype(np.float32)
    y = rng.integers(0, 2, 120).astype(np.int32)
    said = opinions.table_opinions(x, y, 2, epochs=8)
    assert list(said) == ["trees", "network", "kernel", "lines"]
    x[:, 1] = y + 0.1 * x[:, 1]
    knows = opinions.table_opinions(x, y, 2, epochs=8)
    for name, each in said.items():
        assert each.shape == (120, 2), name
        assert skill(each, y) < 0.07, name  # its own label alone says 1
        assert skill(knows[name], y) > 0.4, name


def test_opinions_decide_in_the_place_of_the_model(rng):
    """A model that repeats every label, two opinions that do not, and noise."""
    right = np.arange(60) % 3
    given = right.astype(np.int32)
    given[:6] = (right[:6] + 1) % 3
    x = np.eye(3, dtype=np.float32)[given]
    said = {
        "good": np.log(0.2 + np.eye(3)[right] + 0.1 * rng.random((60, 3))),
        "noise": rng.normal(size=(60, 3)),
    }
    params = jnp.eye(3) * 3
    found = scan_labels(
        lambda w, z: z @ w, params, (x, given), opinions=said, batch_size=20
    )
    assert found.detector == "loss, out of sample"
    assert set(found.suspicious(6)) == set(range(6))
    np.testing.assert_array_equal(found.suggestion.labels[:6], right[:6])
    assert "good" in found.choices["opinions"]
    assert "second opinion" not in found.choices  # no readout was asked
    want = detectors.loss(detectors.stacked(list(said.values()), given), given)
    np.testing.assert_array_equal(found.scores[found.detector], want)
    with pytest.raises(ArgumentError, match="opinions= needs a model"):
        scan_labels(x, labels=given, opinions=said)
    with pytest.raises(DataError, match="59"):
        scan_labels(
            lambda w, z: z @ w, params, (x, given), opinions={"a": said["good"][:59]}
        )


def test_waves_approximate_the_gaussian_kernel(rng):
    x = rng.normal(size=(2000, 3)) * [1, 10, 100] + 5
    waves = inputs.random_waves(x, count=2000)
    assert inputs.random_waves(x[:30]).shape == (30, 30)
    unit = (x - x.mean(axis=0)) / x.std(axis=0)
    distance = np.linalg.norm(unit[:100, None] - unit[None, :100], axis=2)
    width = np.median(np.linalg.norm(unit[:1000] - unit[1000:], axis=1))
    want = np.exp(-np.square(distance / width))
    got = 2 / 2000 * waves[:100] @ waves[:100].T
    assert np.abs(got - want).max() < 0.15
    assert np.abs(got - want).mean() < 0.03
    assert np.isfinite(inputs.random_waves(np.ones((5, 2)))).all()


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
