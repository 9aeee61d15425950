"""eps in human terms: the sentences, the section, the page and the command."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import natgeo as ng
from natgeo import cli
from natgeo.certify import guarantee
from natgeo.certify.distances import Change, Distance
from natgeo.report import sections, text
from natgeo.report.page import render
from natgeo.store.memory import MemoryStore
from natgeo.store.writer import DiskWriter


def known(covariance, spectrum=None):
    """A change whose single examples all move the covariance by as much."""
    spectrum = None if spectrum is None else np.array(spectrum)
    return Change(np.full(4, 2.0), np.full(4, covariance), spectrum, 4)


@pytest.mark.parametrize(
    ("eps", "covariance", "expected"),
    [
        (0.01, 0.04, "eps = 0.01 is 25 % of what one example rotated moves"),
        (0.1, 0.04, "eps = 0.1 is 2.5 times what one example rotated moves"),
        (0.1, 0.0, "eps = 0.1 is infinitely many times what one example rotated"),
    ],
)
def test_a_change_of_one_example_in_words(eps, covariance, expected):
    words = guarantee.change_in_words(eps, "rotated", known(covariance))
    assert words.startswith(expected)
    assert f"(median {covariance:.3g})" in words
    assert "weight" not in words


def test_a_change_of_all_examples_in_words():
    # One eigenvalue: sqrt(1 + 0.25 * 1.76) - 1 = 0.2.
    words = guarantee.change_in_words(0.2, "rotated", known(0.1, [1.76, 0.0]))
    assert "it covers giving 25 % of every example's weight" in words
    words = guarantee.change_in_words(0.9, "rotated", known(0.1, [1.76, 0.0]))
    assert "it covers all examples rotated" in words


def test_a_resample_in_words():
    draws = [Distance(0.02, 1.0), Distance(0.04, 2.0), Distance(0.9, 3.0)]
    words = guarantee.resample_in_words(0.01, draws)
    assert "eps = 0.01 is 25 % of what one bootstrap resample" in words
    assert "(0.04): at this radius nothing is said about sampling noise." in words
    words = guarantee.resample_in_words(0.05, draws)
    assert "eps = 0.05 covers what one bootstrap resample" in words
    assert "nothing" not in words


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    train = rng.normal(size=(60, 3))
    return train, train + 0.1 * rng.normal(size=train.shape), rng.normal(size=(2, 3))


def scale_of(problem, threat, before=None):
    train, after, targets = problem
    geometry = ng.natural_geometry(train, 0.0)
    rankings = ng.certify_rankings(geometry, targets, threat)
    before = train if before is None else before
    found = ng.distances.change(geometry, before, after[: len(before)])
    again = ng.distances.resample(geometry)
    return rankings, sections.scale_section(rankings, {"<b>rotated</b>": found}, again)


def test_the_section_reaches_the_page_and_the_terminal(problem):
    rankings, scale = scale_of(problem, ng.threats.Wasserstein2(0.01))
    assert [row["change"] for row in scale["rows"]] == [
        "one example <b>rotated</b> (median)",
        "all examples <b>rotated</b>",
        "bootstrap resample (median of 3)",
    ]
    for row in scale["rows"]:
        assert 0 < row["covariance"] < row["moved"]
    document = sections.document(
        "certify", "Test", guarantee=sections.guarantee_section(rankings, scale)
    )
    page, words = render(document), " ".join(text.render(document).split())
    assert "What that radius means in these data" in page
    assert "all examples &lt;b&gt;rotated&lt;/b&gt;" in page
    for line in scale["says"]:
        assert line in words
    assert "all examples <b>rotated</b>" in words
    plain = sections.document(
        "certify", "Test", guarantee=sections.guarantee_section(rankings)
    )
    assert "What that radius means" not in render(plain)


def test_markup_in_the_name_of_a_change_is_printed_as_it_is(problem):
    rankings, scale = scale_of(problem, ng.threats.Wasserstein2(0.01))
    scale["rows"][0]["change"] = "[red]one[/red]"
    document = sections.document(
        "certify", "Test", guarantee=sections.guarantee_section(rankings, scale)
    )
    assert "[red]one[/red]" in text.render(document)


def test_a_part_of_the_training_set_has_no_share(problem):
    _, scale = scale_of(problem, ng.threats.Wasserstein2(0.01), problem[0][:20])
    assert scale["rows"][0]["covariance"] > 0
    assert scale["rows"][1]["covariance"] is None
    assert scale["rows"][1]["moved"] > 0


def test_threats_without_a_radius_get_numbers_and_no_sentences(problem):
    _, scale = scale_of(problem, ng.threats.Delete(1))
    assert len(scale["rows"]) == 3
    assert scale["says"] == []


def test_certify_takes_a_changed_store(problem, tmp_path, monkeypatch, capsys):
    names = ("train", "changed", "targets")
    for name, rows in zip(names, problem, strict=True):
        with DiskWriter(tmp_path / name) as writer:
            writer.append(rows)
            writer.close()
    words = ["certify", "train", "--targets", "targets", "--ridge", "0", "--json"]
    monkeypatch.chdir(tmp_path)
    found = []
    for more in ([], ["--changed", "changed"], ["--changed", "targets"]):
        monkeypatch.setattr(sys, "argv", ["natgeo", *words, *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        found.append((stop.value.code or 0, *capsys.readouterr()))
    (_, plain, _), (code, compared, _), (refused, _, error) = found
    assert code == 0
    assert "scale" not in json.loads(plain)["guarantee"]
    rows = json.loads(compared)["guarantee"]["scale"]["rows"]
    geometry = ng.natural_geometry(MemoryStore(problem[0]), 0.0)
    want = ng.distances.change(geometry, *problem[:2])
    assert rows[0]["covariance"] == pytest.approx(want.one().covariance)
    assert rows[1]["moved"] == pytest.approx(want.share(1.0).moved)
    assert refused == 3
    assert "before has 60 examples and after has 2" in error
