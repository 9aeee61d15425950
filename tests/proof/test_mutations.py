"""Mutations of the checker that its tests must notice: no test passes on all code."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError, DataError
from natgeo.proof import (
    checker,
    claims,
    counting,
    exact,
    forms,
    language,
    recipe,
    thresholds,
)
from natgeo.proof.checker import check_certificate
from tests.certify.test_mutations import Mutation
from tests.proof import (
    cases,
    test_counting,
    test_exact,
    test_forgery,
    test_recipe,
    test_tampering,
    test_thresholds,
)
from tests.proof.test_forms import check_enclosures as enclosures
from tests.proof.test_forms import check_enclosures_are_not_narrower as narrower
from tests.proof.test_forms import check_floors
from tests.proof.test_forms import check_shares as shares


def tampering(*names):
    """The outcomes of some entries of the tampering list, as a check."""

    def check():
        with tempfile.TemporaryDirectory() as name:
            order = cases.rankings()
            honest = Path(name) / "honest"
            cases.complete(honest, order, include_features=True)
            for place, one in enumerate(names):
                act, want = test_tampering.TAMPERED[one]
                folder = Path(name) / str(place)
                folder.mkdir()
                for file in honest.iterdir():
                    (folder / file.name).write_bytes(file.read_bytes())
                act(folder)
                found = test_tampering.outcome(
                    folder, order.geometry.train, order.targets
                )
                assert found == want, one

    check.__name__ = "tampering"
    return check


def forgery():
    with tempfile.TemporaryDirectory() as name:
        test_forgery.test_forged_witnesses_never_prove_what_is_false(Path(name), 0.1)


def floors():
    with tempfile.TemporaryDirectory() as name:
        test_forgery.test_forged_floors_are_never_believed(Path(name))


def pairs():
    test_forgery.test_no_whitener_makes_the_recipe_prove_a_false_pair("random")


def refutations():
    with tempfile.TemporaryDirectory() as name:
        test_forgery.test_forged_refutations_never_break_what_holds(Path(name))


def lonely():
    with tempfile.TemporaryDirectory() as name:
        test_forgery.test_a_refutation_alone_needs_the_floor(Path(name))


def useless():
    for factor in (0.0, 1e200, 3.0):
        test_recipe.test_a_useless_whitener_proves_nothing(factor)


def long_sums():
    test_exact.test_long_sums_carry(np.random.default_rng(0))


def roots():
    square = Fraction(2)
    assert exact.root_above(square) ** 2 >= square


def equality():
    """cos^2 = 7/16 = kappa(1/2)^2 exactly: not certified; one ulp below is."""
    train = ng.MemoryStore(np.eye(5))
    target = ng.MemoryStore(np.array([[7.0, 6.0, 5.0, 1.0, 1.0]]))
    order = ng.certify_rankings(
        ng.natural_geometry(train, 0.0), target, ng.threats.Wasserstein2(0.25)
    )
    claim = ng.statements.proponent(order.geometry, target, target=0, example=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c"
        ng.write_certificate(folder, order, [claim])
        # Q is a fifth of the identity, so that these witnesses are exact.
        cases.save(
            folder, "witnesses", 5 * np.array([target.rows([0])[0], np.eye(5)[0]])
        )
        for eps, want in ((0.5, "rejected"), (float(np.nextafter(0.5, 0)), "valid")):
            cases.edit(folder, lambda b, e=eps: test_forgery.set_eps(b, e))
            found = check_certificate(folder, train, target)
            assert found.status == want


FORMS = [
    ("Solved.longest", "self.form(self) + self.slack", "self.form(self)", enclosures),
    ("Solved.room", "root_above(self.slack * other.slack)", "Fraction(0)", forgery),
    ("Solved.form", "/ self.count", "/ (self.count - 1)", enclosures),
    ("Solved.share", " - 2 * root_above", " - 0 * root_above", shares),
    ("Solved.share", "return 1 - ridge", "return 1 - 2 * ridge", shares),
    (
        "Solved.turn_square",
        "distance**2 / shortest",
        "distance**2 / self.longest() / 2",
        shares,
    ),
    ("is_floor", "0 < floor <= ridge.entry(0)", "floor > 0", floors),
    ("solved", "- (z * ridge) * count", "", enclosures),
    ("solved", "count * count * floor", "count * count * 2 * floor", narrower),
    ("_exceeds", "rest.squared() <= (count * slack) ** 2", "True", check_floors),
    ("_exceeds", "Fraction(room) - floor", "Fraction(room) + 9 * floor", check_floors),
]
CLAIMS = [
    ("ExactCheck.claim", "u.form(v) - u.room(v)", "u.form(v) + u.room(v)", forgery),
    ("ExactCheck.claim", "if not lowest > 0", "if False", tampering("i and j swapped")),
    ("ExactCheck.claim", "square > limit", "square >= limit", equality),
    ("ExactCheck.claim", "if not square > limit", "if False", forgery),
    ("ExactCheck.claim", "self._need_floor()", "pass", floors),
    ("ExactCheck.refutation", "self._need_floor()", "pass", lonely),
    (
        "ExactCheck.refutation",
        "u.form(v) + u.room(v)",
        "u.form(v) - u.room(v)",
        refutations,
    ),
    (
        "ExactCheck.refutation",
        "if not highest < 0",
        "if False",
        tampering("move that does not flip", "move undone"),
    ),
    (
        "ExactCheck.refutation",
        "self._check_cost(number, refuted)",
        "pass",
        tampering("cost understated by a little"),
    ),
    (
        "ExactCheck._check_cost",
        "weight.entry(k, m) * left.form(right)",
        "int(weight.entry(k, m) * left.form(right))",
        tampering("cost understated by a little"),
    ),
    (
        "ExactCheck._check_cost",
        "total += trace *",
        "total += 0 * trace *",
        tampering("cost witness of another vector"),
    ),
    (
        "ExactCheck._turns",
        "abs(self._weight(term))",
        "self._weight(term)",
        test_thresholds.check_reach,
    ),
    (
        "ExactCheck._turns",
        "target if term.target else ",
        "",
        test_thresholds.check_reach,
    ),
    (
        "_Moved.solved",
        "if not is_floor(lambda: self._gram, check._count, check._ridge, floor)",
        "if False",
        tampering("floor of the move too high"),
    ),
]
THRESHOLDS = [
    ("_order_2", "if square < 1 else None", "", tampering("eps beyond one")),
    (
        "_order_2",
        "square /= facts.floor",
        "pass",
        tampering("Euclidean ball too large"),
    ),
    (
        "kappa_square",
        "inside = facts.norms[0] <= support**2",
        "inside = True",
        tampering("support below the data"),
    ),
    ("_order_2", "square * (2 - square)", "square", forgery),
    ("added_square", "if total + square >= 1", "if False", test_thresholds.check_sums),
    ("added_square", "root_above(part)", "part", test_thresholds.check_sums),
    ("added_square", "square * (1 - total)", "square", test_thresholds.check_sums),
    ("ridge_square", "h * t + ", "", test_thresholds.check_ridge),
    ("ridge_square", "+ g * share", "", test_thresholds.check_ridge),
    (
        "ridge_square",
        "eps * root_above(share)",
        "eps * share",
        test_thresholds.check_ridge,
    ),
    ("ridge_square", "1 / (1 - eps)\n", "1\n", test_thresholds.check_ridge),
]
COUNTING = [
    ("_room", "gamma(rows.rows.shape[1] + 8)", "0.0", test_counting.check_distances),
    ("_room", "* sizes * sizes", "* sizes", test_counting.check_distances),
    ("_Gram.distances", "+ lost", "- lost", test_counting.check_distances),
    ("_Gram.below", "- lost", "+ lost", test_counting.check_distances),
    ("_Sweep.tile", "proven & once", "proven", test_counting.check_counts),
    (
        "_Sweep.tile",
        "gaps > up(self._limit",
        "gaps >= 0 * up(self._limit",
        test_counting.check_counts,
    ),
    (
        "_Sweep._shares",
        "return self._recipe",
        "return 0.5 * self._recipe",
        test_counting.check_counts,
    ),
    ("_Sweep.__init__", "< 2.0**1000", "<= np.inf", test_counting.check_huge_targets),
    ("_one_by_one", "found[0] | found[1]", "found[0]", test_counting.check_counts),
    ("_tiles", "cuts[: place + 1]", "cuts[:place]", test_counting.check_counts),
]
LANGUAGE = [
    (
        "sides",
        "[Term(-1, False, j, True) for j in below]",
        "[Term(1, False, j, True) for j in below]",
        tampering("i and j swapped"),
    ),
]
EXACT = [
    ("root_above", "math.isqrt(scaled) + 1", "math.isqrt(scaled)", roots),
    ("_carry", "total[place + 1] += carried", "pass", long_sums),
]
RECIPE = [
    (
        "Recipe.whiten",
        "gamma(rows.shape[1])",
        "0.0",
        test_recipe.check_rows,
    ),
    ("Recipe.whiten", " + formation * self._gain", "", test_recipe.check_formation),
    (
        "Recipe._whitened_first",
        "row.errors + 2 * U * row.norms",
        "2 * U * row.norms",
        test_recipe.check_rows,
    ),
    ("Recipe.norms", " / (1 - self.eta)", "", test_recipe.check_self_influences),
    ("Recipe.norms", "if not self.eta < 1", "if False", useless),
    ("Recipe.limit", "+ self.eta) / (1 - self.eta)", ")", pairs),
    ("Recipe.share_of", "(1 + self.eta) * ", "", test_recipe.check_shares),
    ("Recipe.share_of", "rest + omega", "rest", test_recipe.check_shares),
    ("Recipe.share_of", "1 - ratio", "1 - 1.01 * ratio", test_recipe.check_shares),
    ("Recipe.shares", " - fixed.errors", "", test_recipe.check_shares),
    ("Limit.needed", "h * t + ", "", test_recipe.check_needed),
    ("Limit.needed", " + g * shares", "", test_recipe.check_needed),
    ("Limit.needed", " + self.eta) / (1 - self.eta)", ")", test_recipe.check_needed),
    ("Recipe.proven", "not self.eta < 1 or ", "", pairs),
    ("_exceeds", "gamma(u.rows.shape[1])", "0.0", test_recipe.check_products),
    ("_exceeds", "lost + u.errors * v.norms", "lost", test_recipe.check_products),
    ("_exceeds", " + u.norms * v.errors", "", test_recipe.check_products),
    ("_exceeds", "product - lost", "product + lost", test_recipe.check_products),
]
CHECKER = [
    (
        "_differences",
        "features.digest() != read.digest",
        "False",
        tampering("other features named"),
    ),
    (
        "_differences",
        'targets.digest() != read.targets["sha256"]',
        "False",
        tampering("other targets named"),
    ),
    (
        "_compare_targets",
        'if not np.array_equal(rows, read.arrays["targets"])',
        "if False",
        tampering("targets not those of the store"),
    ),
    (
        "_held",
        "store.digest() != read.digest",
        "False",
        tampering("features of the copy changed"),
    ),
]
MUTATIONS = [
    Mutation(module, *entry)
    for module, entries in (
        (forms, FORMS),
        (claims, CLAIMS),
        (language, LANGUAGE),
        (thresholds, THRESHOLDS),
        (counting, COUNTING),
        (exact, EXACT),
        (recipe, RECIPE),
        (checker, CHECKER),
    )
    for entry in entries
]
# An honest certificate that the mutated checker refuses is noticed as well.
NOTICED = (AssertionError, ArgumentError, DataError)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutated_checker_is_noticed(mutation, monkeypatch):
    mutation.apply(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(NOTICED):
        mutation.check()


@pytest.mark.parametrize("check", [equality, roots], ids=lambda check: check.__name__)
def test_the_checks_pass_on_the_honest_code(check):
    check()
