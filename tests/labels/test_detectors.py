"""Scores of labels by the printed formulas, and on noise where one must win."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.evaluate.detection import auroc
from natgeo.labels import detectors, left_out


@pytest.fixture
def case(rng):
    return 2 * rng.standard_normal((40, 3)), rng.integers(0, 3, 40)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_scores_of_logits_are_the_printed_formulas(case):
    logits, labels = case
    p, n = softmax(logits), np.arange(40)
    np.testing.assert_allclose(detectors.loss(logits, labels), -np.log(p[n, labels]))
    rest = np.where(np.eye(3)[labels] > 0, -np.inf, logits).max(axis=1)
    np.testing.assert_allclose(
        detectors.margin(logits, labels), rest - logits[n, labels], atol=1e-12
    )
    rest = np.where(np.eye(3)[labels] > 0, 0, p).max(axis=1)
    np.testing.assert_allclose(
        detectors.normalized_margin(logits, labels), rest - p[n, labels], atol=1e-12
    )
    np.testing.assert_allclose(
        detectors.el2n(logits, labels), np.linalg.norm(p - np.eye(3)[labels], axis=1)
    )


def test_ranks_are_shared_and_run_from_0_to_1():
    np.testing.assert_allclose(detectors.rank([5.0, 1.0, 5.0]), [0.75, 0, 0.75])
    both = detectors.combined([[1.0, 2, 3], [3.0, 1, 2]])
    np.testing.assert_allclose(both, [0.5, 0.25, 0.75])
    mean = detectors.over_checkpoints([[1.0, 2], [3.0, 6]])
    np.testing.assert_allclose(mean, [2, 4])
    assert detectors.rank([7.0]).tolist() == [0.0]


def test_within_class_centres_each_class():
    got = detectors.within_class([1.0, 3, 10, 14], [0, 0, 5, 5])
    np.testing.assert_allclose(got, [-1, 1, -2, 2])


def test_predictions_are_averaged_and_pooled(rng):
    logits = rng.standard_normal((3, 8, 4))
    p = np.stack([softmax(each) for each in logits])
    np.testing.assert_allclose(np.exp(detectors.average(logits)), p.mean(axis=0))
    product = np.prod(p, axis=0) ** (1 / 3)
    want = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(detectors.pooled(logits)), want)


def test_a_suggestion_is_the_likeliest_class(case):
    logits, labels = case
    found, p = detectors.suggest(logits, labels), softmax(logits)
    np.testing.assert_array_equal(found.labels, p.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, p.max(axis=1))
    np.testing.assert_allclose(found.given, p[np.arange(40), labels])


def mistaken(rng, count=3000):
    """Class 0 is called 1 in a third of cases; all classes are hard to tell apart."""
    right = rng.integers(0, 4, count)
    logits = 2.5 * np.eye(4)[right] + rng.standard_normal((count, 4))
    given = np.where((right == 0) & (rng.random(count) < 1 / 3), 1, right)
    return logits, right, given


def test_the_noise_posterior_learns_what_is_confused_with_what(rng):
    logits, right, given = mistaken(rng)
    wrong = given != right
    ours = auroc(detectors.noise_posterior(logits, given), wrong)
    assert ours > auroc(detectors.loss(logits, given), wrong) + 0.01


def memorised(rng, count=600):
    """A network that agrees with every label, and a representation that does not."""
    right = rng.integers(0, 3, count)
    given = right.copy()
    flips = rng.choice(count, 60, replace=False)
    given[flips] = (right[flips] + 1) % 3
    hidden = 2 * np.eye(3)[right] + rng.standard_normal((count, 3))
    logits = 4 * np.eye(3)[given] + 0.5 * rng.standard_normal((count, 3))
    return logits, hidden, given, given != right


def test_a_readout_finds_what_the_network_has_memorised(rng):
    logits, hidden, given, wrong = memorised(rng)
    losses = detectors.loss(logits, given)
    features = softmax(logits) - np.eye(3)[given]
    features = (features[:, :, None] * hidden[:, None]).reshape(len(given), -1)
    assert auroc(losses, wrong) < 0.6
    alone = detectors.one_checkpoint(losses, features)
    np.testing.assert_array_equal(alone, left_out.held_out_loss(losses, features))
    read = detectors.one_checkpoint(losses, features, logits, given, [hidden])
    assert auroc(read, wrong) > 0.85
    several = detectors.several_checkpoints(logits[None], given, [hidden])
    assert auroc(several, wrong) > 0.85


def test_without_readouts_the_defaults_are_losses(case):
    logits, labels = case
    want = detectors.loss(logits, labels)
    np.testing.assert_allclose(detectors.out_of_sample(logits, labels), want)
    two = np.stack([logits, logits[::-1]])
    np.testing.assert_allclose(
        detectors.several_checkpoints(two, labels),
        detectors.loss(detectors.average(two), labels),
    )


def test_agreement_is_the_geometric_mean_of_network_and_readout(case, rng):
    logits, labels = case
    hidden = rng.standard_normal((40, 5))
    readout = left_out.leave_one_out(hidden, labels, classes=3)
    product = np.sqrt(softmax(logits) * np.exp(readout))
    got = np.exp(detectors.agreement(logits, labels, [hidden]))
    np.testing.assert_allclose(got, product / product.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("logits", "labels", "word"),
    [
        (np.zeros((3, 2)), [0, 1], "2 labels"),
        (np.zeros((2, 2)), [0, 2], "up to"),
        (np.zeros((2, 1)), [0, 0], "one column"),
        (np.full((2, 2), np.nan), [0, 1], "nan"),
        (np.zeros((2, 2)), [True, False], "bool"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, word):
    with pytest.raises(DataError, match=word):
        detectors.loss(logits, labels)


def test_checkpoints_that_are_none_are_refused(case):
    logits, labels = case
    with pytest.raises(DataError, match=r"\[C, N, classes\]"):
        detectors.several_checkpoints(logits, labels)
    with pytest.raises(DataError, match="checkpoints, examples"):
        detectors.over_checkpoints(labels.astype(float))
