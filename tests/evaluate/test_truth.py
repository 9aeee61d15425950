"""Scores against retrained models: dattri's numbers, scipy's, and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from natgeo import evaluate
from natgeo.errors import ArgumentError, DataError
from natgeo.evaluate import agreement, truth

FROZEN = Path(__file__).parent.parent / "data" / "lds.npz"


@pytest.fixture(scope="module")
def frozen():
    with np.load(FROZEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def half(frozen):
    """Outputs and weights of dattri's subsets."""
    weights = np.zeros((len(frozen["indices"]), frozen["scores"].shape[1]))
    np.put_along_axis(weights, frozen["indices"].astype(int), 1, axis=1)
    return frozen["outputs"], weights


def test_lds_is_that_of_dattri(frozen, half):
    got = evaluate.lds(frozen["scores"], half, resamples=10)
    np.testing.assert_allclose(got.each, frozen["lds"], rtol=0, atol=1e-15)
    assert got.value == pytest.approx(frozen["lds"].mean(), abs=1e-15)


def test_leave_one_out_correlation_is_that_of_dattri_with_our_sign(frozen):
    """dattri correlates with the output without i, we with what is lost."""
    count = frozen["scores"].shape[1]
    everything = np.zeros((1, len(frozen["scores"])))
    outputs = np.concatenate([everything, frozen["without"]])
    got = evaluate.leave_one_out(
        frozen["scores"], (outputs, evaluate.leave_out(count, range(count)))
    )
    np.testing.assert_allclose(got.pearson.each, -frozen["loo_corr"], atol=1e-14)
    for target, scores in enumerate(frozen["scores"]):
        lost = -frozen["without"][:, target]
        line = scipy.stats.linregress(scores / count, lost)
        assert got.slope.each[target] == pytest.approx(line.slope, rel=1e-12)
        want = scipy.stats.spearmanr(scores, lost).statistic
        assert got.spearman.each[target] == pytest.approx(want, abs=1e-14)


def test_scores_of_a_linear_model_are_its_leave_one_out_effects():
    """Without i the output falls by tau(t, i) / N / (1 - h_i), by Sherman-Morrison."""
    import natgeo as ng
    from natgeo.store.memory import MemoryStore

    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(60, 3)), rng.normal(size=(5, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + rng.normal(size=60)
    ridge = 0.01

    def fitted(keep):
        left = x[keep].T @ x[keep] + len(x) * ridge * np.eye(3)
        return targets @ np.linalg.solve(left, x[keep].T @ y[keep])

    everything = np.arange(60)
    outputs = [fitted(everything)]
    outputs += [fitted(np.delete(everything, i)) for i in everything]
    residual = y - x @ np.linalg.solve(x.T @ x + len(x) * ridge * np.eye(3), x.T @ y)
    geometry = ng.natural_geometry(MemoryStore(x, {"weights": residual}), ridge)
    scores = ng.scores(geometry, targets)
    rows = evaluate.leave_out(60, range(60))
    got = evaluate.leave_one_out(scores, (np.array(outputs), rows))
    # Leverages are about 3/60, so slopes are a little above one.
    assert got.pearson.each.min() > 0.995
    assert 1.02 < got.slope.value < 1.1
    exact = scores / (1 - ng.self_influence(geometry)[None, :] / 60)
    got = evaluate.leave_one_out(exact, (np.array(outputs), rows))
    np.testing.assert_allclose(got.slope.each, 1, rtol=1e-10)
    np.testing.assert_allclose(got.pearson.each, 1, rtol=1e-12)
    # Groups add up, to first order.
    groups = [[0, 1], [5, 9, 20], [33]]
    some = [fitted(everything), *(fitted(np.delete(everything, g)) for g in groups)]
    pair = np.array(some), evaluate.leave_out(60, groups)
    assert evaluate.leave_one_out(scores, pair).pearson.value > 0.99


def test_a_resample_counts_repeated_models_as_scipy_does(frozen):
    rng = np.random.default_rng(2)
    x, y = frozen["outputs"].T, np.round(frozen["outputs"].T[::-1])
    for _ in range(5):
        drawn = rng.integers(0, x.shape[1], x.shape[1])
        counts = np.bincount(drawn, minlength=x.shape[1]).astype(float)
        for name, want in (
            ("spearman", scipy.stats.spearmanr),
            ("pearson", scipy.stats.pearsonr),
            ("slope", scipy.stats.linregress),
        ):
            got = getattr(agreement, name)(x, y, counts)
            each = [want(a, b) for a, b in zip(x[:, drawn], y[:, drawn], strict=True)]
            each = [
                getattr(e, "slope" if name == "slope" else "statistic") for e in each
            ]
            np.testing.assert_allclose(got, each, rtol=1e-10)


def test_the_interval_covers_what_other_targets_and_models_give():
    """95 % intervals hold the expectation in most of 40 worlds (38 expected)."""
    rng, held = np.random.default_rng(3), 0
    # Correlation 0.6 of normal numbers is a rank correlation of 6/pi asin(0.3).
    want = 6 / np.pi * np.arcsin(0.3)
    for _ in range(40):
        x = rng.normal(size=(20, 30))
        y = 0.6 * x + 0.8 * rng.normal(size=x.shape)
        found = agreement.agreement(x, y, agreement.spearman, resamples=150)
        assert found.low < found.value < found.high
        held += found.low <= want <= found.high
    assert 33 <= held


def test_differences_are_sharper_than_two_intervals(frozen, half):
    rng = np.random.default_rng(4)
    ours = evaluate.lds(frozen["scores"], half, resamples=300)
    near = frozen["scores"] + 0.2 * rng.normal(size=frozen["scores"].shape)
    other = evaluate.lds(near, half, resamples=300)
    gap = ours.minus(other)
    assert gap.value == pytest.approx(ours.value - other.value)
    assert gap.high - gap.low < (ours.high - ours.low) / 2
    assert (ours.minus(ours).low, ours.minus(ours).high) == (0, 0)
    with pytest.raises(ArgumentError, match="not resampled alike"):
        ours.minus(evaluate.lds(near, half, resamples=300, seed=1))


def test_the_ceiling_is_what_one_half_of_the_seeds_says_of_the_other():
    rng = np.random.default_rng(5)
    signal = rng.normal(size=(1, 50, 4))
    each = signal + 0.5 * rng.normal(size=(6, 50, 4))
    made = evaluate.Retrained(each, np.ones((50, 9)), tuple(range(6)), 1)
    got = evaluate.ceiling(made, resamples=20)
    want = [
        scipy.stats.spearmanr(each[::2].mean(0)[:, t], each[1::2].mean(0)[:, t])[0]
        for t in range(4)
    ]
    np.testing.assert_allclose(got.each, want, atol=1e-12)
    with pytest.raises(DataError, match="retrain with at least two"):
        evaluate.ceiling(evaluate.Retrained(each[:1], np.ones((50, 9)), (0,), 1))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scores": np.ones((7, 3))}, DataError, "expected 7 targets and 40 training"),
        (
            {"scores": np.ones((7, 40))},
            DataError,
            "predictions of target 0 are the same",
        ),
        ({"scores": np.full((7, 40), np.inf)}, DataError, "scores holds inf"),
        ({"retrained": 3}, ArgumentError, "what evaluate.retrain returns"),
        (
            {"retrained": (np.ones((4, 7)), np.ones((5, 40)))},
            DataError,
            "a row of each",
        ),
        ({"retrained": (np.ones((2, 7)), np.ones((2, 40)))}, DataError, "at least 3"),
        ({"resamples": 0}, ArgumentError, "resamples=0"),
        ({"level": 1.0}, ArgumentError, "level=1.0"),
        ({"seed": -1}, ArgumentError, "seed=-1"),
    ],
)
def test_bad_arguments_end_in_one_sentence(frozen, half, change, error, words):
    arguments = {"scores": frozen["scores"], "retrained": half} | change
    with pytest.raises(error, match=words):
        truth.lds(**arguments)


def test_leave_one_out_needs_a_model_of_everything(frozen, half):
    with pytest.raises(DataError, match="Row 0 of the weights"):
        evaluate.leave_one_out(frozen["scores"], half)
