"""Counts of all pairs: every bound against exact rationals, every pair by itself."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError
from natgeo.proof import counting
from natgeo.proof.checker import check_certificate
from natgeo.proof.data import Data
from natgeo.proof.recipe import Recipe
from tests import families, oracles
from tests.certify.test_ridge import large_ridges
from tests.certify.test_verdict import exact_share, proven_at
from tests.proof import cases

RIDGED = ("random", "random with ridge", "near ties", "duplicates", "offset")


def exact_square(row):
    return sum((x * x for x in row), Fraction(0))


def check_distances():
    """Distances of computed rows, from above and from below, also near duplicates."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((40, 5))
    rows[20:] = rows[:20] + 1e-7 * rng.standard_normal((20, 5))
    # Sums whose rounding goes both ways.
    rows = np.concatenate([rows, rows * 1e3, 1 + 1e-9 * rows])
    norms = np.linalg.norm(rows, axis=1) * (1 + 1e-15)
    gram = counting._gram(counting.Rows(rows, norms, np.zeros(len(rows))))
    whole = slice(0, len(rows))
    above, below = gram.distances(whole, whole), gram.below(whole, whole)
    exact = oracles.fractions(rows)
    tight = 0
    for i, j in rng.integers(0, len(rows), (4000, 2)).tolist():
        true = exact_square([a - b for a, b in zip(exact[i], exact[j], strict=True)])
        assert Fraction(float(below[i, j])) <= true <= Fraction(float(above[i, j]))
        size = (norms[i] + norms[j]) ** 2
        assert above[i, j] - below[i, j] <= 1e-14 * size
        tight += 1
    assert tight == 4000


def recipes():
    for case in [*map(families.case, RIDGED), *large_ridges()]:
        geometry = case.geometry()
        data = Data(geometry.train, dict(enumerate(np.float64(case.targets))))
        yield case, Recipe(data, geometry.whitener, case.ridge)


def check_counts():
    """Never above the exact count, by either bound, and as many as pair by pair."""
    total = by_ridge = 0
    for case, recipe in recipes():
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        n = len(case.train)
        orders = np.array([(i, j) for i in range(n) for j in range(n) if i != j])
        for t, target in enumerate(case.targets):
            for eps in (0.0, 0.01, 0.1):
                square = oracles.kappa_square(eps)
                found = counting.proven_pairs(recipe, t, square, eps)
                closed = counting.proven_pairs(recipe, t, square, None)
                named = np.column_stack([np.full(len(orders), t), orders])
                assert found == recipe.proven(named, square, eps).sum()
                truth = exactly(exact, target, eps)
                assert closed <= found <= truth
                total, by_ridge = total + found, by_ridge + found - closed
                assert found >= 0.95 * truth or not case.tame
    assert total > 100
    assert by_ridge > 3


def exactly(exact, target, eps):
    """How many pairs hold by the closed form or by the bound under a ridge."""
    return sum(
        pair.sign != 0 and proven_at(eps, pair, exact_share(exact, target, pair))
        for pair in exact.pairs(target)
    )


def test_distances_are_enclosed():
    check_distances()


def test_counts_are_those_of_single_pairs_and_never_too_high():
    check_counts()


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_a_count_is_written_checked_and_close_to_the_sweep(tmp_path, ridge):
    order = cases.rankings(6, n=700, k=6, ridge=ridge, eps=0.05)
    report = ng.write_certificate(tmp_path / "c", order, counts=[0, 2])
    assert [found.form for found in report.findings] == ["count", "count"]
    assert report.status == "valid"
    body = json.loads((tmp_path / "c" / "certificate.json").read_bytes())
    found = np.array([part["at_least"] for part in body["counts"]])
    swept = order.counts()[[0, 2], 0]
    assert (abs(found - swept) <= 1e-4 * order.pairs).all()
    assert (found < order.pairs).all()


def test_counts_under_other_threats(tmp_path):
    order = cases.rankings(6, n=40, k=4)
    for number, threat in enumerate(
        (ng.threats.Delete(1), ng.threats.Add(1, 1.0), ng.threats.Euclidean2(1e-3))
    ):
        other = ng.certify_rankings(order.geometry, order.targets, threat)
        folder = tmp_path / str(number)
        report = ng.write_certificate(folder, other, counts=[1])
        assert report.status == "valid"
        body = json.loads((folder / "certificate.json").read_bytes())
        swept = int(other.counts()[1, 0])
        assert 0 < body["counts"][0]["at_least"] <= swept
        assert check_certificate(folder, order.geometry.train).status == "valid"


def test_counts_that_files_cannot_hold(tmp_path):
    order = cases.rankings(6, n=40, k=4)
    moving = ng.certify_rankings(
        order.geometry, order.targets, ng.threats.WassersteinInfinity(0.01)
    )
    with pytest.raises(ArgumentError, match="single claims"):
        ng.write_certificate(tmp_path / "c", moving, counts=[0])
    beside = ng.threats.Moving(ng.threats.Delete(1), target=0.0, examples=0.0)
    with pytest.raises(ArgumentError, match="no words"):
        ng.write_certificate(
            tmp_path / "c", order, [(cases.statements(order)[0], beside)]
        )
    for target in (3, -1, True):
        with pytest.raises(ArgumentError, match="counts"):
            ng.write_certificate(tmp_path / "c", order, counts=[target])
    assert not (tmp_path / "c").exists()


def check_huge_targets():
    """Targets so long that some of their scores overflow: not one false pair more."""
    rng, less = np.random.default_rng(0), 0
    train, target = rng.standard_normal((30, 3)), rng.standard_normal(3)
    geometry = ng.natural_geometry(ng.MemoryStore(train), 0.0)
    sizes = np.sort(np.abs(geometry.natural @ geometry.whitener @ target))
    for size in sizes[-10:].tolist():
        long = target / size * np.finfo(np.float64).max
        targets = {0: long, 1: np.ldexp(long, -600)}
        recipe = Recipe(Data(geometry.train, targets), geometry.whitener, 0.0)
        for eps in (0.5, 0.9, 0.99):
            square = oracles.kappa_square(eps)
            found = [counting.proven_pairs(recipe, t, square, eps) for t in (0, 1)]
            assert found[0] <= found[1]
            less += found[0] < found[1]
    assert less > 0


def test_scores_that_overflow_prove_nothing():
    check_huge_targets()


def test_without_a_proof_nothing_is_counted():
    case, recipe = next(recipes())
    assert counting.proven_pairs(recipe, 0, Fraction(1), None) == 0
    data = Data(case.geometry().train, dict(enumerate(np.float64(case.targets))))
    useless = Recipe(data, np.zeros_like(case.geometry().whitener), case.ridge)
    assert counting.proven_pairs(useless, 0, Fraction(0), 0.0) == 0
