"""The exact enclosures hold for any witness, and floors for nothing that is not one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from natgeo.proof import forms
from natgeo.proof.exact import integers, limbs
from tests import oracles


def solved(train, ridge, floor, x, z):
    """What a witness leaves over, with Phi'Phi z by exact products."""
    phi = limbs(train)
    applied = (phi.transposed @ (phi @ limbs(z[:, None]))).integers().transposed[0]
    exact = integers(np.array([ridge]))
    return forms.solved(integers(x), integers(z), applied, len(train), exact, floor)


def check_enclosures():
    """Good, bad and absurd witnesses: the exact form is always inside."""
    rng = np.random.default_rng(5)
    for turn in range(150):
        n, k = int(rng.integers(4, 8)), int(rng.integers(1, 4))
        train, ridge = rng.standard_normal((n, k)), [0.0, 0.5, 3.0][turn % 3]
        q = oracles.exact_covariance(train, ridge)
        floor = Fraction(np.linalg.eigvalsh(oracles.covariance(train, ridge))[0]) * (
            1 - Fraction(1, 2**30)
        )
        x, y = rng.standard_normal((2, k))
        exact = [oracles.exact_solve(q, oracles.fractions(side)) for side in (x, y)]
        guesses = [
            np.array([float(a) for a in side])
            * (1 + rng.choice([0.0, 1e-6, 1.0, 1e6]) * rng.standard_normal(k))
            for side in exact
        ]
        u = solved(train, ridge, floor, x, guesses[0])
        v = solved(train, ridge, floor, y, guesses[1])
        for left, right, row, answer in ((u, v, x, exact[1]), (v, u, y, exact[0])):
            true = oracles.dot(oracles.fractions(row), answer)
            assert abs(left.form(right) - true) <= left.room(right)
            own = exact[0] if row is x else exact[1]
            assert left.longest() >= oracles.dot(oracles.fractions(row), own)


def check_enclosures_are_not_narrower():
    """A residual along the smallest eigenvalue uses the whole room."""
    train, ridge = np.diag([4.0, 1.0]), 0.25
    q = np.array([8.0, 0.5]) + ridge
    x = np.array([0.0, 3.0])
    for z in (np.zeros(2), np.array([0.0, 1.0]), np.array([0.0, 100.0])):
        floor = Fraction(q[1]) * (1 - Fraction(1, 2**40))
        found = solved(train, ridge, floor, x, z)
        true = Fraction(9) / Fraction(q[1])
        assert 0 <= found.longest() - true <= found.slack / 2**39
        assert abs(found.form(found) - true) <= found.room(found)


def check_shares():
    """a_x^2 from above and the sine of a move from above, for any witness."""
    rng = np.random.default_rng(6)
    close = 0
    for turn in range(120):
        n, k = int(rng.integers(2, 8)), int(rng.integers(1, 5))
        train, ridge = rng.standard_normal((n, k)), [0.5, 3.0][turn % 2]
        q = oracles.exact_covariance(train, ridge)
        x = rng.standard_normal(k)
        exact = oracles.exact_solve(q, oracles.fractions(x))
        size = rng.choice([0.0, 1e-6, 0.1, 1.0, 1e6])
        guess = np.array([float(a) for a in exact])
        guess = guess * (1 + size * rng.choice([-1, 1], k))
        found = solved(train, ridge, Fraction(ridge), x, guess)
        length = oracles.dot(oracles.fractions(x), exact)
        share = 1 - Fraction(ridge) * oracles.dot(exact, exact) / length
        assert found.share(Fraction(ridge), Fraction(ridge)) >= share
        close += found.share(Fraction(ridge), Fraction(ridge)) <= share + Fraction(1e-4)
        for part in (0.1, 0.99, 1.01, 3.0):
            distance = Fraction(part) * Fraction(float(length) ** 0.5)
            sine = min(distance**2 / length, Fraction(1))
            assert found.turn_square(distance) >= sine
    assert close > 30


def check_floors():
    """Singular data have no floor, although a rounded Cholesky factor may exist."""
    rng = np.random.default_rng(11)
    factored = proven = 0
    for _ in range(300):
        k = int(rng.integers(2, 5))
        short = rng.standard_normal((6, k - 1)) @ rng.integers(-3, 4, (k - 1, k))
        # Multiples of 2^-20: the products above are exact, the rank is k - 1.
        train = np.round(short * 2**10) / 2**10
        train[:, -1] = train[:, 0]
        gram = limbs(train).gram.integers()
        nothing = integers(np.array([0.0]))
        floor = Fraction(float(10.0 ** rng.uniform(-22, -14)))
        factored += forms._cholesky(gram, len(train)) is not None
        assert not forms.is_floor(lambda g=gram: g, len(train), nothing, floor)
        small = integers(np.array([2.0**-30]))
        proven += forms.is_floor(
            lambda g=gram: g, len(train), small, Fraction(2.0**-30) * 2 / 3
        )
        assert not forms.is_floor(
            lambda g=gram: g, len(train), small, Fraction(2.0**-30) * 2
        )
        assert not forms.is_floor(lambda g=gram: g, len(train), small, Fraction(0))
    assert factored > 20
    assert proven == 300


CHECKS = (
    check_enclosures,
    check_enclosures_are_not_narrower,
    check_floors,
    check_shares,
)


@pytest.mark.parametrize("check", CHECKS)
def test_it_holds(check):
    check()
