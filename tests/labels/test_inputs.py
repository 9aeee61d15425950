"""What the inputs say of themselves: columns, pixels, patches, words, or nothing."""

import numpy as np
import pytest

import natgeo as ng
from natgeo.labels import detectors, left_out
from natgeo.labels.inputs import input_readouts, random_waves, second_opinion
from natgeo.labels.patches import patch_features


def test_rows_of_numbers_are_columns(rng):
    x = rng.standard_normal((5, 3))
    name, (rows, waves) = input_readouts(x)
    assert name == "columns"
    np.testing.assert_array_equal(waves, random_waves(rows))
    np.testing.assert_allclose(rows, x, rtol=1e-6)


def test_small_images_are_pixels_and_larger_ones_patches_at_any_scale(rng):
    small = rng.uniform(size=(4, 8, 8, 1))
    name, (rows, waves) = input_readouts(small)
    assert (name, rows.shape, waves.shape) == ("pixels", (4, 64), (4, 4))
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    images[0, 0, 0, 0] = 255
    name, (rows,) = input_readouts(images)
    assert name == "patches"
    want = patch_features(images / 255, 200)
    np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        input_readouts(np.float32(images) / 255)[1][0], rows, rtol=1e-4, atol=1e-3
    )
    assert input_readouts(images[..., :1])[1][0].shape == (6, 800)


def test_whole_numbers_are_words():
    name, (rows,) = input_readouts(np.array([[3, 3, 1, 0], [2, 0, 0, 0]]))
    assert name == "words"
    want = np.array([[0, 1, 0, 2], [0, 0, 1, 0]]) / np.sqrt([[5], [1]])
    np.testing.assert_allclose(rows, want, rtol=1e-6)


def test_a_kernel_sees_what_lines_cannot(rng):
    x = np.float32(rng.standard_normal((400, 2)))
    y = np.int32(x[:, 0] * x[:, 1] > 0)
    _, readouts = input_readouts(x)
    lines = left_out.leave_one_out(readouts[0], y).argmax(axis=1)
    both = second_opinion(readouts, y, 2).argmax(axis=1)
    assert (lines == y).mean() < 0.7
    assert (both == y).mean() > 0.9


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
    assert input_readouts(x) is None


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
    network = left_out.held_out(x @ params["w"], y, store)
    said = [left_out.leave_one_out(each, y) for each in (x, random_waves(x))]
    both = detectors.weighed(network, y, [detectors.stacked(said, y)])
    want = detectors.loss(both, y)
    np.testing.assert_allclose(scan.scores[scan.detector], want, rtol=2e-3, atol=1e-4)
    alone = ng.scan_labels(apply, params, (x, y), readouts=())
    assert "second opinion" not in alone.choices
    assert alone.detector == "loss, held out"
    wrong = np.arange(90) < 9
    # The network knows nothing; the inputs do.
    assert scan.detection(wrong)[scan.detector]["auroc"] > 0.9
    assert alone.detection(wrong)[alone.detector]["auroc"] < 0.8
