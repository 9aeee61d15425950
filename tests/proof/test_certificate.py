"""What is written is accepted, at the sharpest radius, and only about its own data."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify.verdict import decide
from natgeo.errors import ArgumentError, DataError, StoreError
from natgeo.proof import certificate
from natgeo.proof.checker import check_certificate
from tests import oracles
from tests.proof import cases, second

KINDS = {
    "ridge 0": {},
    "a ridge": {"ridge": 0.01},
    "a large ridge": {"ridge": 3.0},
    "no weights": {"weighted": False},
    "float64": {"dtype": np.float64},
    "float16": {"dtype": np.float16},
    "fewer examples than features": {"n": 5, "k": 9, "ridge": 0.5},
    "one feature": {"k": 1},
    "several blocks": {"n": 1100, "k": 3},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_kind_of_claim_is_written_and_accepted(tmp_path, options):
    order = cases.rankings(5, **options)
    folder, train = tmp_path / "cert", order.geometry.train
    made = cases.statements(order)
    claims = [
        one
        for one in made
        if decide(order.proof, one, order.threat).status == "certified"
    ]
    pairs = ng.certified_pairs(order, 0, [0, 1])
    report = ng.write_certificate(folder, order, claims, pairs=pairs)
    assert report.status == "valid"
    assert report.exit_code == 0
    assert len(report.findings) == len(claims) + 1 >= 3
    again = check_certificate(folder, train, order.targets)
    assert again == report
    assert "--targets" in str(check_certificate(folder, train))


def test_every_threat_and_form_is_written_and_accepted(tmp_path):
    order = cases.rankings()
    report = cases.complete(tmp_path / "cert", order)
    assert report.status == "valid"
    forms = [found.form for found in report.findings]
    assert forms == ["exact"] * 14 + ["refutation", "pairs", "count"]
    assert all(found.holds for found in report.findings)
    for statement in cases.statements(order):
        assert statement.claim in str(report)
    for threat in cases.threats():
        assert threat.describe() in str(report)


def test_the_exact_form_is_as_sharp_as_the_truth(tmp_path):
    """The largest double below the exact radius is accepted, the next one is not."""
    for seed in range(4):
        order = cases.rankings(seed, ridge=0.125 * (seed % 2))
        statement = cases.statements(order)[0]
        folder = tmp_path / str(seed)
        ng.write_certificate(folder, order, [statement])
        q = oracles.exact_covariance(order.geometry.train, order.geometry.ridge)
        weights = order.geometry.weights
        about, train = statement.about, np.float64(order.geometry.train)
        terms = [
            [Fraction(weights[i]) * Fraction(float(x)) for x in train[i]]
            for i in (about["above"], about["below"])
        ]
        v = second.subtract(*terms)
        u = second.vector(np.asarray(order.targets)[about["target"]])
        sign, square = oracles.exact_cosine_square(q, u, v)
        assert sign > 0
        eps = oracles.breaking_radius(square)
        while not oracles.holds_at(eps, square):
            eps = np.nextafter(eps, 0)
        while oracles.holds_at(np.nextafter(eps, 1), square):
            eps = np.nextafter(eps, 1)
        for radius, status in [(eps, "valid"), (np.nextafter(eps, 1), "rejected")]:
            cases.edit(folder, lambda body, r=radius: set_eps(body, r))
            found = check_certificate(folder, order.geometry.train, order.targets)
            assert found.status == status


def set_eps(body, eps):
    body["claims"][0]["threat"]["eps"] = float(eps).hex()


def test_a_certificate_about_other_data_is_never_valid_here(tmp_path):
    order, other = cases.rankings(0), cases.rankings(1)
    bare, held = tmp_path / "bare", tmp_path / "held"
    cases.complete(bare, order)
    cases.complete(held, order, include_features=True)
    found = check_certificate(bare, other.geometry.train)
    assert (found.status, found.exit_code, found.findings) == ("other data", 1, ())
    assert "not checked" in str(found)
    found = check_certificate(held, other.geometry.train)
    assert (found.status, found.exit_code) == ("other data", 1)
    assert len(found.findings) == 17
    assert all(one.holds for one in found.findings)
    assert "is valid, but about other data" in str(found)

    cases.edit(held, lambda body: set_eps(body, 0.99))
    found = check_certificate(held, other.geometry.train)
    assert found.status == "other data"
    assert "is not valid, but about other data" in str(found)
    assert check_certificate(held, order.geometry.train).status == "rejected"

    found = check_certificate(bare, order.geometry.train, other.targets)
    assert (found.status, found.exit_code) == ("other data", 1)
    unweighted = ng.MemoryStore(np.asarray(order.geometry.train))
    assert check_certificate(bare, unweighted).status == "other data"


def test_statements_without_targets_need_none(tmp_path):
    order = cases.rankings()
    ng.write_certificate(tmp_path / "c", order, [cases.statements(order)[-1]])
    body = json.loads((tmp_path / "c" / "certificate.json").read_bytes())
    assert body["data"]["targets"] is None
    found = check_certificate(tmp_path / "c", order.geometry.train)
    assert (found.status, found.notes) == ("valid", ())


def test_what_is_not_certified_is_not_written(tmp_path):
    order = cases.rankings()
    statement = cases.statements(order)[0]
    about = statement.about
    wrong = order.statement(target=0, above=about["below"], below=about["above"])
    too_far = (statement, ng.threats.Wasserstein2(0.999))
    tie = ng.statements.self_influence_pair(order.geometry, above=3, below=3)
    for claim in (wrong, too_far, tie):
        with pytest.raises(ArgumentError, match="not certified"):
            ng.write_certificate(tmp_path / "c", order, [claim])
    with pytest.raises(ArgumentError, match="nothing to certify"):
        ng.write_certificate(tmp_path / "c", order)
    with pytest.raises(ArgumentError, match="pairs has shape"):
        ng.write_certificate(tmp_path / "c", order, pairs=np.zeros((2, 2), int))
    with pytest.raises(ArgumentError, match="pairs is empty"):
        ng.write_certificate(tmp_path / "c", order, pairs=np.zeros((0, 3), int))
    assert not (tmp_path / "c").exists()


def test_what_its_checker_cannot_prove_is_taken_back(tmp_path):
    order = cases.rankings()
    about = cases.statements(order)[0].about
    swapped = np.array([[0, about["below"], about["above"]]])
    with pytest.raises(DataError, match="pair 0 is not proven"):
        ng.write_certificate(tmp_path / "c", order, pairs=swapped)
    assert list((tmp_path / "c").iterdir()) == []
    ng.write_certificate(tmp_path / "c", order, [cases.statements(order)[0]])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_was_not_checked_is_taken_back(tmp_path, monkeypatch, error):
    def stop(*_):
        raise error

    order = cases.rankings()
    monkeypatch.setattr(certificate, "check_certificate", stop)
    with pytest.raises(error):
        ng.write_certificate(tmp_path / "c", order, [cases.statements(order)[0]])
    assert list((tmp_path / "c").iterdir()) == []


def between_the_bounds(order, statement):
    """A radius that the bound under a ridge proves and the closed form does not."""
    verdict = decide(order.proof, statement, order.threat)
    closed = ng.threats.Wasserstein2.radius(verdict.cosine)
    assert closed < verdict.radius
    return closed, verdict.radius


def test_a_claim_that_only_the_bound_under_a_ridge_proves_is_written(tmp_path):
    order = cases.rankings(5, n=5, k=9, ridge=0.5)
    statement = cases.statements(order)[2]
    closed, radius = between_the_bounds(order, statement)
    claims = [
        (statement, ng.threats.Wasserstein2(eps))
        for eps in (closed, (closed + radius) / 2, radius)
    ]
    report = ng.write_certificate(tmp_path / "c", order, claims)
    assert report.status == "valid"
    train, targets = np.asarray(order.geometry.train), np.asarray(order.targets)
    weights = order.geometry.train.column("weights")
    assert second.accepts(tmp_path / "c", train, weights, targets)


def test_the_answer_names_the_data_and_the_ridge(tmp_path):
    order = cases.rankings(ridge=0.1)
    report = ng.write_certificate(tmp_path / "c", order, [cases.statements(order)[0]])
    digest = order.geometry.train.digest()[:12]
    words = f"24 features with SHA-256 {digest}..., and ridge 0.1"
    assert words in report.values()["about"]
    assert words in str(report)


def test_an_unfinished_counterexample_is_not_written(tmp_path):
    import dataclasses

    order = cases.rankings()
    statement = cases.statements(order)[0]
    about = statement.about
    found = order.refute(target=0, above=about["above"], below=about["below"])
    idle = dataclasses.replace(found, flips=False)
    with pytest.raises(ArgumentError, match="not proven to break"):
        ng.write_certificate(tmp_path / "c", order, refutations=[(statement, idle)])
    unmoved = dataclasses.replace(found, displaced=np.float64(order.geometry.train))
    with pytest.raises(ArgumentError, match="moves nothing"):
        ng.write_certificate(tmp_path / "d", order, refutations=[(statement, unmoved)])


def test_a_folder_in_use_is_left_alone(tmp_path):
    order = cases.rankings()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="in use"):
        ng.write_certificate(tmp_path, order, cases.statements(order))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_unlisted_files_are_not_read(tmp_path):
    order = cases.rankings()
    ng.write_certificate(tmp_path / "c", order, cases.statements(order))
    (tmp_path / "c" / "README.txt").write_text("hello")
    (tmp_path / "c" / "pairs.npy").write_bytes(b"\x80\x04evil")
    assert check_certificate(tmp_path / "c", order.geometry.train).status == "valid"


def test_certified_pairs_are_those_of_the_ranks(tmp_path):
    """All pairs of all examples, and the rank intervals, count the same pairs."""
    order = cases.rankings(3, n=40)
    pairs = ng.certified_pairs(order, 1, range(40))
    assert (pairs[:, 0] == 1).all()
    above, below = np.zeros(40, int), np.zeros(40, int)
    np.add.at(below, pairs[:, 1], 1)
    np.add.at(above, pairs[:, 2], 1)
    ranks = order.ranks(1)
    np.testing.assert_array_equal(ranks[:, 0], 1 + above)
    np.testing.assert_array_equal(ranks[:, 1], 40 - below)
    some = ng.certified_pairs(order, 1, [7, 3])
    want = {tuple(p) for p in pairs.tolist() if {7, 3} & set(p[1:])}
    assert {tuple(p) for p in some.tolist()} == want
    assert len(ng.certified_pairs(order, 1, [7, 3], most=5)) <= 5
    assert ng.certified_pairs(order, 1, []).shape == (0, 3)
    for target, example in ((3, 0), (0, 40), (0, -1), (True, 0)):
        with pytest.raises(ArgumentError):
            ng.certified_pairs(order, target, [example])


def test_one_example_has_no_pairs():
    order = cases.rankings(n=1, k=2, ridge=0.5)
    assert ng.certified_pairs(order, 0, [0]).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_nearly_parallel_and_badly_scaled_data(tmp_path, seed):
    """Condition 1e8 and a floor that needs its factorisation."""
    rng = np.random.default_rng(seed)
    train = rng.standard_normal((40, 5)) * np.logspace(0, -4, 5)
    geometry = ng.natural_geometry(train, 0.0)
    targets = rng.standard_normal((2, 5)) * np.logspace(0, -4, 5)
    order = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(1e-3))
    report = ng.write_certificate(tmp_path / "c", order, cases_pair(order))
    assert report.status == "valid"


def cases_pair(order):
    best = np.argsort(
        -(order.geometry.whiten(order.targets.rows([0])) @ (order.geometry.natural.T))[
            0
        ]
    )
    return [order.statement(target=0, above=int(best[0]), below=int(best[-1]))]
