"""The float32 screen against exact comparisons, and counts that do not depend on it."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from natgeo.certify import screen, sweep, tile_counts
from natgeo.certify.rankings import certify_rankings
from natgeo.certify.rounding import prove
from natgeo.certify.threats import Wasserstein2
from natgeo.errors import UnfitEnvironmentError
from natgeo.geometry import kernels
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles
from tests.certify.test_sweep import scored

KERNELS = [screen.in_numpy, kernels.xla]
RADII = [0.0, 0.003, 0.05, 0.3]
SCALES = [1e-300, 1e-154, 1e-45, 1e-38, 1e-30, 1.0, 1e20, 1e38, 1e154, 1e300]


def exact_counts(proof, targets, radii=RADII, ridge=True):
    """The float64 comparison of every pair, without a screen."""
    with mock.patch.object(
        screen, "screenable", lambda errors: np.zeros(len(errors), bool)
    ):
        return counts(proof, targets, radii, screen.in_numpy, ridge)


def counts(proof, targets, radii=RADII, kernel=screen.in_numpy, ridge=True):
    found = scored(proof, targets)
    kappas = [Wasserstein2(eps).kappa() for eps in radii]
    asked = radii if ridge else None
    return sweep.count_certified(proof, found, kappas, asked, kernel=kernel)


def hostile_level(ridge, seed, *, exact):
    """Scores within a few float32 units of their bounds, on either side."""
    rng = np.random.default_rng(seed)
    m, rows, columns = 3, 40, 50
    # The same for all targets, so that the bounds are close for all of them.
    left = np.tile(np.float32(rng.normal(size=rows)), (m, 1))
    right = np.tile(np.float32(rng.normal(size=columns)), (m, 1))
    right[:, 7] = left[:, 4] + np.float32(1e-4)
    gaps = np.abs(np.float64(left[0])[:, None] - np.float64(right[0]))
    off = 1 + 2.0**-19 * rng.uniform(-3, 3, size=gaps.shape)
    first = np.float32(np.square(gaps * off))
    first[3] = np.inf
    first[4] = 0
    curve = None
    if ridge:
        curve = screen.Curve(
            np.float32(rng.uniform(0, 1, size=gaps.shape)),
            np.float32([0.9, 0.5, 0.01]),
            np.float32(0.7),
            np.float32([0.01, 0.3, 2.0**-30]),
            np.float32(0.1),
        )
        first = np.float32(np.square(gaps * off / np.float32(factor(curve, 0))))
        first[3] = np.inf
        first[4] = 0
    errors = np.zeros(3) if exact else np.array([0.0, 1e-7, 1e-3])
    return left, right, screen.Level(first, screen.rooms(errors), curve), errors


def factor(curve, target):
    """By how much the bound under a ridge is smaller, in float64."""
    shares = np.float64(curve.shares)
    total = shares + np.float64(curve.own[target])
    found = np.float64(curve.root) * np.sqrt(total) + np.float64(curve.flat[target])
    return np.minimum(found + np.float64(curve.slope) * shares, 1)


def check_kernel(kernel):
    """Whatever E and the gap are within their errors, a sure pair is above."""
    for ridge, seed in itertools.product((False, True), range(4)):
        left, right, level, errors = hostile_level(ridge, seed, exact=seed < 2)
        sure, possible = kernel(left, right, level)
        for m, error in enumerate(errors):
            gaps = np.abs(np.float64(left[m])[:, None] - np.float64(right[m]))
            bound = np.float64(level.first)
            if level.curve is not None:
                bound = bound * np.square(factor(level.curve, m))
            # The constants of a level are rounded to float32, five times.
            room = 5 * 2.0**-24
            least, most = np.maximum(gaps - error, 0), gaps + error
            certain = np.square(least) > bound * (1 + room)
            conceivable = np.square(most) > bound * (1 - room)
            assert (sure[m] <= certain.sum(axis=0)).all()
            assert (possible[m] >= conceivable.sum(axis=0)).all()
            # And it leaves little open.
            wide = 1e-5 * np.maximum(most, 1) + 2 * error + 2e-6
            clear = np.abs(gaps - np.sqrt(bound)) > wide
            doubt = (possible[m] - sure[m]).sum()
            if ridge:  # otherwise all targets have the largest room
                assert doubt <= np.count_nonzero(~clear)


def check_scaled():
    """The errors cover both ends of every interval, exactly."""
    rng = np.random.default_rng(2)
    for size, width in itertools.product((1e-30, 1.0, 1e20, 1e200), (0, 1e-9, 0.1)):
        middle = size * rng.normal(size=(2, 9))
        half = width * np.abs(middle)
        low, high = middle - half, middle + half
        found = screen.scaled(low, high, np.array([1.0, 3.7]) * size, 2.0)
        for t, i in np.ndindex(*low.shape):
            if not np.isfinite(found.errors[t, i]):
                continue
            unit = Fraction(float(found.unit[t]))
            value = Fraction(float(found.values[t, i]))
            for end in (low[t, i], high[t, i]):
                off = abs(value - unit * Fraction(float(end)))
                assert off <= Fraction(float(found.errors[t, i]))
        assert np.isfinite(found.errors).all()
        # A tile adds the worst error of its rows to the worst of its columns.
        for rows, columns in ((slice(0, 4), slice(4, 9)), (slice(2, 9), slice(0, 1))):
            error = found.error(rows, columns)
            for t, i, j in itertools.product(
                range(2), *map(list, (range(9), range(9)))
            ):
                if i in range(9)[rows] and j in range(9)[columns]:
                    assert error[t] >= float(found.errors[t, i]) + float(
                        found.errors[t, j]
                    )


def check_rooms():
    for error in (0.0, 1e-30, 0.1, 1 / 3, 1e9):
        room = screen.rooms(np.array([error]))[0]
        assert Fraction(float(room)) >= Fraction(error) + Fraction(2) ** -49
        assert float(room) <= error * (1 + 1e-6) + 2.0**-47


def check_counts_at_breaking_radii():
    for ridge in (0.0, 0.01):
        proof, targets, radii = near_threshold(ridge=ridge)
        exact = exact_counts(proof, targets, radii)
        np.testing.assert_array_equal(counts(proof, targets, radii), exact)
        assert exact.any()


def check_counts_of_uneven_targets():
    """A target so small that its limit is not that of the others."""
    proof, targets, radii = near_threshold()
    targets = targets.astype(np.float64)
    targets[0] *= 1e-75
    exact = exact_counts(proof, targets, radii)
    np.testing.assert_array_equal(counts(proof, targets, radii), exact)


def check_wide_intervals():
    """Score intervals a thousandth wide: nothing is sure that they do not prove."""
    proof, targets, radii = near_threshold()
    found = scored(proof, targets)
    half = 1e-3 * np.abs(found.low).max(axis=1, keepdims=True)
    wide = dataclasses.replace(found, low=found.low - half, high=found.high + half)
    kappas = [Wasserstein2(eps).kappa() for eps in radii]
    with mock.patch.object(
        screen, "screenable", lambda errors: np.zeros(len(errors), bool)
    ):
        exact = sweep.count_certified(proof, wide, kappas)
    np.testing.assert_array_equal(sweep.count_certified(proof, wide, kappas), exact)


def check_many_radii():
    for ridge in (0.0, 0.01):
        proof, targets, radii = near_threshold(ridge=ridge)
        many = [*radii, 0.0, 0.01, 0.1]
        together = counts(proof, targets, many)
        one_by_one = [counts(proof, targets, [eps]) for eps in many]
        np.testing.assert_array_equal(together, np.concatenate(one_by_one, axis=1))
        fused = counts(proof, targets, many, kernels.xla)
        np.testing.assert_array_equal(together, fused)


def check_reference_kernel():
    check_kernel(screen.in_numpy)


def check_xla_kernel():
    check_kernel(kernels.xla)


def check_tall_tiles():
    """More rows than a byte can count."""
    ones = np.ones((1, 600), np.float32)
    level = screen.Level(np.zeros((600, 3), np.float32), np.float32([0]))
    for kernel in (screen.in_numpy, kernels.xla):
        assert (kernel(ones, np.zeros((1, 3), np.float32), level) == 600).all()


def near_threshold(n=600, k=4, ridge=0.0, seed=5):
    """Many pairs, and radii that are breaking radii of some of them."""
    rng = np.random.default_rng(seed)
    train = np.float32(rng.normal(size=(n, k)) * np.geomspace(1, 0.1, k))
    targets = np.float32(rng.normal(size=(6, k)))
    proof = prove(natural_geometry(train, ridge))
    c = oracles.cosines(train, targets[0], ridge)
    radii = [float(Wasserstein2.radius(abs(c[0, j]))) for j in range(1, 5)]
    return proof, targets, radii


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_says_sure_and_possible_only_when_it_is(kernel):
    check_kernel(kernel)


def test_errors_cover_the_intervals():
    check_scaled()


def test_tall_tiles_are_counted():
    check_tall_tiles()


def test_uneven_targets_count_the_same():
    check_counts_of_uneven_targets()


def test_wide_intervals_count_the_same():
    check_wide_intervals()


def test_rooms_are_rounded_up():
    check_rooms()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_counts_at_breaking_radii_do_not_depend_on_the_screen(kernel, ridge):
    proof, targets, radii = near_threshold(ridge=ridge)
    exact = exact_counts(proof, targets, radii)
    np.testing.assert_array_equal(counts(proof, targets, radii, kernel), exact)
    assert exact.any()


def test_many_radii_count_the_same_as_one_by_one():
    check_many_radii()


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
@pytest.mark.parametrize("weighted", [False, True])
def test_families_count_the_same_without_a_screen(name, weighted):
    case = families.case(name, weighted=weighted)
    proof = prove(case.geometry())
    with np.errstate(all="ignore"):
        exact = exact_counts(proof, case.targets)
        np.testing.assert_array_equal(counts(proof, case.targets), exact)


@pytest.mark.parametrize("train_scale", [1e-45, 1e-30, 1.0, 1e20, 1e75])
@pytest.mark.parametrize("target_scale", SCALES)
def test_values_beyond_float32_count_the_same(train_scale, target_scale):
    rng = np.random.default_rng(6)
    train = train_scale * rng.normal(size=(40, 3))
    with np.errstate(all="ignore"):
        proof = prove(natural_geometry(train, 0.0))
        targets = target_scale * rng.normal(size=(2, 3))
        exact = exact_counts(proof, targets)
        for kernel in KERNELS:
            np.testing.assert_array_equal(counts(proof, targets, kernel=kernel), exact)


@pytest.mark.parametrize("weight", SCALES)
def test_weights_beyond_float32_count_the_same(weight):
    """Weights of every size at once, so that no one scale fits all pairs."""
    rng = np.random.default_rng(7)
    weights = rng.uniform(0.1, 1, size=40)
    weights[::3] *= weight
    store = MemoryStore(rng.normal(size=(40, 3)), {"weights": weights})
    targets = rng.normal(size=(2, 3))
    with np.errstate(all="ignore"):
        proof = prove(natural_geometry(store, 0.0))
        exact = exact_counts(proof, targets)
        for kernel in KERNELS:
            np.testing.assert_array_equal(counts(proof, targets, kernel=kernel), exact)


def test_one_bad_target_does_not_spoil_the_others():
    """NaN, infinite and wide scores go to float64; the rest is still screened."""
    proof, targets, radii = near_threshold(n=100)
    found = scored(proof, targets)
    low, high = found.low.copy(), found.high.copy()
    low[1], high[2, 3] = np.nan, np.inf
    low[3] -= 0.1
    broken = dataclasses.replace(found, low=low, high=high)
    kappas = [Wasserstein2(eps).kappa() for eps in radii]
    calls = []

    def seen(left, right, level):
        calls.append(len(left))
        return screen.in_numpy(left, right, level)

    with np.errstate(all="ignore"):
        got = sweep.count_certified(proof, broken, kappas, kernel=seen)
        with mock.patch.object(
            screen, "screenable", lambda errors: np.zeros(len(errors), bool)
        ):
            exact = sweep.count_certified(proof, broken, kappas)
    np.testing.assert_array_equal(got, exact)
    assert not got[1].any()
    assert set(calls) == {3}


def test_the_screen_leaves_little_open():
    proof, targets, radii = near_threshold(n=1500, k=8)
    recounted = []
    honest = tile_counts._recount

    def record(*args):
        found = honest(*args)
        recounted.append(len(found))
        return found

    with mock.patch.object(tile_counts, "_recount", record):
        counts(proof, targets, radii)
    columns = 1500 * len(radii) * len(targets) * 4
    assert sum(recounted) < 0.05 * columns


@pytest.mark.parametrize("change", [(1, 0), (0, -1), (1, 1)])
def test_a_kernel_that_lies_is_caught(change):
    """Counts that float64 contradicts in the column that every tile checks."""
    proof, targets, radii = near_threshold(n=300)

    def liar(left, right, level):
        honest = screen.in_numpy(left, right, level)
        # Everything sure, or nothing possible.
        rows = level.first.shape[0]
        return honest * 0 + np.array([change[0] * rows, rows * (1 + change[1])])[
            :, None, None
        ].astype(np.int32)

    with pytest.raises(UnfitEnvironmentError, match="contradicts float64"):
        counts(proof, targets, radii, liar)


def test_the_public_sweep_takes_a_kernel():
    case = families.case("random with ridge")
    geometry, threat = case.geometry(), Wasserstein2(0.05)
    plain = certify_rankings(geometry, case.targets, threat)
    fast = certify_rankings(geometry, case.targets, threat, kernel=kernels.xla)
    np.testing.assert_array_equal(plain.fraction, fast.fraction)
    np.testing.assert_array_equal(plain.curve(RADII), fast.curve(RADII))


@pytest.mark.parametrize("small", [1e-300, 1e-251, 1e-160])
def test_a_target_of_next_to_no_length_does_not_disturb_the_others(small):
    """Its unit overflows, and so does the median of both."""
    rng = np.random.default_rng(6)
    train, target = rng.normal(size=(40, 3)), 1e60 * rng.normal(size=(1, 3))
    proof = prove(natural_geometry(MemoryStore(train), 1e-3))
    tiny = target * (1e-60 * small)
    alone = counts(proof, target)
    found = counts(proof, np.concatenate([tiny, target]))
    np.testing.assert_array_equal(found[1:], alone)
    assert (alone > 0).all()
