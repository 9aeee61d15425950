"""Nobody gets a false statement accepted: forged witnesses, whiteners and moves.

The forger knows everything and writes well-formed files about statements that are false
of the data or break inside the claimed radius; only the proof can stop them.
"""

from __future__ import annotations

import numpy as np
import pytest

import natgeo as ng
from natgeo.proof.checker import check_certificate
from natgeo.proof.data import Data
from natgeo.proof.recipe import Recipe
from tests import families, oracles
from tests.proof import cases, second


def forged(rng, folder, q, statement):
    """Witnesses that look right in some way, for a false claim."""
    rows = cases.load(folder, "witnesses").copy()
    u, v = statement.u.vector, statement.v.vector
    inverse = np.linalg.inv(q)
    choices = [
        lambda x, y: inverse @ x,
        lambda x, y: -(inverse @ x),
        lambda x, y: inverse @ y,
        lambda x, y: rng.standard_normal(len(x)),
        lambda x, y: 10.0 ** rng.integers(-12, 12) * (inverse @ (x + y)),
        lambda x, y: np.zeros(len(x)),
        lambda x, y: inverse @ x + 10.0 ** rng.integers(-9, 3) * (inverse @ y),
    ]
    pick = rng.integers(0, len(choices), 2)
    rows[0], rows[1] = choices[pick[0]](u, v), choices[pick[1]](v, u)
    cases.save(folder, "witnesses", rows)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 1e-9])
def test_forged_witnesses_never_prove_what_is_false(tmp_path, ridge):
    rng = np.random.default_rng(7)
    tries = 0
    for seed in range(3):
        order = cases.rankings(seed, ridge=ridge)
        statement = cases.statements(order)[0]
        folder = tmp_path / f"{seed}"
        ng.write_certificate(folder, order, [statement])
        about = statement.about
        exact = oracles.exact_covariance(order.geometry.train, ridge)
        u, v = second.Facts(
            second.matrix(np.asarray(order.geometry.train)),
            second.matrix(np.asarray(order.targets)),
            second.vector(order.geometry.weights),
            second.Fraction(ridge),
        ).sides(about)
        _, square = oracles.exact_cosine_square(exact, u, v)
        radius = oracles.breaking_radius(square)
        for _ in range(20):
            eps = float(min(0.999, radius * rng.uniform(1 + 1e-12, 1.2)))
            cases.edit(folder, lambda body, e=eps: set_eps(body, e))
            forged(rng, folder, order.geometry.covariance, statement)
            tries += check_certificate(folder, order.geometry.train).status == "valid"
        # A false order, with the same freedom, at no radius at all.
        cases.edit(folder, reverse)
        cases.edit(folder, lambda body: set_eps(body, 0.0))
        for _ in range(20):
            forged(rng, folder, order.geometry.covariance, statement)
            found = check_certificate(folder, order.geometry.train)
            assert found.status == "rejected", str(found)
    assert tries == 0


def set_eps(body, eps):
    body["claims"][0]["threat"]["eps"] = eps.hex()


def reverse(body):
    claim = body["claims"][0]
    s = claim["statement"]
    s["above"], s["below"] = s["below"], s["above"]
    claim["says"] = (
        f"for target {s['target']}, training example {s['above']} keeps a larger "
        f"score than {s['below']}"
    )


def test_forged_refutations_never_break_what_holds(tmp_path):
    """Moves that do not break the claim, with witnesses that pretend they do."""
    rng = np.random.default_rng(9)
    order = cases.rankings(3)
    statement = cases.statements(order)[0]
    about = statement.about
    found = order.refute(target=0, above=about["above"], below=about["below"])
    folder = tmp_path / "c"
    ng.write_certificate(folder, order, refutations=[(statement, found)])
    moves, honest = cases.load(folder, "moves-0"), cases.load(folder, "witnesses")
    assert check_certificate(folder, order.geometry.train).status == "valid"
    for turn in range(40):
        share = rng.choice([0.0, 0.5, 0.999])
        cases.save(folder, "moves-0", moves * share)
        rows = (
            honest * 10.0 ** rng.integers(-3, 9) * rng.choice([-1, 1], (len(honest), 1))
        )
        rows = rows + rng.standard_normal(rows.shape) * (turn % 2)
        cases.save(
            folder, "witnesses", np.where(rng.random(rows.shape) < 0.2, honest, rows)
        )
        assert check_certificate(folder, order.geometry.train).status == "rejected"


def test_a_refutation_alone_needs_the_floor(tmp_path):
    order = cases.rankings(3)
    statement = cases.statements(order)[0]
    about = statement.about
    found = order.refute(target=0, above=about["above"], below=about["below"])
    folder = tmp_path / "c"
    ng.write_certificate(folder, order, refutations=[(statement, found)])
    floor = float(order.geometry.spectrum[0] * 2)
    cases.edit(folder, lambda body: body["data"].update(floor=floor.hex()))
    assert check_certificate(folder, order.geometry.train).status == "rejected"


def test_forged_floors_are_never_believed(tmp_path):
    """Only floors below the smallest eigenvalue, which is known exactly here."""
    order = cases.rankings(2)
    folder = tmp_path / "c"
    ng.write_certificate(folder, order, cases.statements(order)[:1])
    q = oracles.exact_covariance(order.geometry.train, 0.0)
    accepted = 0
    for share in [0.1, 0.5, 0.6, 0.9, 1 - 1e-12, 1 + 1e-12, 1.01, 1.5, 3.0]:
        floor = float(order.geometry.spectrum[0] * share)
        cases.edit(folder, lambda b, f=floor: b["data"].update(floor=f.hex()))
        found = check_certificate(folder, order.geometry.train)
        if found.status == "valid":
            accepted += 1
            assert second.at_least(q, second.Fraction(floor))
        else:
            assert "lower bound" in str(found)
    assert accepted >= 2


def forged_whiteners(rng, whitener):
    yield whitener * (1 + 1e-3)
    yield whitener * 0.5
    yield whitener + rng.standard_normal(whitener.shape) * 1e-2
    yield np.eye(len(whitener))
    yield np.zeros_like(whitener)
    yield np.float64(np.float32(whitener))
    yield np.round(whitener, 2)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_no_whitener_makes_the_recipe_prove_a_false_pair(name):
    """Every ordered pair of hostile families: what is proven is exactly true."""
    case = families.case(name)
    rng = np.random.default_rng(1)
    geometry = case.geometry()
    data = Data(geometry.train, dict(enumerate(case.targets)))
    exact = oracles.Exact(case.train, case.ridge, case.weights)
    n, m = len(case.train), len(case.targets)
    everything = np.array(
        [(t, i, j) for t in range(m) for i in range(n) for j in range(n)]
    )
    for eps in (0.0, 0.01):
        limit = second.Fraction(eps) ** 2 * (2 - second.Fraction(eps) ** 2)
        honest = {
            (t, *pair)
            for t in range(m)
            for pair in oracles.certified_pairs(exact.pairs(case.targets[t]), eps)
        }
        for whitener in [geometry.whitener, *forged_whiteners(rng, geometry.whitener)]:
            recipe = Recipe(data, whitener, case.ridge)
            eta = oracles.exact_whitening_defect(case.train, case.ridge, whitener)
            assert recipe.eta >= eta * (1 - 1e-9)
            found = recipe.proven(everything, limit)
            proven = {tuple(triple) for triple in everything[found].tolist()}
            assert proven <= honest
            if whitener is geometry.whitener and case.tame:
                assert len(proven) >= 0.9 * len(honest)


@pytest.mark.parametrize("eps", [5e-324, 1e-300, 1e-160])
def test_a_radius_whose_square_underflows_is_decided_at_once(tmp_path, eps):
    order = cases.rankings()
    cases.complete(tmp_path / "c", order)

    def shrink(body):
        body["bulk"]["threat"]["eps"] = eps.hex()

    cases.edit(tmp_path / "c", shrink)
    assert check_certificate(tmp_path / "c", order.geometry.train).status == "valid"
