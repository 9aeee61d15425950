"""The order-2 ball: kappa and radius in exact arithmetic, and attacks inside it."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natgeo.certify import threats
from natgeo.certify.threats import Wasserstein2
from natgeo.errors import ArgumentError
from tests import attacks, oracles

UNIT = st.floats(min_value=0, max_value=1)


def check_kappa(eps):
    found = Fraction(Wasserstein2(eps).kappa())
    exact = oracles.kappa_square(eps)
    assert found**2 >= exact
    below = Fraction(math.nextafter(float(found), 0.0))
    assert found == 0 or below**2 < exact  # the smallest such double


def check_radius(cosine):
    found = Wasserstein2.radius(cosine)
    square = Fraction(min(cosine, 1.0)) ** 2
    assert 0 <= found < 1
    assert found == 0 or oracles.holds_at(found, square)
    # Not absurdly loose: a few units further it fails for a cosine just below.
    if found > 1e-290:
        further, below = found, min(cosine, 1.0)
        for _ in range(6):
            further = math.nextafter(further, 2.0)
        for _ in range(3):
            below = math.nextafter(below, 0.0)
        assert not oracles.holds_at(further, Fraction(below) ** 2)


def grid():
    rng = np.random.default_rng(5)
    values = [*rng.uniform(0, 1, 300), *10.0 ** rng.uniform(-150, 0, 100)]
    values += [0.0, 0.5, 1 - 2.0**-53, 1 - 2.0**-30, 1e-8, 2.0**-26, 1e-100]
    return [float(value) for value in values]


def test_kappa_is_the_least_double_above_its_exact_value():
    for eps in grid():
        check_kappa(eps)


def test_radius_satisfies_the_rational_inequality():
    for cosine in grid():
        check_radius(cosine)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(UNIT.filter(lambda x: x < 1))
def test_kappa_of_any_double(eps):
    found = Fraction(Wasserstein2(eps).kappa())
    assert found**2 >= oracles.kappa_square(eps)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.floats(min_value=1e-300, max_value=1))
def test_radius_of_any_cosine(cosine):
    found = Wasserstein2.radius(cosine)
    assert found == 0 or oracles.holds_at(found, Fraction(cosine) ** 2)


def test_the_printed_radius_is_certified_by_the_threat_of_that_radius():
    for cosine in grid():
        found = Wasserstein2.radius(cosine)
        assert found == 0 or cosine > Wasserstein2(found).kappa()


@pytest.mark.parametrize("eps", [1.0, 1 + 2.0**-52, 1.2, math.sqrt(2), 2.0, 1e300])
def test_nothing_is_certified_from_radius_one_on(eps):
    assert Wasserstein2(eps).kappa() == math.inf


@pytest.mark.parametrize("cosine", [0.0, -0.0, -0.5, -1.0, math.nan])
def test_the_radius_of_no_cosine_is_zero(cosine):
    assert Wasserstein2.radius(cosine) == 0.0


def test_a_radius_never_reaches_one():
    assert Wasserstein2.radius(1.0) < 1
    assert Wasserstein2.radius(1.5) < 1


@pytest.mark.parametrize("eps", [-1e-300, -1, math.nan, math.inf, "0.1", True, None])
def test_a_bad_radius_is_refused_by_name(eps):
    with pytest.raises(ArgumentError, match="eps"):
        Wasserstein2(eps)


def test_float32_radii_are_taken_exactly():
    eps = np.float32(0.1)
    assert Wasserstein2(eps).eps == float(eps) != 0.1


def test_a_ball_describes_itself_and_has_a_kappa():
    threat = Wasserstein2(0.125)
    assert "0.125" in threat.describe()
    assert type(threat.kappa()) is float


def test_kappa_grows_with_the_radius():
    values = [Wasserstein2(eps).kappa() for eps in np.linspace(0, 0.999, 200)]
    assert all(a < b for a, b in itertools.pairwise(values))


def test_kappa_and_radius_agree_with_the_printed_formulas():
    for eps in np.linspace(0.001, 0.999, 57):
        assert threats.Wasserstein2(eps).kappa() == pytest.approx(
            oracles.kappa(eps), rel=1e-14
        )
        assert Wasserstein2.radius(oracles.kappa(eps)) == pytest.approx(eps, rel=1e-7)


# ------------------------------------------------ the theorem itself, under attack


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_random_displacements_inside_the_radius_never_flip(seed, ridge):
    problem = attacks.random_problem(seed, ridge, pairs=300)
    worst = attacks.random_displacements(problem, 0.999, tries=30)
    assert (worst > 0).all()


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_attacks_inside_the_radius_never_flip(seed, ridge):
    problem = attacks.random_problem(seed, ridge, pairs=300)
    worst = attacks.gradient_attack(problem, 0.999, steps=60)
    assert (worst > 0).all()


def test_the_gradient_attack_is_not_a_straw_man():
    problem = attacks.random_problem(0, 0.0, pairs=200)
    worst = attacks.gradient_attack(problem, 1.02, steps=200)
    assert (worst < 0).mean() > 0.95


@pytest.mark.parametrize("seed", range(6))
def test_a_solver_on_every_coordinate_never_flips_inside_and_does_outside(seed):
    problem = attacks.random_problem(seed, 0.0, pairs=1, n=7, k=3)
    assert attacks.scipy_attack(problem, 0.999) > 0
    assert attacks.scipy_attack(problem, 1.01) < 0


@pytest.mark.parametrize("seed", range(4))
def test_a_solver_on_every_coordinate_never_flips_inside_with_a_ridge(seed):
    problem = attacks.random_problem(seed, 0.5, pairs=1, n=7, k=3)
    assert attacks.scipy_attack(problem, 0.999) > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_theorem_is_tight_at_zero_ridge(seed):
    problem = attacks.random_problem(seed, 0.0, pairs=300)
    inside, cost = attacks.witness(problem, 0.999)
    assert (inside > 0).all()
    np.testing.assert_allclose(cost, 0.999 * problem.radii, rtol=1e-9)
    outside, cost = attacks.witness(problem, 1.001)
    assert (outside < 0).all()
    np.testing.assert_allclose(cost, 1.001 * problem.radii, rtol=1e-9)


def test_the_theorem_holds_with_a_ridge_but_is_not_tight():
    problem = attacks.random_problem(9, 0.4, pairs=300)
    inside, cost = attacks.witness(problem, 0.999)
    assert (inside > 0).all()
    assert (cost < 0.999 * problem.radii).all()


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(20, 30))
def test_long_attacks_inside_the_radius_never_flip(seed, ridge):
    problem = attacks.random_problem(seed, ridge, pairs=500, n=25, k=5)
    assert (attacks.gradient_attack(problem, 0.9999, steps=400) > 0).all()
    assert (attacks.random_displacements(problem, 0.9999, tries=100) > 0).all()
