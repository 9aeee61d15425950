"""Each bound of the float64 recipe against its exact value."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from natgeo.errors import UnfitEnvironmentError
from natgeo.proof import recipe as module
from natgeo.proof import rounding
from natgeo.proof.data import Data
from natgeo.proof.recipe import Recipe
from natgeo.proof.rounding import Rows, require_sound_arithmetic
from natgeo.store.memory import MemoryStore
from tests import families, oracles
from tests.proof import second

NAMES = ("random", "condition 1e4", "condition 1e8", "huge", "tiny", "lattice")


def exact_rows(whitener, rows):
    r = second.matrix(whitener)
    return [[second.dot(line, x) for line in r] for x in second.matrix(rows)]


def exact_distance(found, exact) -> Fraction:
    """Squared distance of computed from exact numbers."""
    return sum(
        ((Fraction(float(a)) - b) ** 2 for a, b in zip(found, exact, strict=True)),
        Fraction(0),
    )


def recipes(names=NAMES, weighted=True):
    for name in names:
        case = families.case(name, weighted=weighted)
        geometry = case.geometry()
        data = Data(geometry.train, dict(enumerate(np.float64(case.targets))))
        yield case, geometry, Recipe(data, geometry.whitener, case.ridge)


def check_rows():
    """Norms and errors of whitened rows, and of differences by both routes."""
    for case, geometry, recipe in recipes():
        exact = exact_rows(geometry.whitener, case.train)
        for i, row in enumerate(exact):
            found = recipe.train.rows[i]
            assert Fraction(recipe.train.errors[i]) ** 2 >= exact_distance(found, row)
            size = exact_distance(found, [Fraction(0)] * len(row))
            assert Fraction(recipe.train.norms[i]) ** 2 >= size
        pairs = np.array([(i, j) for i in range(len(exact)) for j in range(i)])
        r = second.vector(geometry.weights)
        for made in (recipe._whitened_first(pairs), recipe._subtracted_first(pairs)):
            for place, (i, j) in enumerate(pairs.tolist()):
                want = [
                    r[i] * a - r[j] * b for a, b in zip(exact[i], exact[j], strict=True)
                ]
                lost = exact_distance(made.rows[place], want)
                assert Fraction(made.errors[place]) ** 2 >= lost
                reach = Fraction(made.reach[place])
                assert reach**2 >= sum((x * x for x in want), Fraction(0))


def check_eta():
    """Never below the exact defect, and not far above it where it can be tight."""
    for case, geometry, recipe in recipes():
        assert recipe.eta >= oracles.exact_whitening_defect(
            case.train, case.ridge, geometry.whitener
        )
    # The computed Gram matrix is the identity to the last bit and the exact one is not.
    for rows, ridge in (
        (np.full((3, 1), 1 + 2.0**-30), 0.0),
        (np.ones((1, 1)), 2.0**-60),
    ):
        data = Data(MemoryStore(rows), {})
        for whitener in (1.0, 1 / (1 + 2.0**-30), 1 - 2.0**-30 + 2.0**-60):
            matrix = np.array([[whitener]])
            exact = second.eta_of(
                second.Facts(second.matrix(rows), [], [], Fraction(ridge)), matrix
            )
            assert Recipe(data, matrix, ridge).eta >= float(exact) * (1 - 2.0**-40)


def check_self_influences():
    """Bounds of the squared natural norms, also with a bad whitener."""
    for case, geometry, honest in recipes(("random", "condition 1e2"), weighted=False):
        facts = second.Facts(
            second.matrix(case.train), [], [], Fraction(float(case.ridge))
        )
        worse = Recipe(honest._data, geometry.whitener * 0.8, case.ridge)
        for recipe in (honest, worse):
            assert recipe.eta < 1
            for bound, exact in zip(recipe.norms(), facts.largest_norms, strict=True):
                assert bound >= exact


def check_shares():
    """a_x^2 from above, with whiteners that are off as well."""
    for case, geometry, honest in recipes(("random with ridge", "offset")):
        q = oracles.exact_covariance(case.train, case.ridge)
        x = np.linalg.eigh(geometry.covariance)[1][:, :1].T
        rows = np.concatenate([np.float64(case.train), x])
        truth = [
            oracles.exact_moment_share(q, case.ridge, row)
            for row in oracles.fractions(rows)
        ]
        for scale in (1.0, 1.001, 1.01, 1.02, 0.99):
            data = Data(geometry.train, {})
            recipe = Recipe(data, scale * geometry.whitener, case.ridge)
            found = recipe.shares(recipe.whiten(rows))
            for share, exact in zip(found, truth, strict=True):
                assert 1 >= Fraction(float(share)) >= exact
        assert recipe.eta > 1e-3 > honest.eta
        whole = honest.whiten(rows)
        off = Rows(whole.rows, whole.norms, whole.norms * 1e-3)
        fixed = np.linalg.norm(honest.fixed(off).rows, axis=1)
        lowest = np.maximum(fixed - honest.fixed(off).errors, 0) / off.reach
        assert (honest.shares(off) >= np.minimum(1 - lowest**2, 1)).all()
        ratio = 0.25 * np.ones(3)
        for eta in (0.0, 1e-3, 0.1):
            honest.eta = eta
            omega = eta * (3 + 2 * eta) / (1 - eta)
            want = (1 + eta) * (1 - ratio**2 + omega)
            got = honest.share_of(ratio, np.ones(3))
            assert (got >= np.minimum(want, 1)).all()
        assert (honest.share_of(np.full(1, np.inf), np.ones(1)) == 1).all()


def check_needed():
    """The better of kappa and T, with the whitening error, from above."""
    for eps, share, eta in itertools.product(
        (1e-9, 1e-3, 0.1, 0.9), (0.0, 1e-6, 0.3, 2.0), (0.0, 1e-9, 1e-2)
    ):
        exact = oracles.ridge_threshold(eps, Fraction(share))
        wanted = (exact + Fraction(eta)) / (1 - Fraction(eta))
        found = module.Limit(np.inf, eps, eta).needed(np.array([share]))[0]
        assert wanted <= Fraction(float(found)) <= wanted * (1 + Fraction(1, 2**30))
        assert module.Limit(1e-30, eps, eta).needed(np.array([share]))[0] == 1e-30
        assert module.Limit(0.5, None, eta).needed(np.array([share]))[0] == 0.5


def check_products():
    """A row is proven above a threshold only if its exact cosine is."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        k = int(rng.integers(1, 5))
        left, right = rng.standard_normal((2, 1, k))
        if rng.random() < 0.5:  # nearly orthogonal: the product is all rounding
            right -= left * (left @ right.T) / (left @ left.T)
        errors = 10.0 ** rng.integers(-17, -1, 2) * rng.integers(0, 2, 2)
        rows = [
            Rows(x, np.array([np.linalg.norm(x)]) * (1 + 1e-15), np.array([e]))
            for x, e in zip((left, right), errors, strict=True)
        ]
        exact = [second.vector(x[0]) for x in (left, right)]
        # The worst exact rows within the errors, one after the other.
        worst = exact[0], exact[1]
        u = moved(worst[0], worst[1], errors[0])
        v = moved(worst[1], u, errors[1])
        product = second.dot(u, v)
        if not product:
            continue
        square = second.dot(u, u) * second.dot(v, v)
        for needed in (0.0, float(product) / math.sqrt(float(square))):
            for slack in (0, 1e-16, -1e-16):
                limit = max(0.0, needed + slack)
                if module._exceeds(*rows, limit)[0]:
                    assert product > 0
                    assert product**2 > Fraction(limit) ** 2 * square


def moved(x, away, error):
    """x moved by `error` against another vector."""
    size = math.sqrt(float(second.dot(away, away)))
    if not (error and size):
        return x
    factor = Fraction(float(error) / size) * (1 - Fraction(1, 2**40))
    return second.subtract(x, [factor * a for a in away])


def check_formation():
    """A row that is itself off by some length may be off by that times W."""
    for _, geometry, recipe in recipes(("random", "condition 1e4")):
        found = recipe.whiten(np.zeros((1, geometry.width)), 0.5)
        assert found.errors[0] >= 0.5 * np.linalg.norm(geometry.whitener, 2)


CHECKS = (
    check_formation,
    check_rows,
    check_eta,
    check_self_influences,
    check_shares,
    check_needed,
    check_products,
)


@pytest.mark.parametrize("check", CHECKS)
def test_bounds_hold(check):
    check()


def test_equality_is_not_enough():
    row = Rows(np.array([[1.0, 0.0]]), np.array([1.0]), np.array([0.0]))
    side = Rows(np.array([[0.0, 1.0]]), np.array([1.0]), np.array([0.0]))
    assert module._exceeds(row, row, 0.5)[0]
    assert not module._exceeds(row, row, 1.0)[0]
    assert not module._exceeds(row, side, 0.0)[0]
    assert not module._exceeds(row, row, math.nan)[0]


@pytest.mark.parametrize("factor", [0.0, 1e-200, 1e200, 1e300, -1e300])
def test_a_useless_whitener_proves_nothing(factor):
    case = families.case("random")
    data = Data(case.geometry().train, dict(enumerate(np.float64(case.targets))))
    recipe = Recipe(data, case.geometry().whitener * factor, case.ridge)
    pairs = np.array([(0, i, j) for i in range(5) for j in range(5)])
    assert not recipe.proven(pairs, Fraction(0)).any()
    assert recipe.norms() == ()


def test_arithmetic_that_does_not_add_up_is_noticed(monkeypatch):
    require_sound_arithmetic()
    monkeypatch.setattr(rounding, "U", 2.0**-52)
    with pytest.raises(UnfitEnvironmentError, match="doctor"):
        require_sound_arithmetic()
