"""First-order sensitivities against the printed formulas, by loops."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.certify import sensitivity
from natgeo.certify.sensitivity import Sensitivity
from natgeo.errors import ArgumentError
from tests import families, oracles

NAMES = ["random", "random with ridge", "n < k with ridge", "duplicates", "zero row"]
CASES = [
    families.case(name, dtype, 0, weighted)
    for name in NAMES
    for dtype in (np.float32, np.float64)
    for weighted in (False, True)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_natural_sensitivities_follow_the_printed_formula(case):
    found = sensitivity.natural(case.geometry(), case.targets)
    arguments = (case.train, case.targets, case.ridge, case.weights)
    np.testing.assert_allclose(
        found.slopes, oracles.natural_slopes(*arguments), rtol=1e-9
    )
    scale = np.abs(found.scores).max()
    np.testing.assert_allclose(
        found.scores, oracles.scores(*arguments), rtol=0, atol=1e-10 * scale
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_euclidean_sensitivities_follow_the_printed_formula(case):
    found = sensitivity.euclidean(case.geometry(), case.targets)
    arguments = (case.train, case.targets, case.ridge, case.weights)
    np.testing.assert_allclose(
        found.slopes, oracles.euclidean_slopes(*arguments), rtol=1e-9
    )
    natural = sensitivity.natural(case.geometry(), case.targets)
    np.testing.assert_array_equal(found.scores, natural.scores)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_separated_counts_the_disjoint_intervals(case):
    radii = [0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0]
    for kind in (sensitivity.natural, sensitivity.euclidean):
        found = kind(case.geometry(), case.targets)
        got = found.separated(radii)
        assert got.shape == (len(case.targets), len(radii))
        for t in range(len(case.targets)):
            for place, eps in enumerate(radii[1:], start=1):
                want = oracles.separated(found.scores[t], found.slopes[t], eps)
                assert got[t, place] == pytest.approx(want, abs=1e-12)
        assert (np.diff(got, axis=1) <= 0).all()
    assert got[:, 1:-1].any()


def test_intervals_that_touch_are_not_separated():
    # Ends and starts that meet exactly, in powers of two.
    scores = np.array([[0.0, 1.0, 2.0, 2.0]])
    slopes = np.array([[1.0, 1.0, 1.0, 0.0]])
    found = Sensitivity(scores, slopes)
    np.testing.assert_array_equal(
        found.separated([0.0, 0.25, 0.5, 1.0, 4.0]) * 6, [[5, 5, 3, 1, 0]]
    )


def test_separated_on_random_intervals_equals_brute_force():
    rng = np.random.default_rng(51)
    for n in (1, 2, 3, 17, 60):
        scores = np.round(rng.normal(size=(2, n)), 1)
        slopes = np.round(rng.uniform(0, 2, size=(2, n)), 1)
        got = Sensitivity(scores, slopes).separated([0.125, 0.5])
        for t in range(2):
            for place, eps in enumerate((0.125, 0.5)):
                # Sums of tenths: keep clear of intervals that nearly touch.
                near = np.abs(
                    np.abs(scores[t][:, None] - scores[t])
                    - eps * (slopes[t][:, None] + slopes[t])
                )
                if n > 1 and near[np.triu_indices(n, 1)].min() < 1e-9:
                    slopes = slopes + 1e-6
                    got = Sensitivity(scores, slopes).separated([0.125, 0.5])
                want = oracles.separated(scores[t], slopes[t], eps)
                assert got[t, place] == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("radius", [-1.0, np.nan, "1", True])
def test_bad_radii_are_refused(radius):
    found = Sensitivity(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(ArgumentError, match="radius"):
        found.separated([radius])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matched_radii_compare_the_same_displacements(case):
    train = np.float64(case.train)
    root = np.linalg.inv(np.linalg.cholesky(oracles.covariance(train, case.ridge)))
    raw = oracles.root_mean_square_distance(train)
    natural = oracles.root_mean_square_distance(train @ root.T)
    found = sensitivity.matched_radius(case.geometry())
    assert found == pytest.approx(raw / natural, rel=1e-9)


def test_matched_radius_of_equal_examples_is_not_a_number():
    train = np.full((4, 2), 0.5)
    case = families.Case("equal", train, train, None, 1.0, True)
    found = sensitivity.matched_radius(case.geometry())
    assert np.isnan(found) or found >= 0


def test_amplification_is_the_ratio_of_the_slopes_at_matched_radii():
    case = families.case("condition 1e4")
    geometry = case.geometry()
    ratio = oracles.euclidean_slopes(case.train, case.targets, case.ridge)
    ratio /= oracles.natural_slopes(case.train, case.targets, case.ridge)
    ratio *= sensitivity.matched_radius(geometry)
    found = sensitivity.amplification(geometry, case.targets)
    assert found["median"] == pytest.approx(np.median(ratio), rel=1e-6)
    assert found["max"] == pytest.approx(ratio.max(), rel=1e-6)


def test_separated_is_no_certificate():
    """The source's promise is broken at half the radius it calls safe (section 4).

    Mass m moved a distance eps / m along the first bisector costs eps in order 1 and
    flips a pair that the first-order intervals call stable.
    """
    rng = np.random.default_rng(52)
    train = rng.normal(size=(200, 4))
    targets = rng.normal(size=(1, 4))
    case = families.Case("source", train, targets, None, 0.0, True)
    found = sensitivity.natural(case.geometry(), targets)
    q = oracles.covariance(train, 0.0)
    root = np.linalg.inv(np.linalg.cholesky(q))
    u = root @ targets[0]
    broken = tried = 0
    for i, j in zip(range(0, 100, 2), range(1, 100, 2), strict=True):
        gap = found.scores[0, i] - found.scores[0, j]
        above, below = (i, j) if gap > 0 else (j, i)
        v = root @ (train[above] - train[below])
        promised = abs(gap) / (found.slopes[0, i] + found.slopes[0, j])
        eps = 0.5 * promised
        bisector = u / np.linalg.norm(u) + v / np.linalg.norm(v)
        bisector /= np.linalg.norm(bisector)
        # A vanishing mass m, as far away as eps / m: M^-1 gains eps^2 / m e1 e1^T.
        gained = np.eye(4) + 1e9 * np.outer(bisector, bisector)
        tried += 1
        broken += bool(u @ np.linalg.solve(gained, v) < 0)
        assert found.separated([eps * 0.999])[0, 0] >= 0
    assert broken == tried == 50
