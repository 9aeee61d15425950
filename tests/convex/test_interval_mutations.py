"""Mutations of the interval proofs that the ordinary checks must notice."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.convex import (
    differences,
    intervals_ground,
    intervals_smooth,
    intervals_squared,
    spans,
    stability,
)
from tests.certify.test_mutations import Mutation
from tests.convex import test_influence_rankings, test_intervals


def ridge_attack():
    for name, ridge, seed in (("diabetes", 0.0, 0), ("cancer", 0.01, 2)):
        test_intervals.test_the_attack_stays_inside_for_squared_loss(
            name, ridge, seed, "loss"
        )


def remainders():
    for case in ((0, 0, 0.4), (1, 0, 0.4), (1, 1, 1.57), (0.05, 0.1, 1.2)):
        test_intervals.test_the_remainder_holds_for_every_second_moment(*case, False)


def joint():
    test_intervals.test_the_joint_bound_is_the_largest_value_on_the_ellipse()


def scales():
    test_intervals.test_scales_are_the_printed_formulas(0.1)


def linear_remainder():
    test_intervals.test_the_remainder_holds_for_every_second_moment(1, 0, 0.4, True)


def certified_pairs():
    ridge = test_influence_rankings.fitted()
    test_influence_rankings.test_no_attack_flips_a_certified_pair(ridge, "loss", 0.003)


def residuals():
    test_intervals.test_residual_ranges_are_exact_without_a_ridge_or_an_intercept()


def distortion():
    test_intervals.test_the_distortion_is_that_of_the_exact_matrix()


def exact():
    for step in (0, 3, 5):
        test_intervals.test_the_interval_at_radius_zero_holds_the_exact_influence(step)


def terms():
    test_intervals.test_each_term_of_the_remainder_bounds_what_it_names("logistic")


def optimum():
    for loss in ("logistic", "multinomial"):
        test_intervals.test_the_optimum_moves_less_than_its_bound_and_keeps_its_curvature(
            loss
        )


def whole_spans():
    test_intervals.test_spans_hold_the_exact_results()


SQUARED = [
    ("by_slope", "eps * slope + rest", "eps * slope", ridge_attack),
    ("by_slope", "eps * slope + rest", "0.9 * eps * slope + rest", ridge_attack),
    ("residuals_within", "scales.tau * points", "0.9 * scales.tau * points", residuals),
    ("Scales.at", "1 / (room * room)", "1 / room", scales),
    (
        "_remainder",
        "c2 = np.zeros_like(n) if",
        "c2 = np.zeros_like(n) if not",
        remainders,
    ),
    ("_remainder", "k * (q.size + scales.h * s)", "0 * k", linear_remainder),
    ("joint", "2 * g * g * c1 * c1", "0 * c1", joint),
    ("joint", "(4 + eps) * c0", "0 * c0", joint),
]
GROUND = [
    ("_points", "rounding + _turned(distortion) * sizes", "0 * sizes", exact),
    ("_distortion", "computed / (1 - 2 * U)", "0 * computed", distortion),
    ("_distortion", "+ held @ held.T", "", exact),
]
SMOOTH = [
    ("_rest", "total += bend_t * s_t", "total = bend_t * s_t", terms),
    ("_rest", "+ known.floor * u * v", "+ 0 * u * v", terms),
]
STABLE = [
    ("stability", "force *= GROWN", "force *= 0.1", optimum),
]
PAIRS = [
    ("Squared.bound", "linear + squared + rest + error", "0 * linear", certified_pairs),
]
SPANS = [
    ("_outward", "np.nextafter(low, -np.inf)", "low", whole_spans),
    ("_outward", "np.nextafter(high, np.inf)", "high", whole_spans),
]
MUTATIONS = [
    Mutation(module, *entry)
    for module, entries in (
        (intervals_squared, SQUARED),
        (intervals_ground, GROUND),
        (intervals_smooth, SMOOTH),
        (stability, STABLE),
        (differences, PAIRS),
        (spans, SPANS),
    )
    for entry in entries
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutated_proof_is_noticed(mutation, monkeypatch):
    mutation.apply(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        mutation.check()
