"""What the inputs say of themselves: columns, pixels, patches, words, or nothing."""

import numpy as np
import pytest

import natgeo as ng
from natgeo.labels import detectors
from natgeo.labels.inputs import input_readout
from natgeo.labels.patches import patch_features


def test_rows_of_numbers_are_columns(rng):
    x = rng.standard_normal((5, 3))
    name, rows = input_readout(x)
    assert name == "columns"
    np.testing.assert_allclose(rows, x, rtol=1e-6)


def test_small_images_are_pixels_and_larger_ones_patches_at_any_scale(rng):
    small = rng.uniform(size=(4, 8, 8, 1))
    name, rows = input_readout(small)
    assert (name, rows.shape) == ("pixels", (4, 64))
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    images[0, 0, 0, 0] = 255
    name, rows = input_readout(images)
    assert name == "patches"
    want = patch_features(images / 255, 200)
    np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        input_readout(np.float32(images) / 255)[1], rows, rtol=1e-4, atol=1e-3
    )
    assert input_readout(images[..., :1])[1].shape == (6, 800)


def test_whole_numbers_are_words():
    name, rows = input_readout(np.array([[3, 3, 1, 0], [2, 0, 0, 0]]))
    assert name == "words"
    want = np.array([[0, 1, 0, 2], [0, 0, 1, 0]]) / np.sqrt([[5], [1]])
    np.testing.assert_allclose(rows, want, rtol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(5),
        np.zeros((5, 4000)),
        np.array([["a"], ["b"]]),
        np.array([[1, -1], [0, 2]]),
        np.array([[1, 5000], [0, 2]]),
        np.zeros((1, 3)),
        np.broadcast_to(np.float32(0), (90_000, 16, 16, 1)),
    ],
    ids=["scalars", "wide", "text", "signed", "many words", "one row", "many images"],
)
def test_what_has_no_plain_features_has_no_second_opinion(x):
    assert input_readout(x) is None


def test_they_are_the_default_of_a_scan_and_can_be_left_out(rng):
    centers = 3 * np.eye(3, 4)
    truth = rng.integers(0, 3, 90)
    x = np.float32(centers[truth] + rng.standard_normal((90, 4)))
    y = np.where(np.arange(90) < 9, (truth + 1) % 3, truth)
    params = {"w": np.float32(0.1 * rng.standard_normal((4, 3)))}

    def apply(params, x):
        return x @ params["w"]

    scan = ng.scan_labels(apply, params, (x, y))
    assert scan.choices["second opinion"] == "columns"
    assert scan.detector == "loss, held out and readout"
    task = ng.tasks.classification(apply, output="loss")
    store = ng.featurize(task, params, (x, y), ng.projectors.Identity())
    want = detectors.one_checkpoint(
        store.column("outputs"), store, x @ params["w"], y, [x]
    )
    np.testing.assert_allclose(scan.scores[scan.detector], want, rtol=2e-3, atol=1e-4)
    alone = ng.scan_labels(apply, params, (x, y), readouts=())
    assert "second opinion" not in alone.choices
    assert alone.detector == "loss, held out"
    wrong = np.arange(90) < 9
    # The network knows nothing; the inputs do.
    assert scan.detection(wrong)[scan.detector]["auroc"] > 0.9
    assert alone.detection(wrong)[alone.detector]["auroc"] < 0.8
