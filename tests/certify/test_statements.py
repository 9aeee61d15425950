"""Statements against the oracle, and the rounding of their combinations."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import statements
from natgeo.certify.rounding import prove
from natgeo.certify.statements import combine
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.natural import natural_geometry
from tests import families, oracles


def exact_combination(features, coefficients):
    """sum_t c_t x_t of one batch entry, exactly."""
    columns = zip(*oracles.fractions(features), strict=True)
    return [oracles.dot(oracles.fractions(coefficients), column) for column in columns]


def check_combine(features, coefficients):
    """The formation bound covers the exact error; returns bound and largest size."""
    vectors, formation = combine(features, coefficients)
    for x, c, vector, bound in zip(
        features, coefficients, vectors, formation, strict=True
    ):
        exact = exact_combination(x, c)
        off = [a - b for a, b in zip(oracles.fractions(vector), exact, strict=True)]
        assert Fraction(float(bound)) ** 2 >= oracles.dot(off, off)
        sizes = np.abs(c) @ np.linalg.norm(x, axis=1)
        assert bound <= 1.01 * (len(c) + 2) * 2.0**-53 * sizes + 2.0**-890
    return vectors, formation


def check_combinations():
    rng = np.random.default_rng(14)
    for terms, dtype in itertools.product((1, 2, 3, 7), (np.float32, np.float64)):
        for kind in ("signs", "short", "long"):
            features = np.float64(rng.normal(size=(30, terms, 3)).astype(dtype))
            if terms > 1:  # near duplicates: the difference cancels
                features[::2, 1] = features[::2, 0] * (1 + 1e-7)
            coefficients = {
                "signs": rng.choice([-1.0, 1.0], size=(30, terms)),
                "short": np.float64(np.float32(rng.normal(size=(30, terms)))),
                "long": rng.normal(size=(30, terms)),
            }[kind]
            check_combine(features, coefficients)


def every_statement(geometry, targets, rng):
    """(statement, exact u, exact v) of every kind, for random indices."""
    n = geometry.train.shape[0]
    phi = oracles.fractions(np.asarray(geometry.train))
    r = oracles.fractions(geometry.weights)
    t = oracles.fractions(targets)

    def sum_of(terms):
        return [sum(c * phi[i][k] for c, i in terms) for k in range(len(phi[0]))]

    i, j, h = (int(x) for x in rng.choice(n, size=3, replace=False))
    a, b = 0, 1
    yield (
        statements.pair(geometry, targets, target=a, above=i, below=j),
        t[a],
        sum_of([(r[i], i), (-r[j], j)]),
    )
    yield (
        statements.proponent(geometry, targets, target=a, example=i),
        t[a],
        sum_of([(r[i], i)]),
    )
    yield (
        statements.opponent(geometry, targets, target=b, example=j),
        t[b],
        sum_of([(-r[j], j)]),
    )
    yield (
        statements.group(geometry, targets, target=b, above=[i, h], below=[j]),
        t[b],
        sum_of([(r[i], i), (r[h], h), (-r[j], j)]),
    )
    yield (
        statements.group(geometry, targets, target=b, above=[], below=[j, i]),
        t[b],
        sum_of([(-r[i], i), (-r[j], j)]),
    )
    yield (
        statements.target_pair(geometry, targets, more=a, less=b, example=i),
        [x - y for x, y in zip(t[a], t[b], strict=True)],
        sum_of([(r[i], i)]),
    )
    one = Fraction(1)
    yield (
        statements.self_influence_pair(geometry, above=i, below=j),
        sum_of([(one, i), (-one, j)]),
        sum_of([(one, i), (one, j)]),
    )


def check_statement(proof, q, statement, u, v, *, tight):
    """Sign, cosine and radius of one verdict against the exact rational truth."""
    sign, square = oracles.exact_cosine_square(q, u, v)
    verdict = decide(proof, statement, Wasserstein2(0.0))
    ridge = proof.geometry.ridge

    def proven_at(eps):
        if oracles.holds_at(eps, square):
            return True
        shares = [oracles.exact_moment_share(q, ridge, x) for x in (u, v) if ridge]
        return ridge > 0 and oracles.holds_with_ridge(eps, square, sum(shares))

    if verdict.cosine > 0:
        assert sign > 0
        assert Fraction(verdict.cosine) ** 2 <= square
        assert verdict.radius == 0 or proven_at(verdict.radius)
    if tight:
        true = float(square) ** 0.5 if sign > 0 else 0.0
        assert true - verdict.cosine <= 1e-9 * (1 + true)
    if sign:
        critical = oracles.breaking_radius(square)
        beyond = decide(proof, statement, Wasserstein2(critical))
        assert beyond.status == "undecided" or (sign > 0 and proven_at(critical))
    return verdict.cosine > 0


def check_every_statement(repeats=6):
    rng = np.random.default_rng(15)
    proven = 0
    for name, weighted in itertools.product(families.FAMILIES, (False, True)):
        case = families.case(name, weighted=weighted)
        geometry = case.geometry()
        proof, q = prove(geometry), oracles.exact_covariance(case.train, case.ridge)
        for _ in range(repeats):
            for found in every_statement(geometry, case.targets, rng):
                proven += check_statement(proof, q, *found, tight=case.tame)
    return proven


def test_combinations_are_never_further_off_than_their_bound():
    check_combinations()


def test_one_stored_feature_is_exact():
    rng = np.random.default_rng(16)
    features = rng.normal(size=(4, 1, 5))
    for coefficient in (1.0, -1.0):
        vectors, formation = check_combine(features, np.full((4, 1), coefficient))
        np.testing.assert_array_equal(vectors, coefficient * features[:, 0])
        np.testing.assert_array_equal(formation, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_duplicates_keep_their_digits(dtype):
    # A difference of two features loses one rounding of itself, not of their size.
    rng = np.random.default_rng(17)
    base = rng.normal(size=(20, 1, 6)).astype(dtype)
    both = np.float64(np.concatenate([base, np.nextafter(base, dtype(9))], axis=1))
    vectors, formation = check_combine(both, np.tile([1.0, -1.0], (20, 1)))
    assert (formation <= 1e-15 * np.linalg.norm(vectors, axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_one_ulp_apart_can_be_told_apart(dtype):
    case = families.case("one ulp", dtype)
    rankings = case.rankings(0.0)
    truth = oracles.Exact(case.train, case.ridge).pairs(case.targets[0])
    twins = [p for p in truth if p.second == p.first + 5 and p.square > 0.01]
    assert twins
    for pair in twins:
        i, j = pair.first, pair.second
        above, below = (i, j) if pair.sign > 0 else (j, i)
        found = rankings.verdict(target=0, above=above, below=below)
        assert found.status == "certified"


@pytest.mark.parametrize("exponents", [(-1074, -1000), (-700, -400), (-10, 500)])
def test_combinations_at_the_ends_of_the_range(exponents):
    rng = np.random.default_rng(18)
    features = np.ldexp(
        rng.uniform(0.5, 1, size=(40, 2, 3)), rng.integers(*exponents, size=(40, 2, 3))
    )
    for power in (-300, 0, 20):
        coefficients = np.ldexp(rng.uniform(0.5, 1, size=(40, 2)), power)
        vectors, formation = combine(features, coefficients)
        for x, c, vector, bound in zip(
            features, coefficients, vectors, formation, strict=True
        ):
            exact = exact_combination(x, c)
            off = [a - b for a, b in zip(oracles.fractions(vector), exact, strict=True)]
            assert Fraction(float(bound)) ** 2 >= oracles.dot(off, off)


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([0.0], 1),
        ([1.0, -2.0, 2.0**-1074], 1),
        ([3.0], 2),
        ([-3.0, 0.75], 2),
        ([1 + 2.0**-23], 24),
        ([-1 - 2.0**-52], 53),
        ([1 / 3], 53),
        ([1.0, 5.0, 0.0], 3),
    ],
)
def test_significant_bits_of_values(values, bits):
    assert statements._significant_bits(np.array(values)) == bits


def test_every_statement_agrees_with_exact_rationals():
    assert check_every_statement() > 500


@pytest.mark.slow
def test_many_statements_agree_with_exact_rationals():
    assert check_every_statement(repeats=60) > 5000


def test_a_group_of_many_examples_agrees_with_exact_rationals():
    rng = np.random.default_rng(19)
    train = rng.normal(size=(300, 3))
    targets = rng.normal(size=(1, 3))
    geometry = natural_geometry(train, 0.0)
    above = [int(i) for i in np.argsort(-train @ targets[0])[:140]]
    below = [i for i in range(300) if i not in above]
    found = statements.group(geometry, targets, target=0, above=above, below=below)
    signs = np.where(np.isin(np.arange(300), above), 1.0, -1.0)
    v = exact_combination(train, signs)
    q = oracles.exact_covariance(train, 0.0)
    u = oracles.fractions(targets[0])
    assert check_statement(prove(geometry), q, found, u, v, tight=True)


def test_claims_name_their_indices():
    case = families.case("random")
    geometry = case.geometry()
    found = statements.pair(geometry, case.targets, target=2, above=4, below=5)
    assert "target 2" in found.claim
    assert found.claim.index("4") < found.claim.index("5")


@pytest.mark.parametrize("bad", [-1, 10**6, 2**31, True, 1.0, "3", None])
@pytest.mark.parametrize("place", ["target", "above", "below"])
def test_bad_indices_are_refused_by_name(place, bad):
    case = families.case("random")
    indices = {"target": 0, "above": 1, "below": 2, place: bad}
    with pytest.raises(ArgumentError, match=place):
        statements.pair(case.geometry(), case.targets, **indices)


def test_two_empty_groups_are_refused():
    case = families.case("random")
    with pytest.raises(ArgumentError, match="empty"):
        statements.group(case.geometry(), case.targets, target=0, above=[], below=[])


def test_targets_of_another_width_are_refused():
    case = families.case("random")
    with pytest.raises(DataError, match="features per example"):
        statements.pair(case.geometry(), np.ones((1, 99)), target=0, above=0, below=1)


def test_an_example_against_itself_is_a_tie():
    case = families.case("random")
    geometry = case.geometry()
    found = statements.pair(geometry, case.targets, target=0, above=3, below=3)
    verdict = decide(prove(geometry), found, Wasserstein2(0.0))
    assert verdict.status == "undecided"
    assert "tie" in verdict.reason
