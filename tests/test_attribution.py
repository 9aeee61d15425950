"""The three-line use, and the words that come with its results."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import guarantee
from natgeo.display import percent
from natgeo.errors import ArgumentError, DataError
from natgeo.report import ensemble as page_of_ensembles


def apply(params, x):
    return x @ params["w"]


@pytest.fixture
def problem(rng):
    params = {"w": jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)}
    x = rng.standard_normal((80, 4)).astype(np.float32)
    return params, (x, rng.integers(0, 3, 80)), (x[:5], rng.integers(0, 3, 5))


def test_three_lines_equal_their_parts(problem, tmp_path):
    params, train, targets = problem
    result = ng.attribute(apply, params, train=train, targets=targets)
    certified = result.certify(eps=0.01)
    certified.report(tmp_path / "report.html")

    task = ng.tasks.classification(apply)
    projector = ng.projectors.Identity()  # 12 parameters, fewer than a quarter of N
    stores = [ng.featurize(task, params, data, projector) for data in (train, targets)]
    geometry = ng.natural_geometry(stores[0])
    np.testing.assert_array_equal(result.scores, ng.scores(geometry, stores[1]))
    order = ng.certify_rankings(geometry, stores[1], ng.threats.Wasserstein2(0.01))
    np.testing.assert_array_equal(certified.rankings.fraction, order.fraction)
    assert geometry.ridge == result.geometry.ridge
    best = np.argsort(-result.scores[2], kind="stable")[:3]
    np.testing.assert_array_equal(result.top(2, 3), best)
    page = (tmp_path / "report.html").read_text()
    assert "certified" in page
    assert "<script" not in page


def test_it_says_what_it_chose(problem):
    params, train, targets = problem
    result = ng.attribute(apply, params, train=train, targets=targets)
    words = repr(result)
    assert "Identity() (chosen)" in words
    assert "mean eigenvalue / 1000" in words
    assert "classification-margin" in words
    mine = ng.attribute(
        apply,
        params,
        train=train,
        targets=targets,
        projector=ng.projectors.Sparse(dim=5, seed=3),
        ridge=0.25,
    )
    assert "Sparse(dim=5, seed=3, nonzeros=1) (yours)" in repr(mine)
    assert mine.geometry.ridge == 0.25
    assert mine.geometry.width == 5


def test_width_needs_a_known_number_of_examples(problem):
    params, train, targets = problem
    with pytest.raises(DataError, match="Pass projector="):
        ng.attribute(apply, params, train=iter([train]), targets=targets)


def test_indices_are_checked(problem):
    params, train, targets = problem
    result = ng.attribute(apply, params, train=train, targets=targets)
    for target in (5, -1, True, 1.0):
        with pytest.raises(ArgumentError, match="target="):
            result.top(target)


def test_the_guarantee_names_data_metric_and_limits(problem):
    params, train, targets = problem
    order = ng.attribute(apply, params, train=train, targets=targets).certify(1e-6)
    rankings = order.rankings
    words = guarantee.rankings_in_words(rankings)
    assert rankings.geometry.train.digest()[:12] in words
    assert rankings.geometry.ridge.hex() in words
    assert "fixed metric Q^-1" in words
    assert "held fixed" in words
    scores = order.attribution.scores[0]
    best, worst = int(scores.argmax()), int(scores.argmin())
    verdict = rankings.verdict(target=0, above=best, below=worst)
    said = guarantee.certificate_in_words(rankings.proof, verdict)
    assert verdict.status == "certified"
    assert f"training example {best} keeps a larger score than {worst}" in said
    other = rankings.verdict(target=0, above=worst, below=best)
    said = guarantee.certificate_in_words(rankings.proof, other)
    assert said.startswith("Undecided")
    assert "keeps a larger score" not in said


def test_a_radius_beyond_the_theorem_is_said_to_certify_nothing(problem):
    params, train, targets = problem
    result = ng.attribute(apply, params, train=train, targets=targets).certify(1.0)
    assert result.rankings.fraction.max() == 0
    assert "nothing is certified" in guarantee.rankings_in_words(result.rankings)


def test_a_radius_in_human_terms_scales_as_it_should(problem):
    params, train, targets = problem
    proof = ng.attribute(apply, params, train=train, targets=targets).certify(0.1)
    one = guarantee.radius_in_human_terms(proof.rankings.proof, 0.01)
    two = guarantee.radius_in_human_terms(proof.rankings.proof, 0.02)
    natural = proof.rankings.geometry.natural
    size = np.sqrt(np.square(natural).sum(axis=1).mean())
    assert one["relative"] == pytest.approx(0.01 / size, rel=1e-9)
    assert two["replacements"] == pytest.approx(4 * one["replacements"])


def test_checkpoints_make_an_ensemble(problem, rng):
    params, train, targets = problem
    other = {"w": params["w"] + jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)}
    result = ng.attribute(
        apply, params, checkpoints=[other], train=train, targets=targets, ridge=0.1
    )
    alone = [
        ng.attribute(apply, one, train=train, targets=targets, ridge=0.1)
        for one in (params, other)
    ]
    weights = np.mean([a.geometry.weights for a in alone], axis=0)
    kernels = np.mean([a.scores / a.geometry.weights for a in alone], axis=0)
    np.testing.assert_allclose(result.scores, kernels * weights, rtol=1e-3, atol=1e-5)
    assert not np.allclose(result.scores, alone[0].scores, rtol=0.1)
    best = np.argsort(-result.scores[1], kind="stable")
    np.testing.assert_array_equal(result.top(1, 4), best[:4])
    order = result.certify(eps=0.01)
    assert 0 < order.radius(target=1, above=best[0], below=best[-1]) < 1
    assert len(result.members) == 2


def test_an_ensemble_has_a_page_that_counts_its_assumptions(problem, rng, tmp_path):
    params, train, targets = problem
    other = {"w": params["w"] + jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)}
    result = ng.attribute(
        apply, params, checkpoints=[other], train=train, targets=targets, ridge=0.1
    )
    order = result.certify(eps=0.01)
    assert isinstance(order, ng.EnsembleRankings)
    found = order.document(targets=2)
    order.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "One radius in 2 metrics is 2 assumptions" in page
    assert "this is assumed 2 times" in page
    assert "<script" not in page
    for place, geometry in enumerate(result.ensemble.geometries):
        assert geometry.train.digest() in found["provenance"][f"checkpoint {place}"]
    assert found["summary"][0]["value"] == percent(order.fraction.mean())
    assert "in each of 2 metrics" in found["summary"][0]["note"]
    assert [target["target"] for target in found["targets"]] == [0, 1]
    for target in found["targets"]:
        ranks = order.ranks(target["target"])
        best = result.top(target["target"], 10)
        for row, i in zip(target["proponents"], best, strict=True):
            assert row["index"] == i
            assert [row["lowest"], row["highest"]] == ranks[i].tolist()
        assert target["eps"] is None
        assert target["top_k"]["inside"] == (ranks[:, 1] <= 10).sum()


def test_a_large_ensemble_is_estimated_and_its_page_says_so(
    problem, rng, tmp_path, monkeypatch
):
    params, train, targets = problem
    result = ng.attribute(
        apply, params, checkpoints=[params], train=train, targets=targets, ridge=0.1
    )
    monkeypatch.setattr(page_of_ensembles, "MOST_PAIRS", 100)
    found = result.certify(eps=0.01).document()
    assert "estimated from 20,000 of 3,160 pairs, seed 0" in found["summary"][0]["note"]
    assert "Clopper and Pearson" in found["guarantee"]["says"]
    assert found["targets"] == []


def test_no_further_checkpoints_are_an_ensemble_of_one(problem):
    params, train, targets = problem
    result = ng.attribute(apply, params, checkpoints=[], train=train, targets=targets)
    plain = ng.attribute(apply, params, train=train, targets=targets)
    np.testing.assert_array_equal(result.scores, plain.scores)


def test_checkpoints_of_another_model_are_refused(problem):
    params, train, targets = problem
    for bad, says in (
        ({"w": params["w"]}, "checkpoints is a dict"),
        ([params, {"w": params["w"][:, :2]}], r"checkpoints\[1\] has other parameters"),
        ([{"v": params["w"]}], r"checkpoints\[0\] has other parameters"),
    ):
        with pytest.raises(ArgumentError, match=says):
            ng.attribute(apply, params, checkpoints=bad, train=train, targets=targets)
