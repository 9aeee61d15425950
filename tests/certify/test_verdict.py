"""The census of single verdicts against exact rationals, and what a verdict says."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from natgeo.certify import verdict as verdicts
from natgeo.certify.rounding import NaturalRows, prove
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import Verdict, decide, gap_is_negative
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles

RADII = (0.0, 1e-6, 0.01, 0.1, 0.4)


@dataclass
class Census:
    """Counts of pairs, claims at `RADII` and whatever was claimed and is not so."""

    pairs: int = 0
    claims: int = 0
    plain: int = 0
    false: list = dataclasses.field(default_factory=list)

    @property
    def yield_(self) -> float:
        """Certified by natgeo per pair that plain float64 would certify."""
        return self.claims / max(self.plain, 1)


def proven_at(eps, pair, share):
    """Whether the closed form, or the bound under a ridge, proves the exact pair.

    `share` returns the exact a_u^2 + a_v^2 of the pair; None at ridge 0.
    """
    if oracles.holds_at(eps, pair.square):
        return True
    return share is not None and oracles.holds_with_ridge(eps, pair.square, share())


def exact_share(exact, target, pair):
    """What `proven_at` needs, computed when it is asked for."""
    if not exact.ridge:
        return None
    return functools.cache(lambda: exact.share(target, pair))


def judge(census, label, pair, direction, verdict, critical, share=None):
    """Everything a verdict about one direction of one pair may not say."""
    right = direction == pair.sign
    if verdict.status == "certified" and not (
        right and proven_at(critical, pair, share)
    ):
        census.false.append((label, "certified at its breaking radius", pair))
    if verdict.cosine > 0 and not right:
        census.false.append((label, "wrong order", pair))
    if verdict.cosine > 0 and Fraction(verdict.cosine) ** 2 > pair.square:
        census.false.append((label, "cosine too large", pair))
    if verdict.radius > 0 and not (right and proven_at(verdict.radius, pair, share)):
        census.false.append((label, "radius too large", pair))
    if share is None and not verdict.radius <= critical:
        census.false.append((label, "radius beyond the breaking radius", pair))
    if Wasserstein2.radius(verdict.cosine) > verdict.radius:
        census.false.append((label, "radius below the closed form", pair))


def census_of_verdicts(cases) -> Census:
    """Decides every pair of every case in both directions, at its breaking radius."""
    census = Census()
    kappas = [Wasserstein2(eps).kappa() for eps in RADII]
    for case in cases:
        rankings = case.rankings()
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        for t, target in enumerate(case.targets):
            plain = oracles.cosines(case.train, target, case.ridge, case.weights)
            for pair in exact.pairs(target):
                census.pairs += 1
                critical = oracles.breaking_radius(pair.square)
                threat, share = Wasserstein2(critical), exact_share(exact, target, pair)
                order = [(pair.first, pair.second, 1), (pair.second, pair.first, -1)]
                for above, below, direction in order:
                    statement = rankings.statement(target=t, above=above, below=below)
                    verdict = decide(rankings.proof, statement, threat)
                    judge(census, case.name, pair, direction, verdict, critical, share)
                    if case.tame:
                        census.claims += sum(verdict.cosine > x for x in kappas)
                # A tie gives plain float64 a sign by rounding alone: not counted.
                if case.tame and pair.sign:
                    c = abs(float(plain[pair.first, pair.second]))
                    census.plain += sum(c > oracles.kappa(eps) for eps in RADII)
    return census


def check_census(cases, *, least_pairs, least_yield=0.999):
    census = census_of_verdicts(cases)
    assert census.pairs >= least_pairs
    assert not census.false, census.false[:5]
    assert census.yield_ >= least_yield
    return census


def check_equality_is_not_enough():
    """A cosine that equals kappa proves nothing: the inequality is strict."""
    case = families.case("random")
    rankings = case.rankings()
    statement = rankings.statement(target=0, above=0, below=1)
    for eps in (0.0, 1e-9, 0.01, 0.3, 0.9):
        kappa = Wasserstein2(eps).kappa()
        for cosine, expected in (
            (kappa, "undecided"),
            (math.nextafter(kappa, 0.0), "undecided"),
            (math.nextafter(kappa, 2.0), "certified"),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(verdicts, "_cosine", lambda *_, c=cosine: (c, ""))
                found = decide(rankings.proof, statement, Wasserstein2(eps))
            assert found.status == expected, (eps, cosine)


def check_lower_bound():
    """(Ru).(Rv) from below: its own rounding, and the worst errors of both rows."""
    rng = np.random.default_rng(3)
    for number in range(60):
        k = int(rng.integers(2, 40))
        x, y = rng.normal(size=(2, 1, k))
        sizes = np.array([0.0, 1e-12, 1e-3])[[number % 3, number // 3 % 3]]
        norms = [float(np.linalg.norm(z)) * (1 + 1e-13) for z in (x, y)]
        u, v = (
            NaturalRows(z, np.array([norm]), np.array([size * norm]))
            for z, norm, size in zip((x, y), norms, sizes, strict=True)
        )
        lowest, most = verdicts._lower_bound(x[0], y[0], u, v)
        exact = oracles.dot(oracles.fractions(x[0]), oracles.fractions(y[0]))
        e, f = (Fraction(float(z.errors[0])) for z in (u, v))
        n, m = (Fraction(norm) for norm in norms)
        # The rows may be off by e and f in the direction that hurts most.
        worst = exact - e * m - n * f - e * f
        slack = Fraction(1, 10**10) * (e * m + n * f + e * f)
        assert Fraction(lowest) <= worst + (slack if e or f else 0)
        assert Fraction(lowest) >= worst - slack - (k + 9) * n * m / 2**53
        assert Fraction(most) >= (n + e) * (m + f)


def check_no_radius_of_one():
    """Parallel sides have cosine one and still prove nothing from radius one on."""
    train = np.array([[1.0], [2.0], [-3.0]])
    case = families.Case("line", train, np.ones((1, 1)), None, 0.0, True)
    for eps in (1.0, 1.2, 1.4, 3.0):
        found = case.rankings(eps).verdict(target=0, above=1, below=0)
        assert found.cosine > 0.999
        assert found.status == "undecided"
        assert "theorem" in found.reason
    assert case.rankings(0.99).verdict(target=0, above=1, below=0).status == "certified"


LITERAL = {
    "train": np.float32([[5768, 5767], [5767, 5766], [5767, 5767]]),
    "ridge": 1 / 16,
    "target": np.float32([136, 136]),
    "above": np.float32([1644, 1643]),
    "below": np.float32([0, 0]),
}


def check_gap_is_negative():
    """Proven negative gaps are negative, also with a whitener that is far off."""
    proven = 0
    for name in ("random", "random with ridge", "condition 1e4", "near ties"):
        case = families.case(name)
        geometry = case.geometry()
        q = oracles.exact_covariance(case.train, case.ridge)
        rng = np.random.default_rng(2)
        for size in (0.0, 1e-3, 0.03):
            noise = 1 + size * rng.normal(size=geometry.whitener.shape)
            proof = prove(
                dataclasses.replace(geometry, whitener=geometry.whitener * noise)
            )
            for i, j in itertools.permutations(range(6), 2):
                u = np.float64(case.targets[0])
                v = np.float64(case.train[i]) - np.float64(case.train[j])
                # Turn u towards a right angle with v, where signs are hard to prove.
                solved = np.linalg.solve(np.float64(geometry.covariance), v)
                u = u - (0.999 * (u @ solved) / (v @ solved)) * v
                statement = Statement("", Combination(u, 0.0), Combination(v, 0.0))
                form = oracles.exact_form(q, oracles.fractions(u), oracles.fractions(v))
                if gap_is_negative(proof, statement):
                    proven += 1
                    assert form < 0
    return proven


def test_no_false_certificate_in_the_census_of_verdicts():
    check_census(families.cases(1), least_pairs=3000)


@pytest.mark.slow
def test_no_false_certificate_in_a_large_census_of_verdicts():
    check_census(families.cases(5), least_pairs=20_000)


def test_equality_is_not_enough():
    check_equality_is_not_enough()


def test_the_literal_case_that_float32_gets_wrong():
    case = LITERAL
    difference = case["above"] - case["below"]
    claimed = oracles.plain_float32_cosine(
        case["train"], case["target"], difference, case["ridge"]
    )
    # Plain float32 claims the order, with a large radius (0.5899 and 0.4388 where
    # products and sums are fused, 0.2434 and 0.1735 where they are not).
    assert claimed > 0.2
    assert oracles.radius(claimed) > 0.15
    # The exact rational truth is the opposite order.
    sign, square = oracles.exact_cosine_square(
        oracles.exact_covariance(case["train"], case["ridge"]),
        oracles.fractions(case["target"]),
        oracles.fractions(difference),
    )
    assert sign == -1
    assert float(square) ** 0.5 == pytest.approx(0.5992, abs=1e-4)

    proof = prove(natural_geometry(case["train"], case["ridge"]))
    u = Combination(np.float64(case["target"]), 0.0)
    wrong = Statement("above wins", u, Combination(np.float64(difference), 0.0))
    right = Statement("below wins", u, Combination(-np.float64(difference), 0.0))
    for eps in (0.0, 0.01, 0.4):
        found = decide(proof, wrong, Wasserstein2(eps))
        assert (found.status, found.cosine, found.radius) == ("undecided", 0.0, 0.0)
    found = decide(proof, right, Wasserstein2(0.1))
    assert found.status == "certified"
    assert found.cosine == pytest.approx(0.5992, abs=1e-4)
    assert Fraction(found.cosine) ** 2 <= square


def test_the_literal_case_as_ranked_training_examples():
    # The same numbers with both points in the training set, so that the sweep sees it.
    train = np.concatenate([LITERAL["train"], [LITERAL["above"], LITERAL["below"]]])
    case = families.Case(
        "literal", train, LITERAL["target"][None], None, LITERAL["ridge"], False
    )
    census = census_of_verdicts([case])
    assert census.pairs == 10
    assert not census.false


def test_proven_negative_gaps_are_negative():
    assert check_gap_is_negative() > 50


def test_a_negative_gap_is_not_proven_without_a_proof():
    case = families.case("random")
    rankings = case.rankings()
    for i, j in itertools.permutations(range(4), 2):
        statement = rankings.statement(target=0, above=i, below=j)
        broken = dataclasses.replace(rankings.proof, eta=1.0)
        assert gap_is_negative(broken, statement) is False


def test_known_flips_are_never_certified():
    """At zero ridge the theorem is tight: every pair flips at 1.001 of its radius."""
    case = families.case("random")
    rankings = case.rankings()
    flips = 0
    for i, j in itertools.permutations(range(len(case.train)), 2):
        radius = rankings.radius(target=0, above=i, below=j)
        if 0 < radius < 0.99:
            flips += 1
            statement = rankings.statement(target=0, above=i, below=j)
            beyond = decide(rankings.proof, statement, Wasserstein2(1.001 * radius))
            inside = decide(rankings.proof, statement, Wasserstein2(0.999 * radius))
            assert beyond.status == "undecided"
            assert inside.status == "certified"
    assert flips > 10


def test_inner_products_are_bounded_from_below():
    check_lower_bound()


def test_a_radius_of_one_or_more_is_undecided_with_a_reason():
    check_no_radius_of_one()


def test_ties_are_undecided_both_ways():
    train = np.float64([[1, 2], [1, 2], [3, -1], [0, 0], [0, 0], [-1, 5]])
    target = np.float64([[1, 1]])
    rankings = families.Case("ties", train, target, None, 0.0, True).rankings(0.0)
    for i, j in [(0, 1), (1, 0), (3, 4), (4, 3), (2, 2)]:
        found = rankings.verdict(target=0, above=i, below=j)
        assert found.status == "undecided"
        assert "tie" in found.reason
        assert found.radius == 0.0


def test_an_exact_right_angle_is_undecided_both_ways():
    # Q is diagonal and exact; u . v = 0 in it although neither is zero.
    train = np.float64([[2, 0], [-2, 0], [0, 2], [0, -2]])
    rankings = families.Case(
        "angle", train, np.float64([[1, 1]]), None, 0.0, True
    ).rankings(0.0)
    for i, j in [(0, 2), (2, 0), (1, 3), (3, 1)]:
        found = rankings.verdict(target=0, above=i, below=j)
        assert found.status == "undecided"
        assert "do not prove" in found.reason


def test_a_target_of_zeros_is_undecided():
    case = families.case("random")
    zeros = dataclasses.replace(case, targets=np.zeros_like(case.targets))
    rankings = zeros.rankings(0.0)
    assert rankings.verdict(target=0, above=0, below=1).status == "undecided"
    np.testing.assert_array_equal(rankings.fraction, 0)


def test_a_verdict_has_no_truth_value():
    found = families.case("random").rankings().verdict(target=0, above=0, below=1)
    with pytest.raises(TypeError, match="three values"):
        bool(found)


@pytest.mark.parametrize("kappa", [math.nan, math.inf, np.float64(np.nan)])
def test_a_threat_without_a_usable_kappa_certifies_nothing(kappa):
    class Odd:
        def kappa(self, proof):
            return kappa

        def describe(self):
            return "odd"

    rankings = families.case("random").rankings()
    for i, j in itertools.permutations(range(4), 2):
        statement = rankings.statement(target=0, above=i, below=j)
        assert decide(rankings.proof, statement, Odd()).status == "undecided"


def test_a_verdict_reports_what_it_rests_on():
    rankings = families.case("random").rankings(0.01)
    found = [
        rankings.verdict(target=0, above=i, below=j)
        for i, j in itertools.permutations(range(5), 2)
    ]
    sure = [v for v in found if v.status == "certified"]
    assert sure
    for v in sure:
        assert isinstance(v, Verdict)
        assert (v.eta, v.reason) == (rankings.proof.eta, "")
        assert v.radius > 0.01
        assert v.threat == rankings.threat.describe()
    for v in found:
        assert (v.status == "certified") == (v.reason == "")
        assert v.counterexample is None


# --------------------------------------------------------------------- metamorphic


def all_verdicts(case, eps=0.02, order=None):
    rankings = case.rankings(eps)
    n = len(case.train)
    place = np.arange(n) if order is None else np.argsort(order)
    return {
        (t, i, j): rankings.verdict(target=t, above=int(place[i]), below=int(place[j]))
        for t in range(len(case.targets))
        for i, j in itertools.permutations(range(n), 2)
    }


def compare(first, second, *, rtol):
    assert first.keys() == second.keys()
    for key, a in first.items():
        assert a.status == second[key].status, key
        assert a.cosine == pytest.approx(second[key].cosine, rel=rtol, abs=rtol)


METAMORPHIC = ["random", "random with ridge", "condition 1e2", "n < k with ridge"]


@pytest.mark.parametrize("name", METAMORPHIC)
def test_permuted_rows_give_the_same_verdicts(name):
    case = families.case(name)
    order = np.random.default_rng(0).permutation(len(case.train))
    moved = dataclasses.replace(case, train=case.train[order])
    compare(all_verdicts(case), all_verdicts(moved, order=order), rtol=1e-10)


@pytest.mark.parametrize("name", METAMORPHIC)
def test_a_duplicated_data_set_gives_the_same_verdicts(name):
    case = families.case(name)
    twice = dataclasses.replace(case, train=np.concatenate([case.train, case.train]))
    more = all_verdicts(twice)
    compare(
        all_verdicts(case), {key: more[key] for key in all_verdicts(case)}, rtol=1e-10
    )


@pytest.mark.parametrize("name", METAMORPHIC)
def test_a_signed_permutation_of_coordinates_gives_the_same_verdicts(name):
    case = families.case(name)
    rng = np.random.default_rng(1)
    k = case.train.shape[1]
    order, signs = rng.permutation(k), rng.choice([-1.0, 1.0], k)
    moved = dataclasses.replace(
        case, train=case.train[:, order] * signs, targets=case.targets[:, order] * signs
    )
    compare(all_verdicts(case), all_verdicts(moved), rtol=1e-10)


@pytest.mark.parametrize("power", [-80, -7, 3, 90])
@pytest.mark.parametrize("name", METAMORPHIC)
def test_a_power_of_two_changes_nothing(name, power):
    case = families.case(name)
    moved = dataclasses.replace(
        case,
        train=np.ldexp(case.train, power),
        targets=np.ldexp(case.targets, power),
        ridge=math.ldexp(case.ridge, 2 * power),
    )
    compare(all_verdicts(case), all_verdicts(moved), rtol=1e-12)


@pytest.mark.parametrize("name", ["random with ridge", "n < k with ridge"])
def test_appended_zero_columns_change_nothing(name):
    case = families.case(name)

    def padded(array):
        return np.concatenate([array, np.zeros((len(array), 3))], axis=1)

    moved = dataclasses.replace(
        case, train=padded(case.train), targets=padded(case.targets)
    )
    compare(all_verdicts(case), all_verdicts(moved), rtol=1e-10)


def test_unit_weights_are_no_weights():
    case = families.case("random")
    ones = dataclasses.replace(case, weights=np.ones(len(case.train)))
    compare(all_verdicts(case), all_verdicts(ones), rtol=1e-12)


# ------------------------------------------------------------------ wild exponents


def test_wild_exponents_never_make_a_false_certificate():
    rng = np.random.default_rng(77)
    census = Census()
    for number in range(40):
        power = int(rng.integers(-480, 480))
        train = np.ldexp(rng.normal(size=(6, 2)), power + rng.integers(-20, 20, (6, 2)))
        targets = np.ldexp(
            rng.normal(size=(2, 2)), rng.integers(-900, 1000, size=(2, 1))
        )
        weights = np.ldexp(
            rng.uniform(size=6), rng.integers(-500, 500, size=6) * (number % 2)
        )
        with np.errstate(all="ignore"):
            geometry = natural_geometry(
                MemoryStore(train, {"weights": weights}), math.ldexp(1.0, 2 * power - 9)
            )
            exact = oracles.Exact(train, geometry.ridge, weights)
            rankings = dataclasses.replace(
                families.case("random").rankings(),
                geometry=geometry,
                targets=MemoryStore(targets),
            )
            for t, target in enumerate(targets):
                for pair in exact.pairs(target):
                    critical = oracles.breaking_radius(pair.square)
                    i, j = pair.first, pair.second
                    for above, below, direction in ((i, j, 1), (j, i, -1)):
                        statement = rankings.statement(
                            target=t, above=above, below=below
                        )
                        found = decide(
                            rankings.proof, statement, Wasserstein2(critical)
                        )
                        share = exact_share(exact, target, pair)
                        judge(census, number, pair, direction, found, critical, share)
                        census.claims += found.cosine > 0
    assert not census.false, census.false[:3]
    assert census.claims > 100
