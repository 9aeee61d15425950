"""The least value over the disc against exact rationals and a fine grid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import disc
from natgeo.certify.threats import Wasserstein2

RADII = (0.0, 1e-9, 0.01, 0.3, 0.6, 0.9, 0.99)


def forms():
    """Pairs s, n: random, parallel, opposite, a zero, and far scales."""
    rng = np.random.default_rng(8)
    norms = 10.0 ** rng.uniform(-3, 3, 40)
    scores = norms * rng.uniform(-1, 1, 40)
    norms[:6], scores[:6] = [1, 1, 2, 0, 1e150, 1e-150], [1, -1, 0, 0, 1e149, 1e-151]
    return scores, norms


def exact(score, norm, eps, t):
    """A / s1^2 - B / s2^2 at one point of the arc, as a rational."""
    s, n, e, t = (Fraction(float(value)) for value in (score, norm, eps, t))
    x, y = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return (n + s) / 2 / (1 + e * x) ** 2 - (n - s) / 2 / (1 - e * y) ** 2


def lowest_place(score, norm, eps):
    """Where a fine grid of the whole disc boundary's quarter is lowest."""
    t = np.linspace(0, 1, 20001)
    x, y = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    value = (norm + score) / 2 / (1 + eps * x) ** 2
    value = value - (norm - score) / 2 / (1 - eps * y) ** 2
    return float(t[np.argmin(value)])


def check_never_above(function=disc.least, loose=1e-12):
    for eps in RADII:
        scores, norms = forms()
        for s, n, low in zip(scores, norms, function(scores, norms, eps), strict=True):
            place = lowest_place(s, n, eps)
            points = [0.0, 1.0, place, *np.linspace(0, 1, 8)]
            found = min(exact(s, n, eps, t) for t in points)
            assert Fraction(float(low)) <= found
            size = Fraction(float(n)) + abs(found)
            # The grid is this close to the true minimum; its curvature grows near 1.
            room = Fraction(loose) + Fraction(eps) * 10**-7 / Fraction(1 - eps) ** 4
            assert found - Fraction(float(low)) <= room * size + Fraction(1, 10**200)


def test_the_bound_is_below_every_point_and_close_to_the_least():
    check_never_above()


def test_the_quick_bound_is_below_as_well():
    check_never_above(disc.least_quick, loose=3e-7)


@pytest.mark.parametrize("eps", [1e-5, 0.02, 0.3, 0.7])
def test_the_quick_bound_is_never_above_the_other(eps):
    rng = np.random.default_rng(3)
    norms = rng.uniform(0.5, 2, 20000)
    scores = norms * np.cos(rng.uniform(0, np.pi, 20000))
    scores[:3] = norms[:3] * [1, -1, 1 - 2.0**-53]
    quick, slow = (f(scores, norms, eps) for f in (disc.least_quick, disc.least))
    assert (quick <= slow + 1e-12 * norms).all()
    assert (quick >= slow - 1e-6 * eps / (1 - eps) ** 3 * norms).all()


def check_rounding():
    """One term alone, whose least value is at an end: nothing hides its rounding."""
    rng = np.random.default_rng(4)
    for eps, norm in zip(rng.uniform(0, 0.9, 400), rng.uniform(1, 2, 400), strict=True):
        for score, place in ((norm, 0), (-norm, 1)):
            found = disc.least(np.array([score]), np.array([norm]), eps)[0]
            assert Fraction(float(found)) <= exact(score, norm, eps, place)


def test_one_term_alone_is_rounded_down():
    check_rounding()


def check_sign(eps):
    """The least value is positive exactly where the cosine exceeds kappa."""
    kappa = Wasserstein2(eps).kappa()
    beside = np.array([kappa * (1 + 1e-9) + 1e-12, kappa * (1 - 1e-9) - 1e-12])
    low = disc.least(beside, np.ones(2), eps)
    assert low[0] > 0 > low[1]
    quick = disc.least_quick(np.array([kappa * (1 + 1e-5) + 1e-12]), np.ones(1), eps)
    assert quick[0] > 0


@pytest.mark.parametrize("eps", [1e-6, 1e-3, 0.05, 0.3, 0.57, 0.8])
def test_its_sign_is_that_of_the_certificate(eps):
    check_sign(eps)


def test_it_rises_with_the_score_and_falls_with_the_norm_and_the_radius():
    scores = np.linspace(-1, 1, 41)
    assert (np.diff(disc.least(scores, np.ones(41), 0.2)) > 0).all()
    assert (
        np.diff(disc.least(np.full(41, 0.5), np.linspace(0.5, 3, 41), 0.2)) < 0
    ).all()
    falling = [disc.least(np.array([0.3]), np.ones(1), e)[0] for e in (0, 0.1, 0.5)]
    assert falling[0] > falling[1] > falling[2]


def test_what_is_not_known_is_unbounded():
    bad = np.array([np.nan, np.inf, -np.inf, 1.0, 1.0])
    norms = np.array([1.0, 1.0, 1.0, np.nan, np.inf])
    for function in (disc.least, disc.least_quick):
        assert (function(bad, norms, 0.1) == -np.inf).all()
    assert disc.least(np.array([0.5]), np.ones(1), 1.0)[0] == -np.inf
    assert disc.least_quick(np.array([0.5]), np.ones(1), 1.5)[0] == -np.inf


def test_a_norm_of_zero_gives_zero():
    for function in (disc.least, disc.least_quick):
        assert -1e-200 < function(np.zeros(1), np.zeros(1), 0.3)[0] <= 0


def test_it_does_not_overflow():
    low = disc.least(np.array([1.7e308, -1.7e308]), np.full(2, 1.7e308), 0.1)
    assert low[0] == pytest.approx(1.7e308 / 1.21, rel=1e-12)
    assert low[1] < -1.7e308
