"""Random-patch features by the loops of the paper, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.labels import patches


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(patches, "SAMPLED", 400)


def test_responses_are_summed_over_quarters(rng):
    images = rng.random((1, 8, 9, 2)).astype(np.float32)
    mean, bank = rng.standard_normal(72), rng.standard_normal((72, 5)) / 8
    got = patches._pooled(images, mean, bank)
    want = np.zeros((2, 2, 2, 5))
    for top in range(3):
        for left in range(4):
            patch = images[0, top : top + 6, left : left + 6].reshape(-1)
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 1.5e-4)
            for sign, factor in enumerate((1, -1)):
                response = factor * ((patch - mean) @ bank) - 0.25
                want[sign, int(top >= 1), int(left >= 2)] += np.maximum(response, 0)
    np.testing.assert_allclose(got[0], want.reshape(-1), atol=1e-4)


def test_bright_images_keep_their_contrast(rng):
    """Bytes far from zero: a variance from sums in float32 would be lost."""
    images = np.float32(200 + rng.integers(0, 2, (2, 9, 8, 1)))
    images[1] += 40
    mean, bank = np.zeros(36), rng.standard_normal((36, 3))
    got = patches._pooled(images, mean, bank).reshape(2, 2, 4, 3)
    want = np.zeros((2, 2, 3))
    for image in range(2):
        for top, left in np.ndindex(4, 3):
            patch = np.float64(images[image, top : top + 6, left : left + 6].ravel())
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 1.5e-4)
            for sign, factor in enumerate((1, -1)):
                want[image, sign] += np.maximum(factor * (patch @ bank) - 0.25, 0)
    np.testing.assert_allclose(got.sum(axis=2), want, rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_chunk(rng, monkeypatch):
    images = rng.random((11, 8, 7, 2))
    want = patches.patch_features(images, 3)
    monkeypatch.setattr(patches, "CHUNK", 5)
    got = patches.patch_features(images, 3)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_features_tell_textures_apart_and_are_seeded(rng):
    stripes = np.indices((20, 12, 12))[1] % 2
    images = np.where(np.arange(20)[:, None, None] % 2, stripes, stripes.mT)
    images = images + 0.1 * rng.random((20, 12, 12))
    first = patches.patch_features(images, 16, seed=1)
    assert first.shape == (20, 128)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, patches.patch_features(images, 16, seed=1))
    assert (first != patches.patch_features(images, 16, seed=2)).any()
    means = first[::2].mean(axis=0), first[1::2].mean(axis=0)
    own = np.linalg.norm(first[::2] - means[0], axis=1)
    other = np.linalg.norm(first[::2] - means[1], axis=1)
    assert (own < other).all()
    assert np.isfinite(patches.patch_features(np.zeros((2, 8, 8)), 4)).all()


@pytest.mark.parametrize("shape", [(3, 5, 9), (0, 8, 8, 1), (4, 8), (2, 8, 8, 1, 1)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match="at least"):
        patches.patch_features(np.zeros(shape))


def test_a_nan_is_refused():
    images = np.zeros((2, 8, 8))
    images[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="row 1"):
        patches.patch_features(images)
