"""Mutations of the proofs that the ordinary checks must notice.

Each mutation rewrites one expression of one function of natgeo and runs a check that
the other modules of this directory run as an ordinary test. The check must pass on the
honest code (it does, in its own module) and fail on the mutated one. A mutation whose
text is no longer found fails loudly: rewrite it, do not delete it.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import (
    bounds,
    data_threats,
    disc,
    ensemble,
    ensemble_pairs,
    environment,
    limits,
    moving,
    pairs,
    ranges,
    ridge,
    rounding,
    screen,
    self_influence,
    spectral,
    statements,
    sweep,
    threats,
    tile_counts,
    tiles,
    verdict,
    witness,
)
from natgeo.certify.pairs import proven_orders
from natgeo.errors import UnfitEnvironmentError
from natgeo.geometry import covariance, kernels
from tests import families, oracles
from tests.certify import (
    test_bounds,
    test_disc,
    test_ensemble,
    test_euclidean,
    test_every_pair,
    test_moving,
    test_ranges,
    test_ridge,
    test_rounding,
    test_screen,
    test_self_influence,
    test_statements,
    test_sweep,
    test_threats,
    test_verdict,
    test_witness,
)

TAME = ("random", "random with ridge", "near ties", "duplicates", "condition 1e2")


@dataclass(frozen=True)
class Mutation:
    """One edit and the check that must notice it.

    Attributes:
        module: where the function lives.
        function: its name, `Class.method` for a method.
        old: text that occurs exactly once in its source.
        new: what replaces it.
        check: raises AssertionError on the mutated code.
    """

    module: object
    function: str
    old: str
    new: str
    check: Callable[[], object]

    def __str__(self) -> str:
        return f"{self.function}: {self.old} -> {self.new or 'nothing'}"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        *classes, name = self.function.split(".")
        owner = self.module
        for part in classes:
            owner = getattr(owner, part)
        honest = vars(owner)[name]
        source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
        assert source.count(self.old) == 1, f"not found exactly once: {self.old}"
        code = "from __future__ import annotations\n" + source.replace(
            self.old, self.new
        )
        made: dict = {}
        exec(compile(code, f"<mutated {name}>", "exec"), vars(self.module), made)
        patch.setattr(owner, name, made[name])
        if not classes:  # also where other modules imported it by name
            for label, module in list(sys.modules.items()):
                ours = label.startswith(("natgeo.", "tests."))
                if ours and vars(module).get(name) is honest:
                    patch.setattr(module, name, made[name])


def some_cases():
    return [
        families.case(name, np.float64, 0, weighted)
        for name in TAME
        for weighted in (False, True)
    ]


def verdict_census():
    test_verdict.check_census(some_cases(), least_pairs=100)


def sweep_census():
    test_sweep.check_census(some_cases(), least_pairs=100)


def orders():
    """Listed pairs against exact rationals."""
    for case in some_cases():
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        rankings, n = case.rankings(eps=0.2), len(case.train)
        every = np.array([(i, j) for i in range(n) for j in range(n) if i != j])
        proof, kappa = rankings.proof, rankings.threat.kappa()
        found = proven_orders(
            proof, proof.whiten(np.float64(case.targets)), every, kappa
        )
        for target, signs in zip(case.targets, found, strict=True):
            truth = oracles.certified_pairs(exact.pairs(target), 0.2)
            assert {tuple(p) for p in every[signs > 0].tolist()} <= truth
            assert {tuple(p[::-1]) for p in every[signs < 0].tolist()} <= truth
            assert (signs > 0).sum() >= 0.9 * len(truth)


def row_norms():
    rng = np.random.default_rng(1)
    test_bounds.check_row_norms(rng.normal(size=(40, 5)))


def not_below():
    test_bounds.check_not_below(1.0, Fraction(1 + 2.0**-50) ** 2)


def train_rows():
    test_rounding.check_train_rows(families.case("random", weighted=True))


def whitened_vectors():
    test_rounding.check_whiten(families.case("random"))


def eta():
    test_rounding.check_eta(families.case("random").geometry(), loose=3.0)


def needed_cosine():
    geometry = families.case("random").geometry()
    proof = rounding.prove(
        test_rounding.with_whitener(geometry, 1.02 * geometry.whitener)
    )
    test_rounding.check_needed_cosine(proof, 0.3)


def kappas():
    for eps in test_threats.grid():
        test_threats.check_kappa(eps)


def radii():
    for cosine in test_threats.grid():
        test_threats.check_radius(cosine)


def scores():
    for name in TAME:
        test_sweep.check_score_intervals(families.case(name))


def distances():
    for name in TAME:
        test_sweep.check_distances(families.case(name), tight=False)


def close_pairs():
    for name in ("near ties", "one ulp", "random"):
        test_sweep.check_close_pairs(families.case(name))


def unbreakable():
    test_witness.test_parallel_sides_cannot_be_refuted(0.5, 0.5)


def known_flips():
    test_verdict.test_known_flips_are_never_certified()


def disc_quick():
    test_disc.check_never_above(disc.least_quick, loose=3e-7)


def self_influence_moves():
    test_moving.check_attacks("self-influence", 0.0)


def pair_moves():
    test_moving.check_attacks("pair", 0.0)


def ensemble_fraction():
    test_ensemble.check_fraction(test_ensemble.certified(eps=0.05))


BOUNDS = [
    ("gamma", "upward(count * U / (1 - count * U))", "0.0", test_bounds.check_gamma),
    ("upward", "(1 + 2.0**-40)", "(1 - 2.0**-40)", test_bounds.check_upward),
    ("_block_norms", "upward(np", "0.999999 * (np", row_norms),
    (
        "not_below",
        "while Fraction(value)",
        "while False and Fraction(value)",
        not_below,
    ),
    ("not_below", "while Fraction(value)", "while False and Fraction(value)", kappas),
    # A gamma that is zero everywhere is noticed by each bound made of it.
    ("gamma", "upward(count * U / (1 - count * U))", "0.0", train_rows),
    ("gamma", "upward(count * U / (1 - count * U))", "0.0", whitened_vectors),
    ("gamma", "upward(count * U / (1 - count * U))", "0.0", eta),
    ("gamma", "upward(count * U / (1 - count * U))", "0.0", test_sweep.check_products),
    (
        "gamma",
        "upward(count * U / (1 - count * U))",
        "0.0",
        test_statements.check_combinations,
    ),
    (
        "gamma",
        "upward(count * U / (1 - count * U))",
        "0.0",
        test_verdict.check_lower_bound,
    ),
]
ROUNDING = [
    (
        "_prove",
        "eta if np.isfinite(eta) else np.inf",
        "0.0",
        test_rounding.check_eta_of_wrong_whiteners,
    ),
    (
        "_prove",
        "eta if np.isfinite(eta) else np.inf",
        "0.0",
        test_rounding.check_wrong_whiteners,
    ),
    (
        "_prove",
        "eta if np.isfinite(eta) else np.inf",
        "0.0",
        test_sweep.check_wrong_whiteners,
    ),
    (
        "_prove",
        "computed / (1 - 2 * U)",
        "0.0",
        test_rounding.check_eta_of_wrong_whiteners,
    ),
    ("_prove", "upward(gamma(k) * raw_norms * gain)", "0 * raw_norms", train_rows),
    (
        "_prove",
        "gamma(min(n, _BLOCK) + blocks + 3) * total * total / n",
        "0.0",
        test_rounding.check_eta_sees_the_rounding_of_the_gram_matrix,
    ),
    (
        "_prove",
        "gamma(k + 4) * ridge * gain * gain",
        "0.0",
        test_rounding.check_eta_sees_the_rounding_of_the_ridge,
    ),
    (
        "_prove",
        "upward(norm(train.errors) / np.sqrt(n))",
        "0.0",
        test_rounding.check_eta_sees_the_rounding_of_the_rows,
    ),
    ("_prove", "norm(gram / n", "norm(gram / (n - 1)", eta),
    ("_prove", "norm(gram / n", "norm(gram / (n + 1)", eta),
    ("_prove", " + ridge * (whitener", " + 0 * (whitener", verdict_census),
    ("Proof.whiten", " + formation * gain", "", whitened_vectors),
    (
        "Proof.whiten",
        "gamma(rows.shape[1]) * row_norms(rows) * gain",
        "0.0",
        whitened_vectors,
    ),
    ("Proof.needed_cosine", "(kappa + self.eta)", "(kappa)", needed_cosine),
    ("Proof.needed_cosine", "/ (1 - self.eta)", "", needed_cosine),
    (
        "Proof.needed_cosine",
        "(kappa + self.eta) / (1 - self.eta)",
        "kappa",
        test_sweep.check_wrong_whiteners,
    ),
    ("NaturalRows.scaled", "self.errors + U * self.norms", "0.0 * size", train_rows),
    ("NaturalRows.scaled", "size * self.norms * (1 + 2 * U)", "0.5 * size", train_rows),
]
STATEMENTS = [
    (
        "pair",
        "[(weights[i], i), (-weights[j], j)]",
        "[(weights[j], j), (-weights[i], i)]",
        verdict_census,
    ),
    (
        "pair",
        "[(weights[i], i), (-weights[j], j)]",
        "[(1.0, i), (-1.0, j)]",
        verdict_census,
    ),
    (
        "opponent",
        "(-geometry.weights[i], i)",
        "(geometry.weights[i], i)",
        test_statements.check_every_statement,
    ),
    (
        "target_pair",
        "[(1.0, t), (-1.0, s)]",
        "[(1.0, s), (-1.0, t)]",
        test_statements.check_every_statement,
    ),
    (
        "self_influence_pair",
        "[(1.0, i), (1.0, j)]",
        "[(1.0, i)]",
        test_statements.check_every_statement,
    ),
    (
        "combine",
        "upward(U * row_norms(vectors))",
        "np.zeros(len(vectors))",
        test_statements.check_combinations,
    ),
    (
        "combine",
        "upward(gamma(terms + 2) * total)",
        "np.zeros(len(vectors))",
        test_statements.check_combinations,
    ),
    ("combine", "<= 53", "<= 90", test_statements.check_combinations),
]
VERDICT = [
    (
        "decide",
        "cosine > min(kappa, needed)",
        "cosine >= min(kappa, needed)",
        test_verdict.check_equality_is_not_enough,
    ),
    ("decide", "threat.kappa(proof)", "0.99 * threat.kappa(proof)", known_flips),
    (
        "_share",
        "both[0] + both[1]",
        "both[0] + both[0]",
        test_ridge.check_large_ridges,
    ),
    (
        "_limit_and_radius",
        "ridge.threshold(threat.eps, share)",
        "0.99 * ridge.threshold(threat.eps, share)",
        test_ridge.check_both_sides_of_the_radius,
    ),
    (
        "_limit_and_radius",
        "ridge.radius(cosine, share)",
        "1.01 * ridge.radius(cosine, share)",
        test_ridge.check_both_sides_of_the_radius,
    ),
    (
        "_cosine",
        "float(upward(proof.eta * (1 + whitened)))",
        "0.0",
        test_rounding.check_wrong_whiteners,
    ),
    (
        "gap_is_negative",
        "upward(proof.eta / (1 - proof.eta) * norms)",
        "0.0",
        test_verdict.check_gap_is_negative,
    ),
    ("gap_is_negative", "-u.rows[0]", "u.rows[0]", test_verdict.check_gap_is_negative),
    (
        "_lower_bound",
        "gamma(len(left)) * un * vn",
        "0.0",
        test_verdict.check_lower_bound,
    ),
    ("_lower_bound", " + ue * vn", "", test_verdict.check_lower_bound),
    ("_lower_bound", " + un * ve", "", test_verdict.check_lower_bound),
    ("_lower_bound", " + ue * ve", " - ue * ve", test_verdict.check_lower_bound),
    (
        "_lower_bound",
        "product - lost",
        "product + lost",
        test_verdict.check_lower_bound,
    ),
    (
        "_lower_bound",
        "(un + ue) * (vn + ve)",
        "un * vn",
        test_verdict.check_lower_bound,
    ),
]
THREATS = [
    (
        "Wasserstein2.kappa",
        "not_below(start, exact * (2 - exact))",
        "start",
        kappas,
    ),
    (
        "Wasserstein2.kappa",
        "if self.eps >= 1:",
        "if False:",
        test_verdict.check_no_radius_of_one,
    ),
    ("Wasserstein2.radius", "if eps * (2", "if True or eps * (2", radii),
    (
        "Wasserstein2.radius",
        "radius = c / math.sqrt(1 +",
        "radius = c / math.sqrt(2 +",
        radii,
    ),
]
SWEEP = [
    (
        "count_above_and_below",
        "(0, 0)) > limit)",
        "(0, 0)) >= limit)",
        test_sweep.check_equality_is_not_enough,
    ),
    ("count_above_and_below", "> high[found", "< high[found", sweep_census),
    (
        "count_above_and_below",
        "gaps[0][proven] > 0",
        "gaps[0][proven] < 0",
        sweep_census,
    ),
    (
        "certified_by_norms",
        "scored.low[target] - reach",
        "scored.low[target]",
        test_sweep.check_norms_alone,
    ),
    (
        "certified_by_norms",
        "scored.high[target] + reach",
        "scored.high[target] - reach",
        test_sweep.check_norms_alone,
    ),
]
TILE_COUNTS = [
    ("score_intervals", "scores - room", "scores", scores),
    ("score_intervals", "scores + room", "scores", scores),
    (
        "_gaps",
        "low - upper",
        "high - lower",
        test_sweep.check_ratio,
    ),
    (
        "_gaps",
        "lower - high",
        "low - upper",
        test_sweep.check_ratio,
    ),
    (
        "screened",
        "ratio > limits.limit[at]",
        "ratio >= limits.limit[at]",
        test_sweep.check_equality_is_not_enough,
    ),
    ("_compared", "ratio > limit)", "ratio >= 0)", test_screen.check_many_radii),
    (
        "_recount",
        "ratio > limits.limit[at]",
        "ratio >= limits.limit[at]",
        test_sweep.check_recounts,
    ),
    (
        "_recount",
        "columns + tile.second",
        "0 * columns + tile.second",
        test_sweep.check_recounts,
    ),
    (
        "_settled",
        "sure != possible",
        "sure < 0",
        test_screen.check_counts_at_breaking_radii,
    ),
    (
        "_settled",
        "counts[row, column] = exact",
        "pass",
        test_screen.check_counts_at_breaking_radii,
    ),
    (
        "screened",
        "some & (np",
        "some | (np",
        test_screen.check_counts_of_uneven_targets,
    ),
    (
        "screened",
        "limits, place, fit, middle",
        "limits, place, fit, 0.999 * middle",
        test_screen.check_counts_at_breaking_radii,
    ),
    (
        "_level",
        "screen.rooms(errors[fit])",
        "screen.rooms(0 * errors[fit])",
        test_screen.check_wide_intervals,
    ),
]
LIMITS = [
    ("Limits.lengths", "part += share", "pass", test_sweep.check_lengths),
    ("Limits.lengths", "part += self.flat[at]", "pass", test_sweep.check_lengths),
    ("Limits.lengths", "+ self.own[at]", "", test_sweep.check_lengths),
    (
        "Limits.lengths",
        "np.fmin(np.square(part, out=part), 1.0)",
        "np.square(part, out=part)",
        test_sweep.check_lengths,
    ),
    ("Limits._turned", " + cosine * moves", "", test_every_pair.check_moving),
    (
        "Limits._turned",
        "upward(moves / cosine)",
        "0 * moves",
        test_every_pair.check_moving,
    ),
    ("Limits._turned", "sine * rest + ", "", test_every_pair.check_moving),
    (
        "_turned",
        "add_angles(float(kappas[place]), turn)",
        "float(kappas[place])",
        test_every_pair.check_moving,
    ),
    (
        "example_moves",
        "moves.examples",
        "0.5 * moves.examples",
        test_every_pair.check_moving,
    ),
    ("asked", "(1 + 2.0**-39)", "(1 - 2.0**-39)", test_sweep.check_limits),
]
TILES = [
    ("every_tile", "squares + room", "squares", distances),
    (
        "_squares_and_room",
        "gram_room + 2",
        "2",
        test_sweep.check_distances_cover_the_rounding_of_the_gram_matrix,
    ),
    (
        "_squares_and_room",
        "2 * delta * rows.norms**2",
        "0",
        test_sweep.check_distances_cover_the_errors_of_their_rows,
    ),
    (
        "_squares_and_room",
        "2 * (1 + 1 / delta) * rows.errors**2",
        "0",
        test_sweep.check_distances_cover_the_errors_of_their_rows,
    ),
    (
        "every_tile",
        "fixed_squares - fixed_room",
        "fixed_squares + 1e-7 * fixed_squares",
        test_sweep.check_lengths,
    ),
    ("every_tile", "rows = proof.weighted", "rows = proof.train", sweep_census),
]
PAIRS = [
    ("proven_orders", "length > limits.limit", "length > 0 * limits.limit", orders),
    ("proven_orders", "np.sign(gaps) *", "", orders),
    (
        "products",
        "upward(gamma(left.rows.shape[1]) * left.norms + left.errors)",
        "left.errors",
        test_sweep.check_products,
    ),
    ("decided", "* [1, -1]", "* [-1, 1]", sweep_census),
    ("decided", "np.abs(found) - room", "np.abs(found)", close_pairs),
    (
        "decided",
        "upward(difference.true_norms**2)",
        "0.999 * difference.norms**2",
        close_pairs,
    ),
]
SCREEN = [
    (
        "_edges",
        "np.add(roots, room, out=out[0])",
        "np.add(roots, 0 * room, out=out[0])",
        test_screen.check_reference_kernel,
    ),
    (
        "_edges",
        "above *= np.float32(1 + _RELATIVE)",
        "pass",
        test_screen.check_reference_kernel,
    ),
    (
        "_edges",
        "np.float32(1 - _RELATIVE)",
        "np.float32(1)",
        test_screen.check_reference_kernel,
    ),
    ("_edges", "below -= room", "pass", test_screen.check_reference_kernel),
    (
        "in_numpy",
        "np.max(level.rooms)",
        "np.min(level.rooms)",
        test_screen.check_reference_kernel,
    ),
    ("_factor", "out += rest", "pass", test_screen.check_reference_kernel),
    (
        "_factor",
        "out += curve.flat[target]",
        "pass",
        test_screen.check_reference_kernel,
    ),
    (
        "_factor",
        "np.minimum(out, np.float32(1), out=out)",
        "out",
        test_screen.check_reference_kernel,
    ),
    (
        "in_numpy",
        "range(0, rows, 255)",
        "range(0, rows, 600)",
        test_screen.check_tall_tiles,
    ),
    ("rooms", "errors + _ABSOLUTE", "errors", test_screen.check_rooms),
    (
        "rooms",
        "np.nextafter(np.float32(errors + _ABSOLUTE), np.float32(np.inf))",
        "np.float32(errors)",
        test_screen.check_rooms,
    ),
    (
        "scaled",
        "np.maximum(np.abs(wide - ends[0]), np.abs(wide - ends[1]))",
        "np.abs(wide - ends[0])",
        test_screen.check_scaled,
    ),
    (
        "scaled",
        "upward(error + 2.0**-50 * np.abs(wide))",
        "0 * error",
        test_screen.check_scaled,
    ),
    ("Scaled.error", "(rows, columns)", "(rows,)", test_screen.check_scaled),
]
KERNELS = [
    ("_ridge_rows", " + slope * share", "", test_screen.check_xla_kernel),
    ("_ridge_rows", " + flat[:, None]", "", test_screen.check_xla_kernel),
    ("_ridge_rows", " + own[:, None]", "", test_screen.check_xla_kernel),
    (
        "_ridge_rows",
        "jnp.minimum(factor, 1)",
        "factor",
        test_screen.check_xla_kernel,
    ),
    ("_edges", "roots + room", "roots", test_screen.check_xla_kernel),
    ("_edges", "jnp.float32(1 + _RELATIVE)", "1", test_screen.check_xla_kernel),
    ("_edges", "jnp.float32(1 - _RELATIVE)", "1", test_screen.check_xla_kernel),
    ("_edges", " - room", "", test_screen.check_xla_kernel),
    ("_count", "rooms.max()", "rooms.min()", test_screen.check_xla_kernel),
]
RIDGE = [
    (
        "ridge_rows",
        "lost * rows.norms",
        "0.0",
        test_ridge.check_ridge_rows_cover_their_own_rounding,
    ),
    (
        "ridge_rows",
        "math.sqrt(1 + proof.eta) * rows.errors",
        "0.0",
        test_ridge.check_ridge_rows_cover_the_errors_of_their_rows,
    ),
    (
        "ridge_rows",
        "* proof.geometry.whitener\n",
        "* proof.geometry.whitener.T\n",
        test_ridge.check_ridge_rows,
    ),
    ("moments", "rows.true_norms**2", "rows.norms**2", test_ridge.check_moments),
    ("moments", " + 2 * ridge.norms * ridge.errors", "", test_ridge.check_moments),
    (
        "moments",
        "lost + 2",
        "2",
        test_ridge.check_moments_cover_their_own_rounding,
    ),
    ("moments", "whole - fixed", "whole - 1.01 * fixed", test_ridge.check_moments),
    ("_omega", "3 + 2 * eta", "2 * eta", test_ridge.check_shares_by_the_formula),
    ("threshold", "constant + ", "", test_ridge.check_threshold),
    ("threshold", "constant + ", "", test_ridge.check_directions_without_data),
    ("threshold", " + slope * share", "", test_ridge.check_threshold),
    ("threshold", "eps * math.sqrt(share) + ", "", test_ridge.check_threshold),
    ("threshold", "eps * math.sqrt(share)", "0.9 * eps", test_ridge.check_attacks),
    ("threshold", "if not eps < 1:", "if False:", test_ridge.check_threshold),
    ("_second_order", "t * t * eps * (2 - eps)", "0.0", test_ridge.check_threshold),
    ("_second_order", "1 / (1 - eps), ", "1.0, ", test_ridge.check_threshold),
    (
        "_second_order",
        "eps * math.sqrt(2 - square)",
        "0.0",
        test_ridge.check_threshold,
    ),
    ("radius", "< cosine:", "< 1.01 * cosine:", test_ridge.check_radius),
    ("radius", "return low", "return high * 1.000001", test_ridge.check_radius),
    ("curve", "constant + eta", "constant", test_ridge.check_curve),
    ("curve", "slope]) / (1 - eta)", "slope])", test_ridge.check_curve),
    ("pair_shares", "(1 + eta) * (", "(", test_ridge.check_shares_by_the_formula),
    (
        "pair_shares",
        " + _omega(eta)",
        "",
        test_ridge.check_shares_with_a_long_whitener,
    ),
    (
        "pair_shares",
        "moved / whole",
        "0.9 * moved / whole",
        test_ridge.check_large_ridges,
    ),
]
WITNESS = [
    (
        "_checked",
        "1 / (1 - proof.eta) if proof.holds else np.inf",
        "1.0",
        test_witness.check_cost_with_a_wrong_whitener,
    ),
    (
        "_checked",
        "flips=gap_is_negative(prove(after), statement)",
        "flips=True",
        unbreakable,
    ),
    (
        "closed_form",
        "math.pi / 4 - math",
        "math.pi / 4 + math",
        test_witness.check_refutations_at_zero_ridge,
    ),
]
DISC = [
    ("_value", " * _DOWN", " * _UP", test_disc.check_rounding),
    ("_value", "rising / (s1 * s1)", "rising / s1", test_disc.check_never_above),
    ("_points", "1 + eps * x", "1 + 0 * x", test_disc.check_never_above),
    (
        "_bound",
        "left.stretched, right.low)",
        "left.stretched, left.low)",
        test_disc.check_never_above,
    ),
    ("_bound", "left.x * left.stretched**3 * _UP", "0", test_disc.check_never_above),
    ("_bound", "right.x *", "1e9 *", test_disc.check_never_above),
    ("_search", "(step == _HALVINGS)", "(step == 3)", test_disc.check_never_above),
    (
        "_search",
        "low[finished]",
        "best[which][finished] + 1e-9",
        test_disc.check_never_above,
    ),
    ("least_quick", "heights[index + 1]", "heights[index] + 1e-4", disc_quick),
    ("least_quick", "left * (1 - share)", "right * (1 - share)", disc_quick),
]
RANGES = [
    (
        "unwhitened",
        "upward(proof.eta / (1 - proof.eta) * forms.norms)",
        "0.0",
        test_ranges.check_wrong_whiteners,
    ),
    (
        "unwhitened",
        "upward(forms.norms / (1 - proof.eta))",
        "forms.norms",
        test_ranges.check_wrong_whiteners,
    ),
    ("whitened", "products - lost", "products", test_ranges.check_errors_count),
    ("whitened", "products + lost", "products", test_ranges.check_errors_count),
    ("whitened", "+ left.errors * right.norms", "", test_ranges.check_errors_count),
    (
        "whitened",
        "+ left.true_norms * right.errors",
        "",
        test_ranges.check_errors_count,
    ),
    ("span", "-forms.high", "-forms.low", test_ranges.check_both_ends),
]
MOVING = [
    ("add_angles", " + second * cosines[0]", "", test_moving.check_add_angles),
    ("add_angles", "squares >= 1", "squares >= 2", test_moving.check_add_angles),
    ("Moving.moves", "side.of_examples, self", "0.5, self", self_influence_moves),
    ("Moving._turn", "* stretch / long", "* 0.5 / long", self_influence_moves),
    ("Moving.kappa_for", "(statement.u, statement.v)", "(statement.u,)", pair_moves),
]
EUCLIDEAN = [
    (
        "Euclidean2.amplification",
        "upward(1 / np.sqrt(1 - proof.eta))",
        "1.0",
        test_euclidean.check_amplification,
    ),
]
SPECTRAL = [
    (
        "spectral_norm",
        "range(_SQUARINGS)",
        "range(2)",
        test_euclidean.check_spectral_norm,
    ),
    (
        "spectral_norm",
        "np.ldexp(bound, exponent)",
        "bound",
        test_euclidean.check_spectral_norm,
    ),
]
ENSEMBLE = [
    ("EnsembleRankings._decide", "(low > 0)", "(high > 0)", ensemble_fraction),
    (
        "EnsembleRankings.radius",
        "certain = middle",
        "certain = beyond",
        test_ensemble.check_radius_is_tight,
    ),
    (
        "_mean_from_below",
        " - 2.0**-51 * abs(total)",
        "",
        test_ensemble.test_sums_are_rounded_down,
    ),
]
ENSEMBLE_PAIRS = [
    (
        "EnsemblePairs._orders",
        "upward(rows.true_norms[t] * distance)",
        "0.8 * rows.true_norms[t] * distance",
        ensemble_fraction,
    ),
]
SPREADS = [
    ("between", "(1 - 2.0**-50)", "(1 + 2.0**-50)", test_ranges.check_between),
    ("between", "(1 + 2.0**-50)", "(1 - 2.0**-50)", test_ranges.check_between),
]
GEOMETRY = [
    ("covariance", "/ total.count", "/ (total.count - 1)", verdict_census),
    ("covariance", "+ ridge *", "+ 0 * ridge *", verdict_census),
]
SELF_INFLUENCE = [
    (function, old, new, test_self_influence.check_against_exact_rationals)
    for function, old, new in (
        ("_ranked", "reach = upward(needed * high)", "reach = 0 * high"),
        ("_ranked", "np.nextafter(low - reach, -np.inf)", "low + reach"),
        ("_ranked", "upward(high + reach)", "high - reach"),
        ("_by_norms", "np.sort(ranked.ceiling)", "np.sort(ranked.low)"),
        ("_won", "needed * needed *", "needed**4 *"),
        ("_won", "(total - twice) * (total + twice)", "(total - twice) ** 2"),
        ("_won", "2 * np.maximum", "3 * np.maximum"),
        ("_won", "ranked.low[a, None] - ranked.high[b]", "ranked.high[a, None]"),
    )
] + [
    (function, old, new, test_self_influence.check_rounding)
    for function, old, new in (
        ("_ranked", "* _DOWN - errors", "* _DOWN"),
        ("_ranked", "np.square(norms + errors)", "np.square(norms)"),
    )
]
MUTATIONS = [
    Mutation(module, *entry)
    for module, entries in (
        (bounds, BOUNDS),
        (rounding, ROUNDING),
        (statements, STATEMENTS),
        (verdict, VERDICT),
        (threats, THREATS),
        (sweep, SWEEP),
        (tile_counts, TILE_COUNTS),
        (limits, LIMITS),
        (tiles, TILES),
        (pairs, PAIRS),
        (screen, SCREEN),
        (ridge, RIDGE),
        (witness, WITNESS),
        (disc, DISC),
        (ranges, RANGES),
        (moving, MOVING),
        (threats, EUCLIDEAN),
        (spectral, SPECTRAL),
        (ensemble, ENSEMBLE),
        (ensemble_pairs, ENSEMBLE_PAIRS),
        (data_threats, SPREADS),
        (covariance, GEOMETRY),
        (self_influence, SELF_INFLUENCE),
    )
    for entry in entries
]


# Error terms that are zero can also fail the products' own check: unfit, no verdict.
NOTICED = (AssertionError, UnfitEnvironmentError)


@pytest.mark.parametrize("entry", KERNELS, ids=lambda entry: entry[1])
def test_a_mutated_kernel_is_noticed(entry, monkeypatch):
    Mutation(kernels, *entry).apply(monkeypatch)
    # Without the programs that were compiled from the honest code, or from another.
    kernels._count.clear_cache()
    with pytest.raises(AssertionError):
        entry[-1]()
    kernels._count.clear_cache()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutated_proof_is_noticed(mutation, monkeypatch):
    # The self-test would notice some of these too; it has its own tests.
    environment.require_sound_arithmetic()
    mutation.apply(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(NOTICED):
        mutation.check()


# Checks of other modules are ordinary tests there.
CHECKS = {
    m.check.__name__: m.check for m in MUTATIONS if m.check.__module__ == __name__
}


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_checks_pass_on_the_honest_code(name):
    assert not CHECKS[name](), "a check returns nothing and raises if it must"


def test_a_wrong_count_everywhere_is_noticed(monkeypatch):
    """Consistently wrong n: the geometry and its proof agree with each other."""
    Mutation(
        covariance, "covariance", "/ total.count", "/ (total.count - 1)", eta
    ).apply(monkeypatch)
    Mutation(rounding, "_prove", "norm(gram / n", "norm(gram / (n - 1)", eta).apply(
        monkeypatch
    )
    with pytest.raises(AssertionError):
        eta()
