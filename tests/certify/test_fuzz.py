"""Nothing that is not so is certified: wild exponents, wrong factors, known flips."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natgeo.certify.rankings import certify_rankings
from natgeo.certify.rounding import prove
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.geometry.natural import NaturalGeometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles
from tests.certify.test_sweep import scored, swept_pairs
from tests.certify.test_verdict import Census, exact_share, judge
from tests.certify.test_witness import TIGHT, proven_pairs

# Ways to make a factor R from the true root of Q^-1; `size` is how wrong it is.
FACTORS = {
    "true": lambda true, rng, size: true,
    "noise": lambda true, rng, size: true * (1 + size * rng.normal(size=true.shape)),
    "scaled": lambda true, rng, size: true * (1 + size),
    "rotated": lambda true, rng, size: (
        np.linalg.qr(rng.normal(size=true.shape))[0] @ true
    ),
    "swapped": lambda true, rng, size: true[::-1],
    "transposed": lambda true, rng, size: true.T,
    "unrelated": lambda true, rng, size: rng.normal(size=true.shape) / (size + 1e-9),
    "one nan": lambda true, rng, size: np.where(np.eye(len(true)), np.nan, true),
}


def wild(rng, power, spread, weighted):
    """A training set with its own exponent in every entry, and a ridge that fits."""
    n, k = int(rng.integers(4, 8)), int(rng.integers(1, 4))
    exponents = power + rng.integers(-spread, spread + 1, size=(n, k))
    train = np.ldexp(rng.normal(size=(n, k)), exponents)
    train[1] = train[0] * (1 + 2.0 ** -rng.integers(1, 52))
    targets = np.ldexp(rng.normal(size=(1, k)), int(rng.integers(-300, 300)))
    weights = np.ldexp(rng.uniform(-1, 1, size=n), rng.integers(-200, 200, size=n))
    ridge = math.ldexp(1.0, 2 * power - int(rng.integers(0, 40)))
    return train, targets, weights if weighted else None, ridge


def geometry_with(train, ridge, weights, kind, size, rng):
    """A geometry whose factor is made by `kind`, whatever that does to it."""
    q = oracles.covariance(train, ridge)
    true = np.linalg.inv(np.linalg.cholesky(q))
    factor = FACTORS[kind](true, rng, size)
    columns = {} if weights is None else {"weights": weights}
    return NaturalGeometry(MemoryStore(train, columns), ridge, q, true, factor)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    power=st.integers(-200, 200),
    spread=st.integers(0, 16),
    kind=st.sampled_from(sorted(FACTORS)),
    size=st.sampled_from([1e-15, 1e-8, 1e-4, 0.01, 0.05, 0.2, 1.0]),
    weighted=st.booleans(),
)
def test_no_exponent_and_no_factor_makes_a_false_certificate(
    seed, power, spread, kind, size, weighted
):
    check(seed, power, spread, kind, size, weighted)


def check(seed, power, spread, kind, size, weighted) -> Census:
    """Every pair by single verdict and by sweep, at its exact breaking radius."""
    census, rng = Census(), np.random.default_rng(seed)
    train, targets, weights, ridge = wild(rng, power, spread, weighted)
    with np.errstate(all="ignore"):
        try:
            geometry = geometry_with(train, ridge, weights, kind, size, rng)
        except np.linalg.LinAlgError:
            return census  # not even a guess of a factor
        rankings = certify_rankings(geometry, targets, Wasserstein2(0.0))
        proof = rankings.proof
        exact = oracles.Exact(train, ridge, weights)
        truth = exact.pairs(targets[0])
        for pair in truth:
            critical = oracles.breaking_radius(pair.square)
            i, j = pair.first, pair.second
            share = exact_share(exact, targets[0], pair)
            for above, below, direction in ((i, j, 1), (j, i, -1)):
                statement = rankings.statement(target=0, above=above, below=below)
                found = decide(proof, statement, Wasserstein2(critical))
                judge(census, kind, pair, direction, found, critical, share)
                census.claims += found.cosine > 0
                assert proof.holds or found.cosine == 0
        swept = scored(proof, targets)
        for eps in (0.0, 0.05, *map(oracles.breaking_radius, _squares(truth[::4]))):
            claimed = swept_pairs(proof, swept, Wasserstein2(eps).kappa())
            assert claimed <= oracles.certified_pairs(truth, eps)
    assert not census.false, census.false[:3]
    return census


def _squares(pairs):
    return [pair.square for pair in pairs]


@pytest.mark.parametrize("kind", ["true", "noise", "scaled", "rotated"])
def test_the_fuzz_certifies_enough_to_mean_something(kind):
    claims = [check(s, 40 * s - 100, s, kind, 1e-4, s % 2).claims for s in range(6)]
    assert sum(claims) > 20


def test_a_factor_with_a_nan_certifies_nothing():
    assert sum(check(s, 0, 1, "one nan", 0.5, False).claims for s in range(6)) == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", TIGHT)
def test_known_flips_are_never_certified_and_always_found(name, weighted):
    """At zero ridge every pair flips at 1.001 of its radius; the attack shows how."""
    case = families.case(name, weighted=weighted)
    rankings = case.rankings()
    pairs = proven_pairs(rankings, count=5)
    assert pairs
    for t, i, j, radius in pairs:
        arguments = {"target": t, "above": i, "below": j}
        beyond = dataclasses.replace(rankings, threat=Wasserstein2(1.001 * radius))
        assert beyond.verdict(**arguments).status == "undecided"
        found = beyond.verdict(**arguments, attack=True)
        assert found.status == "refuted"
        assert found.counterexample.cost <= 1.001 * radius
        # The perturbed set, judged by exact rationals and not by natgeo.
        q = oracles.exact_covariance(found.counterexample.displaced, 0.0)
        statement = rankings.statement(**arguments)
        u, v = (oracles.fractions(side.vector) for side in (statement.u, statement.v))
        assert oracles.exact_form(q, u, v) < 0


def test_known_flips_are_not_counted_by_the_sweep():
    """Between 0.999 and 1.001 of its radius each pair leaves the certified set."""
    left = 0
    for name in TIGHT:
        case = families.case(name)
        proof = prove(case.geometry())
        truth = oracles.Exact(case.train, 0.0).pairs(case.targets[0])
        found = scored(proof, case.targets[:1])
        for pair in truth[::6]:
            radius = oracles.breaking_radius(pair.square)
            if not pair.sign or not 1e-4 < radius < 0.9:
                continue
            edge = tuple(sorted((pair.first, pair.second)))
            inside, beyond = (
                {tuple(sorted(p)) for p in swept_pairs(proof, found, kappa)}
                for kappa in (
                    Wasserstein2(0.999 * radius).kappa(),
                    Wasserstein2(1.001 * radius).kappa(),
                )
            )
            assert edge in inside
            assert edge not in beyond
            left += 1
    assert left > 15
