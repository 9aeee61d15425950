"""The bound under a ridge: its terms against exact rationals, its truth by attacks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import ridge
from natgeo.certify.bounds import row_norms
from natgeo.certify.rounding import NaturalRows, prove
from natgeo.certify.threats import Add, Delete, Wasserstein2
from natgeo.certify.verdict import decide
from tests import attacks, families, oracles
from tests.certify import test_verdict
from tests.certify.test_rounding import squared_length, with_whitener

# Ridges of these families have rational roots, so that z is a rational vector.
RIDGED = (
    "random with ridge",
    "rank deficient with ridge",
    "Vandermonde",
    "big integers",
    "offset",
)
RADII = (1e-12, 1e-4, 0.003, 0.01, 0.03, 0.1, 0.3, 0.7, 0.99)


def proofs(name, sizes=(0.0, 1e-3, 0.03)):
    """Proofs of one family, also with whiteners that are wrong by these sizes."""
    case = families.case(name)
    geometry = case.geometry()
    rng = np.random.default_rng(5)
    for size in sizes:
        noise = 1 + size * rng.normal(size=geometry.whitener.shape)
        proof = prove(with_whitener(geometry, geometry.whitener * noise))
        if proof.holds:
            yield case, proof


def exact_ridge_rows(proof, vectors):
    """sqrt(ridge) R^T R x of exact vectors x."""
    matrix = oracles.fractions(proof.geometry.whitener)
    turned = [list(column) for column in zip(*matrix, strict=True)]
    root = Fraction(math.sqrt(proof.geometry.ridge))
    assert root**2 == Fraction(proof.geometry.ridge)
    return [
        [root * a for a in oracles.product(turned, oracles.product(matrix, x))]
        for x in vectors
    ]


def check_ridge_rows():
    """Norms and errors of z against the exact z, with whitening errors included."""
    for name in RIDGED:
        for case, proof in proofs(name, (0.0, 1e-3)):
            train = oracles.fractions(case.train)
            found = ridge.ridge_rows(proof, proof.train)
            exact = exact_ridge_rows(proof, train)
            for row, norm, error, z in zip(
                oracles.fractions(found.rows),
                found.norms,
                found.errors,
                exact,
                strict=True,
            ):
                off = [a - b for a, b in zip(row, z, strict=True)]
                assert Fraction(float(norm)) ** 2 >= squared_length(row)
                assert Fraction(float(error)) ** 2 >= squared_length(off)
            size = math.sqrt(proof.geometry.ridge) * proof.whitener_norm
            unit = (len(train[0]) + 4) * 2.0**-53
            most = unit * size * proof.train.norms + 2 * proof.train.errors
            assert (found.errors <= 1.01 * most + 1e-200).all()


def check_ridge_rows_cover_their_own_rounding():
    """Rows without errors: z is off by the root, the scaling and the product."""
    _, proof = next(iter(proofs("random with ridge", (0.0,))))
    turned = proof.geometry.whitener.T
    for number in range(2, 30):
        geometry = dataclasses.replace(proof.geometry, ridge=float(number))
        off = dataclasses.replace(proof, geometry=geometry)
        x = np.random.default_rng(number).normal(size=(1, len(turned)))
        found = ridge.ridge_rows(off, NaturalRows(x, row_norms(x), np.zeros(1)))
        root = oracles.exact_root(Fraction(number))
        exact = oracles.product(oracles.fractions(turned), oracles.fractions(x)[0])
        far = [
            a - root * b
            for a, b in zip(oracles.fractions(found.rows)[0], exact, strict=True)
        ]
        assert Fraction(float(found.errors[0])) ** 2 >= squared_length(far)


def check_ridge_rows_cover_the_errors_of_their_rows():
    """Rows that are off by their whole error, along the worst direction of R."""
    _, proof = next(iter(proofs("random with ridge", (0.0,))))
    root = math.sqrt(proof.geometry.ridge)
    _, gains, directions = np.linalg.svd(root * proof.geometry.whitener.T)
    assert gains[0] > 0.3
    x = proof.train.rows[:1]
    moved = NaturalRows(
        x + 1e-3 * directions[:1], row_norms(x) + 1e-3, np.array([1e-3])
    )
    honest, found = (
        ridge.ridge_rows(proof, rows)
        for rows in (NaturalRows(x, row_norms(x), np.zeros(1)), moved)
    )
    assert found.errors[0] >= np.linalg.norm(found.rows - honest.rows)


def check_moments():
    """|Rx|^2 and |Rx|^2 - |z|^2 from above, for the worst errors of either row."""
    rng = np.random.default_rng(9)
    for number in range(60):
        k = int(rng.integers(1, 30))
        x, z = rng.normal(size=(2, 1, k))
        z = z * 0.9 * np.linalg.norm(x) / np.linalg.norm(z)
        e, f = np.array([0.0, 1e-12, 1e-3])[[number % 3, number // 3 % 3]]
        rows = NaturalRows(x, row_norms(x), np.array([e]))
        fixed = NaturalRows(z, row_norms(z), np.array([f]))
        whole, moved = ridge.moments(rows, fixed)
        longest = Fraction(float(rows.norms[0])) + Fraction(float(e))
        exact = sum((Fraction(float(a)) ** 2 for a in z[0]), Fraction(0))
        # sqrt(exact) - f from below, squared.
        shortest = oracles.exact_root(exact) - Fraction(float(f))
        assert Fraction(float(whole[0])) >= longest**2
        assert Fraction(float(moved[0])) >= longest**2 - shortest**2
        assert moved[0] <= float(longest**2 - shortest**2) * (1 + 1e-9) + 3 * f * f


def check_moments_cover_their_own_rounding():
    """z as long as the row itself: what is left over is rounding, never below zero."""
    rng = np.random.default_rng(10)
    for number in range(200):
        k = 3 + number % 60
        x = rng.normal(size=(1, k))
        rows = NaturalRows(x, np.array([float(np.sqrt(x @ x.T)[0, 0])]), np.zeros(1))
        whole, moved = ridge.moments(rows, NaturalRows(x, row_norms(x), np.zeros(1)))
        exact = sum((Fraction(float(a)) ** 2 for a in x[0]), Fraction(0))
        assert Fraction(float(moved[0])) >= Fraction(float(whole[0])) - exact


def check_shares():
    """a_x^2 of natural coordinates, also where R is not their whitener."""
    wide = 0
    for name in (*RIDGED, "n < k with ridge"):
        for case, proof in proofs(name):
            exact = oracles.Exact(case.train, case.ridge)
            rows = np.concatenate([np.float64(case.train), np.float64(case.targets)])
            found = ridge.shares(proof, proof.whiten(rows))
            for share, row in zip(found, oracles.as_integers(rows)[0], strict=True):
                truth = exact.moment_share(row)
                assert 1 >= Fraction(float(share)) >= truth
                assert share <= truth + 5 * proof.eta / (1 - proof.eta) ** 2 + 1e-6
                wide += share - float(truth) > 1e-3
    assert wide > 5  # eta matters in some of them


def check_shares_by_the_formula():
    """(1 + eta)((|Rx|^2 - |z|^2) / |Rx|^2 + omega) from above, at most 1."""
    for name in RIDGED[:2]:
        for case, proof in proofs(name, (0.0, 1e-3, 0.01)):
            rows, eta = proof.whiten(np.float64(case.targets)), Fraction(proof.eta)
            whole, moved = ridge.moments(rows, ridge.ridge_rows(proof, rows))
            omega = eta * (3 + 2 * eta) / (1 - eta)
            for share, a, b in zip(
                ridge.shares(proof, rows), whole, moved, strict=True
            ):
                bound = (1 + eta) * (Fraction(float(b)) / Fraction(float(a)) + omega)
                assert Fraction(float(share)) >= min(bound, 1)


def check_shares_with_a_long_whitener():
    """R too long by a factor: |z| grows more than |Rx|, and eta must make up for it."""
    for name in RIDGED[:2]:
        case = families.case(name)
        geometry = case.geometry()
        q = oracles.exact_covariance(case.train, case.ridge)
        # The first eigenvector of Q has the largest part of the ridge.
        x = np.linalg.eigh(geometry.covariance)[1][:, :1].T
        truth = oracles.exact_moment_share(q, case.ridge, oracles.fractions(x)[0])
        for scale in (1.001, 1.01, 1.02):
            proof = prove(with_whitener(geometry, scale * geometry.whitener))
            found = ridge.shares(proof, proof.whiten(x))
            assert Fraction(float(found[0])) >= truth


def check_threshold():
    """T from above, and not by much."""
    for eps, share in itertools.product(RADII, (0.0, 1e-9, 0.1, 1.0, 2.0)):
        found = Fraction(ridge.threshold(eps, share))
        exact = oracles.ridge_threshold(eps, Fraction(share))
        assert found >= exact
        assert found <= exact * (1 + Fraction(1, 2**35)) + Fraction(2) ** -890
    for eps in (1.2, 1.0, math.inf, math.nan):
        assert ridge.threshold(eps, 0.0) == math.inf


def check_radius():
    """The radius passes the exact inequality, and a little more does not."""
    for cosine, share in itertools.product(
        (1e-12, 1e-4, 0.01, 0.3, 0.9, 1.0), (0.0, 1e-6, 0.1, 1.0, 2.0)
    ):
        found = ridge.radius(cosine, share)
        square = Fraction(cosine) ** 2
        assert 0 < found < 1
        assert oracles.holds_with_ridge(found, square, Fraction(share))
        more = found * (1 + 1e-9)
        assert not oracles.holds_with_ridge(more, square, Fraction(share))


def check_curve():
    """(T + eta) / (1 - eta) from above at every y, and closely."""
    for eps, eta, share in itertools.product(
        RADII, (0.0, 1e-14, 1e-3, 0.3), (0.0, 1e-9, 0.1, 1.0, 2.0)
    ):
        root, flat, slope = (Fraction(float(x)) for x in ridge.curve(eta, eps))
        y = Fraction(share)
        wanted = (oracles.ridge_threshold(eps, y) + Fraction(eta)) / (1 - Fraction(eta))
        found = root * oracles.exact_root(y) + flat + slope * y
        assert found >= wanted * (1 - Fraction(1, 2**200))
        assert found <= wanted * (1 + Fraction(1, 2**35)) + Fraction(2) ** -890


def test_ridge_rows_are_never_further_off_than_they_say():
    check_ridge_rows()


def test_ridge_rows_cover_their_own_rounding():
    check_ridge_rows_cover_their_own_rounding()


def test_ridge_rows_cover_the_errors_of_their_rows():
    check_ridge_rows_cover_the_errors_of_their_rows()


def test_moments_are_never_below_the_truth():
    check_moments()


def test_moments_cover_their_own_rounding():
    check_moments_cover_their_own_rounding()


def test_shares_are_never_below_the_truth():
    check_shares()


def test_shares_follow_the_formula():
    check_shares_by_the_formula()


def test_shares_with_a_whitener_that_is_too_long():
    check_shares_with_a_long_whitener()


def test_the_threshold_is_never_below_the_printed_formula():
    check_threshold()


def test_the_radius_is_proven_and_the_largest():
    check_radius()


def test_the_curve_is_never_below_the_threshold():
    check_curve()


def test_rows_of_zeros_and_of_infinity_have_the_largest_share():
    _, proof = next(iter(proofs("random with ridge")))
    k = proof.geometry.width
    odd = np.stack([np.zeros(k), np.full(k, 1e200), np.full(k, np.inf)])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(ridge.shares(proof, proof.whiten(odd)), 1.0)


# ----------------------------------------------------------------------- attacks


def spectra(k, rng):
    """Moments of the data in natural coordinates, named."""
    yield "no ridge", np.ones(k)
    yield "low rank", np.where(np.arange(k) < k // 2, 0.0, rng.uniform(0.5, 1, k))
    yield "clustered", rng.choice([0.01, 0.9], k)
    yield "huge ridge", rng.uniform(0, 1e-3, k)
    yield "tiny ridge", 1 - rng.uniform(0, 1e-3, k)
    yield "uniform", rng.uniform(0, 1, k)
    yield "geometric", np.geomspace(1e-4, 1, k)


def with_cosine(spectrum, cosine, rng):
    """A random form with a given cosine."""
    u, v = rng.normal(size=(2, len(spectrum)))
    u = u / np.linalg.norm(u)
    v = v - (u @ v) * u
    v = cosine * u + math.sqrt(1 - cosine**2) * v / np.linalg.norm(v)
    return attacks.Form(spectrum, u, v)


def best_radius(form):
    """The proven radius, by either bound."""
    return max(oracles.radius(form.cosine), ridge.radius(form.cosine, form.share))


def attack_forms(count, starts):
    """Breaking radius over proven radius of random forms, by name of the spectrum."""
    rng = np.random.default_rng(21)
    ratios = {}
    for _ in range(count):
        for name, spectrum in spectra(int(rng.integers(2, 6)), rng):
            form = with_cosine(spectrum, 10 ** rng.uniform(-4, -0.3), rng)
            move = attacks.cheapest_break(form, starts=starts)
            assert abs(form.value(move)) < 1e-5 * form.cosine, name
            proven = best_radius(form)
            ratios.setdefault(name, []).append(float(np.linalg.norm(move)) / proven)
            assert attacks.climb(form, 0.999 * proven, starts=1) > 0, name
    return ratios


def check_attacks(count=1, starts=0):
    ratios = attack_forms(count, starts)
    for name, found in ratios.items():
        assert min(found) > 1 - 1e-6, name
    # Without a ridge the attack is as good as the theorem, so it is a good attack.
    np.testing.assert_allclose(ratios["no ridge"], 1, rtol=1e-4)
    return ratios


def check_directions_without_data():
    """Where the data have no moment only the second order is left, and it is tight."""
    rng = np.random.default_rng(22)
    for eps in (1e-3, 0.01, 0.1, 0.3):
        for scale, broken in ((0.8, True), (1.001, False)):
            spectrum = np.array([0.0, 0.0, 0.0, 0.5])
            form = with_cosine(spectrum[:3], scale * ridge.threshold(eps, 0.0), rng)
            form = attacks.Form(
                spectrum, np.append(form.left, 0), np.append(form.right, 0)
            )
            worst = attacks.climb(form, eps, starts=6)
            assert (worst < 0) == broken or (broken and eps > 0.05)
            if not broken:
                assert best_radius(form) >= eps


def test_no_attack_beats_the_bound():
    check_attacks()


@pytest.mark.slow
def test_no_attack_beats_the_bound_on_many_forms():
    ratios = check_attacks(count=4, starts=2)
    assert np.median(np.concatenate(list(ratios.values()))) < 1.3


def test_the_second_order_is_needed_where_there_are_no_data():
    check_directions_without_data()


def check_steps_of_the_proof():
    """u^T N^-1 v against the two lines of the proof, for random displacements."""
    rng = np.random.default_rng(23)
    for _ in range(40):
        for _, spectrum in spectra(int(rng.integers(2, 6)), rng):
            form = with_cosine(spectrum, rng.uniform(0, 0.9), rng)
            eps = 10 ** rng.uniform(-3, -0.2)
            move = rng.normal(size=(len(spectrum),) * 2)
            if rng.uniform() < 0.5:
                move = -np.outer(form.left, np.sqrt(spectrum) * form.right)
                move -= np.outer(form.right, np.sqrt(spectrum) * form.left)
            move *= eps / max(np.linalg.norm(move), 1e-300)
            m = float(form.left @ (spectrum * form.right))
            s, t = (1 + form.cosine) / 2, 1 / (1 - eps)
            linear = eps * math.sqrt(form.share + 2 * form.cosine * m)
            rest = eps**2 * (s + (form.share - 2 * m) * t**2 / 4 / s)
            assert form.value(move) >= form.cosine - linear - rest - 1e-12
            # Step (4): the threshold without m is as strong where it is used.
            kappa, needed = (
                oracles.kappa(eps),
                ridge.threshold(eps, form.share),
            )
            if needed < form.cosine <= kappa:
                assert form.cosine > linear + rest


def test_every_step_of_the_proof_on_random_displacements():
    check_steps_of_the_proof()


def test_step_four_on_a_grid():
    """c > T implies c > F for every m, on a grid of all that they depend on."""
    checked = 0
    for eps, y in itertools.product(
        (1e-4, 0.01, 0.1, 0.3, 0.6, 0.9), np.linspace(0, 2, 41)
    ):
        t, kappa = 1 / (1 - eps), oracles.kappa(eps)
        needed = float(oracles.ridge_threshold(eps, Fraction(float(y))))
        for c in np.linspace(needed, kappa, 20) if needed < kappa else []:
            s, m = (1 + c) / 2, np.linspace(-y / 2, y / 2, 41)
            linear = eps * np.sqrt(np.maximum(y + 2 * c * m, 0))
            rest = eps**2 * (s + (y - 2 * m) * t**2 / 4 / s)
            assert (c >= (linear + rest) * (1 - 1e-12)).all()
            checked += 1
    assert checked > 1000


# ---------------------------------------------------------------------- verdicts


def large_ridges():
    """Random cases whose ridge is as large as the data, or larger."""
    rng = np.random.default_rng(24)
    for ridge_, weighted in itertools.product((4.0, 64.0), (False, True)):
        train, targets = rng.normal(size=(8, 4)), rng.normal(size=(3, 4))
        weights = rng.uniform(-0.2, 1, size=8) if weighted else None
        yield families.Case(
            f"large ridge {ridge_}", train, targets, weights, ridge_, True
        )


def check_large_ridges():
    """Verdicts of large ridges against the exact formulas; counts what is gained."""
    census, better = test_verdict.Census(), 0
    for case in large_ridges():
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        for eps in (0.01, 0.1):
            rankings = case.rankings(eps)
            for t, target in enumerate(case.targets):
                for pair in exact.pairs(target):
                    share = test_verdict.exact_share(exact, target, pair)
                    i, j = pair.first, pair.second
                    above, below = (i, j) if pair.sign > 0 else (j, i)
                    found = rankings.verdict(target=t, above=above, below=below)
                    test_verdict.judge(
                        census, case.name, pair, pair.sign, found, eps, share
                    )
                    truth = test_verdict.proven_at(eps, pair, share)
                    assert (
                        (found.status == "certified") == truth == (found.radius >= eps)
                    )
                    better += truth and not oracles.holds_at(eps, pair.square)
    assert not census.false, census.false[:3]
    assert better > 15


def test_a_verdict_takes_the_better_of_the_two():
    check_large_ridges()


def check_both_sides_of_the_radius():
    """Certified a little inside the radius of the better bound, undecided outside."""
    found = 0
    for case in large_ridges():
        rankings = case.rankings()
        for i, j in itertools.permutations(range(5), 2):
            statement = rankings.statement(target=0, above=i, below=j)
            verdict = decide(rankings.proof, statement, Wasserstein2(0.0))
            if Wasserstein2.radius(verdict.cosine) < verdict.radius < 0.99:
                found += 1
                for share, status in ((0.9999, "certified"), (1.0001, "undecided")):
                    threat = Wasserstein2(share * verdict.radius)
                    near = decide(rankings.proof, statement, threat)
                    assert near.status == status
                    assert near.radius == verdict.radius
    assert found > 20


def test_the_verdict_changes_at_its_radius():
    check_both_sides_of_the_radius()


def test_without_a_ridge_the_closed_form_is_all_there_is():
    for name in ("random", "condition 1e4", "lattice"):
        rankings = families.case(name).rankings(0.1)
        for i, j in itertools.permutations(range(5), 2):
            verdict = rankings.verdict(target=0, above=i, below=j)
            assert verdict.radius == Wasserstein2.radius(verdict.cosine)


def test_other_threats_keep_their_own_bound():
    rankings = families.case("random with ridge").rankings()
    for threat in (Delete(1), Add(1, 1.0)):
        kappa = threat.kappa(rankings.proof)
        for i, j in itertools.permutations(range(5), 2):
            statement = rankings.statement(target=0, above=i, below=j)
            verdict = decide(rankings.proof, statement, threat)
            assert (verdict.status == "certified") == (verdict.cosine > kappa)
