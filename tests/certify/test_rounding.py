"""Each error term of rounding.py against exact rationals, also for wrong whiteners."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import rounding
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.errors import UnfitEnvironmentError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles

NAMES = sorted(families.FAMILIES)


def with_whitener(geometry, whitener):
    """The geometry with another, untrusted, hint for L^-1."""
    return dataclasses.replace(geometry, whitener=np.asarray(whitener, np.float64))


def squared_length(vector):
    return sum((x * x for x in vector), Fraction(0))


def check_rows(natural_rows, exact_rows, whitener, *, loose):
    """norms and errors of natural rows against exact vectors R x."""
    matrix = oracles.fractions(whitener)
    for row, bound, error, vector in zip(
        oracles.fractions(natural_rows.rows),
        natural_rows.norms,
        natural_rows.errors,
        exact_rows,
        strict=True,
    ):
        exact = oracles.product(matrix, vector)
        assert Fraction(float(bound)) ** 2 >= squared_length(row)
        off = [a - b for a, b in zip(row, exact, strict=True)]
        assert Fraction(float(error)) ** 2 >= squared_length(off)
        # True norms follow from both.
        whole = Fraction(float(bound)) + Fraction(float(error))
        assert whole**2 >= squared_length(exact)
        size = math.sqrt(float(squared_length(vector)))
        gain = float(np.linalg.norm(whitener))
        assert error <= loose * len(vector) * 2.0**-53 * size * gain + 2.0**-890


def check_train_rows(case):
    proof = rounding.prove(case.geometry())
    whitener = proof.geometry.whitener
    exact = oracles.fractions(case.train)
    check_rows(proof.train, exact, whitener, loose=1.01)
    if case.weights is not None:
        weights = oracles.fractions(case.weights)
        exact = [[w * x for x in row] for w, row in zip(weights, exact, strict=True)]
        check_rows(proof.weighted, exact, whitener, loose=3.0)


def check_whiten(case):
    """Vectors that are themselves rounded: `formation` bounds how far they are off."""
    proof = rounding.prove(case.geometry())
    rng = np.random.default_rng(8)
    rows = np.float64(case.targets)
    for share in (0.0, 1e-9):
        off = share * np.abs(rows) * rng.uniform(-1, 1, size=rows.shape)
        exact = [
            [x + d for x, d in zip(row, move, strict=True)]
            for row, move in zip(
                oracles.fractions(rows), oracles.fractions(off), strict=True
            )
        ]
        formation = np.linalg.norm(off, axis=1) * (1 + 1e-12)
        found = proof.whiten(rows, formation)
        check_rows(
            found,
            exact,
            proof.geometry.whitener,
            loose=1.01 + share * 2.0**53,
        )


def check_eta(geometry, *, loose=None):
    """eta >= ||R Q R^T - I||_2 exactly, and eta - that <= a few gammas."""
    proof = rounding.prove(geometry)
    train = np.asarray(geometry.train, np.float64)
    exact = oracles.exact_whitening_defect(train, geometry.ridge, geometry.whitener)
    assert proof.eta >= exact * (1 - 1e-12)
    if loose is not None:
        n, k = train.shape
        spread = np.linalg.norm(train, axis=1).max() * np.linalg.norm(geometry.whitener)
        natural = float(np.square(geometry.natural).sum()) / n
        size = (
            natural
            + geometry.ridge * np.linalg.norm(geometry.whitener) ** 2
            + math.sqrt(k) * spread
        )
        # Frobenius instead of spectral norm, and the gammas.
        unit = 2.0**-53
        assert proof.eta <= math.sqrt(k) * exact + loose * (n + k + 9) * unit * size


def check_eta_sees_the_rounding_of_the_gram_matrix():
    """One large example first, then thousands whose squares are lost beside it."""
    rng = np.random.default_rng(6)
    for _ in range(10):
        train = 2.0**-27 * rng.uniform(0.9, 1.1, size=(4000, 1))
        train[0] = rng.uniform(1, 2)
        squares = [Fraction(float(x)) ** 2 for x in train[:, 0]]
        geometry = natural_geometry(train, 0.0)
        scale = Fraction(float(geometry.whitener[0, 0]))
        proof = rounding.prove(geometry)
        defect = abs(sum(squares, Fraction(0)) / len(train) * scale**2 - 1)
        assert Fraction(proof.eta) >= defect
        assert proof.eta <= 1e-11


def check_eta_sees_the_rounding_of_the_ridge():
    """No data at all: Q is the ridge, and E is nothing but its rounding."""
    rng = np.random.default_rng(7)
    for _ in range(40):
        check_eta(natural_geometry(np.zeros((1, 1)), float(rng.uniform(0.5, 2))))


def check_eta_sees_the_rounding_of_the_rows():
    """Ill-conditioned data: the rows are off by far more than the Gram matrix."""
    for power, number in itertools.product((6, 8, 10), range(5)):
        check_eta(families.case(f"condition 1e{power}", number=number).geometry())


def check_eta_of_wrong_whiteners():
    for name in ("random", "random with ridge", "n < k with ridge"):
        geometry = families.case(name).geometry()
        for size in (0.0, 1e-12, 1e-6, 1e-2, 0.1):
            for seed in range(4):
                rng = np.random.default_rng(seed)
                noise = rng.normal(size=geometry.whitener.shape)
                check_eta(
                    with_whitener(geometry, geometry.whitener * (1 + size * noise))
                )


def check_needed_cosine(proof, kappa):
    """c_R > needed implies c >= c_R (1 - eta) - eta > kappa, exactly; not much more."""
    needed, eta = Fraction(proof.needed_cosine(kappa)), Fraction(proof.eta)
    assert needed * (1 - eta) - eta >= Fraction(kappa)
    exact = (Fraction(kappa) + eta) / (1 - eta)
    assert needed <= exact * (1 + Fraction(1, 2**38)) + Fraction(2) ** -890


# The same checks, as ordinary tests.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_errors_and_norms_are_never_below_the_truth(name, dtype):
    check_train_rows(families.case(name, dtype, 0, False))
    check_train_rows(families.case(name, dtype, 1, True))


@pytest.mark.parametrize("name", NAMES)
def test_whitened_vectors_carry_their_formation_error(name):
    check_whiten(families.case(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eta_is_never_below_the_exact_defect(name, dtype):
    check_eta(families.case(name, dtype).geometry(), loose=3.0)


def test_eta_sees_the_rounding_of_the_gram_matrix():
    check_eta_sees_the_rounding_of_the_gram_matrix()


def test_eta_sees_the_rounding_of_the_ridge():
    check_eta_sees_the_rounding_of_the_ridge()


def test_eta_sees_the_rounding_of_the_rows():
    check_eta_sees_the_rounding_of_the_rows()


def test_eta_of_perturbed_whiteners_is_never_below_the_exact_defect():
    check_eta_of_wrong_whiteners()


def test_eta_spans_several_blocks():
    rng = np.random.default_rng(4)
    train = np.float32(rng.normal(size=(4096 * 2 + 5, 2)))
    proof = rounding.prove(natural_geometry(train, 0.0))
    exact = oracles.exact_whitening_defect(train, 0.0, proof.geometry.whitener)
    assert exact * (1 - 1e-12) <= proof.eta < 1e-10
    assert proof.train.rows.shape == train.shape
    some = [0, 4095, 4096, 8191, 8192, 8196]
    check_rows(
        proof.train.take(np.array(some)),
        oracles.fractions(train[some]),
        proof.geometry.whitener,
        loose=1.01,
    )


@pytest.mark.parametrize("name", ["random", "condition 1e4", "near ties", "huge"])
def test_needed_cosine_proves_kappa(name):
    proof = rounding.prove(families.case(name).geometry())
    for kappa in (0.0, 1e-12, 0.01, 0.5, 1 - 1e-9, 1.0):
        check_needed_cosine(proof, kappa)


def test_needed_cosine_with_a_bad_whitener_is_larger_or_infinite():
    geometry = families.case("random").geometry()
    proof = rounding.prove(with_whitener(geometry, 1.05 * geometry.whitener))
    assert 0.1 < proof.eta < 1
    check_needed_cosine(proof, 0.3)
    proof = rounding.prove(with_whitener(geometry, 2 * geometry.whitener))
    assert not proof.holds
    assert proof.needed_cosine(0.0) == math.inf


def test_scaled_rows_keep_exact_powers_of_two_and_signs():
    proof = rounding.prove(families.case("random").geometry())
    factors = np.resize([1.0, -2.0, 0.5], len(proof.train.rows))
    found = proof.train.scaled(factors)
    np.testing.assert_array_equal(found.rows, proof.train.rows * factors[:, None])
    assert (found.norms >= np.abs(factors) * proof.train.norms).all()
    assert (found.errors >= np.abs(factors) * proof.train.errors).all()


def hints(geometry):
    """Whiteners that are wrong in every way, named."""
    right = geometry.whitener
    rng = np.random.default_rng(12)
    k = len(right)
    yield "float32", np.float64(np.float32(right))
    yield "transposed", right.T
    yield "reversed", right[::-1]
    yield "rotated", np.linalg.qr(rng.normal(size=(k, k)))[0] @ right
    yield "not lower triangular", right + 1e-3 * np.abs(right).max()
    yield "zero", np.zeros((k, k))
    yield "identity", np.eye(k)
    yield "random", rng.normal(size=(k, k))
    yield "nan", np.full((k, k), np.nan)
    yield "one nan", np.where(np.eye(k) * np.arange(k) == 1, np.nan, right)
    yield "infinite", np.full((k, k), np.inf)
    yield "huge", right * 1e200
    yield "tiny", right * 1e-200
    for size in (1e-15, 1e-8, 1e-4, 1e-2, 0.1, 0.5, 2.0):
        yield f"noise {size}", right * (1 + size * rng.normal(size=(k, k)))
        yield f"scaled {size}", right * (1 + size)


def check_wrong_whiteners(names=("random", "random with ridge", "condition 1e4")):
    """No false certificate with any hint; returns how many pairs were certified."""
    claims = 0
    for name in names:
        case = families.case(name)
        geometry = case.geometry()
        exact = oracles.Exact(case.train, case.ridge)
        truth = exact.pairs(case.targets[0])
        for label, hint in hints(geometry):
            with np.errstate(all="ignore"):
                wrong = dataclasses.replace(
                    case.rankings(), geometry=with_whitener(geometry, hint)
                )
                proof = wrong.proof
            for pair in truth:
                i, j = pair.first, pair.second
                for above, below, sign in ((i, j, 1), (j, i, -1)):
                    statement = wrong.statement(target=0, above=above, below=below)
                    verdict = decide(proof, statement, Wasserstein2(0.0))
                    if not proof.eta < 1:
                        assert verdict.status == "undecided", label
                        assert "ill-conditioned" in verdict.reason
                    if verdict.status == "certified":
                        claims += 1
                        assert pair.sign == sign, label
                        assert Fraction(verdict.cosine) ** 2 <= pair.square, label
                        share = exact.share(case.targets[0], pair)
                        assert oracles.holds_at(
                            verdict.radius, pair.square
                        ) or oracles.holds_with_ridge(
                            verdict.radius, pair.square, share
                        ), label
    return claims


def test_a_wrong_whitener_never_makes_a_false_certificate():
    assert check_wrong_whiteners() > 500


@pytest.mark.parametrize("label", ["zero", "nan", "one nan", "infinite", "huge"])
def test_a_useless_whitener_gives_undecided_with_a_reason(label):
    case = families.case("random")
    geometry = case.geometry()
    hint = dict(hints(geometry))[label]
    wrong = dataclasses.replace(case.rankings(), geometry=with_whitener(geometry, hint))
    with np.errstate(all="ignore"):
        assert wrong.proof.eta == math.inf or wrong.proof.eta >= 1
        verdict = wrong.verdict(target=0, above=0, below=1)
        assert verdict.status == "undecided"
        assert "ridge" in verdict.reason
        assert verdict.radius == verdict.cosine == 0.0
        assert (wrong.fraction == 0).all()
        n = len(case.train)
        np.testing.assert_array_equal(wrong.ranks(0), [[1, n]] * n)


def test_eta_of_stored_float16_features_is_exact_data():
    rng = np.random.default_rng(10)
    train = rng.normal(size=(9, 3)).astype(np.float16)
    check_eta(natural_geometry(MemoryStore(train), 0.25), loose=3.0)


def test_a_natural_matrix_that_is_not_the_product_is_an_unfit_environment():
    geometry = families.case("random").geometry()
    wrong = geometry.natural.copy()
    wrong[2, 1] += 1e-9
    object.__setattr__(geometry, "natural", wrong)
    with pytest.raises(UnfitEnvironmentError, match="does not agree"):
        rounding.prove(geometry)


def test_a_proof_that_does_not_hold_is_not_believed_at_exactly_one():
    proof = rounding.prove(families.case("random").geometry())
    assert proof.holds
    for eta in (1.0, math.inf, math.nan):
        assert not dataclasses.replace(proof, eta=eta).holds
