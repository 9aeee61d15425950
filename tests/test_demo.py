"""The demo: what it prints, writes and shows, on the real digits."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

from natgeo import demo, demo_page
from natgeo.report import text


@pytest.fixture(scope="module")
def document():
    # Optax does not promise strict promotion; the user's process does not ask for it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return demo_page.document(demo.study(0))


def test_it_certifies_far_more_than_the_first_order_bound(document):
    curve = document["curve"]
    ours, natural, euclidean = (
        np.array(curve[name])
        for name in ("certified", "sensitivity_natural", "sensitivity_euclidean")
    )
    assert document["geometry"]["ridge"] == 0.0
    assert curve["targets"] == 297
    assert curve["pairs"] == 1500 * 1499 // 2
    assert (np.diff(ours) <= 0).all()
    assert (ours >= natural).all()
    at = curve["radii"].index(0.01)
    assert ours[at] > 0.7
    assert natural[at] < 0.01
    assert (euclidean <= natural).all()


def test_the_pair_is_certified_and_broken_just_outside(document):
    pair = document["pair"]
    assert pair["status"] == "certified"
    assert pair["radius"] > pair["eps"]
    assert pair["counterexample"]["flips"] is True
    assert pair["radius"] < pair["counterexample"]["cost"] < pair["radius"] * 1.0001
    assert (
        pair["counterexample"]["gap_before"] > 0 > pair["counterexample"]["gap_after"]
    )


def test_eps_is_compared_with_changes_of_the_same_digits(document):
    scale = document["guarantee"]["scale"]
    rows = {row["change"]: row for row in scale["rows"]}
    assert list(rows) == [
        "one example shifted by one pixel (median)",
        "all examples shifted by one pixel",
        "one example relabelled as the next digit (median)",
        "all examples relabelled as the next digit",
        "bootstrap resample (median of 3)",
    ]
    assert all(0 < row["covariance"] < row["moved"] for row in scale["rows"])
    # One of 1,500 moves 1/sqrt(1500) as far as all, if all move alike.
    one, every = (row["moved"] for row in scale["rows"][:2])
    assert 0.8 < one * 1500**0.5 / every < 1.2
    words = text.render(document)
    for line in scale["says"]:
        assert " ".join(line.split()) in " ".join(words.split())


def test_the_scan_is_shown_beside_plain_loss(document):
    scan = document["scan"]
    assert scan["known_flips"] == 150
    rows = {row["name"]: row for row in scan["detectors"]}
    assert rows["self-influence"]["auroc"] > 0.98
    assert rows["self-influence"]["recall_at_20"] > 0.95
    assert rows["loss"]["auroc"] > 0.98
    assert sum(row["flipped"] for row in scan["suspicious"]) >= 20
    queue = document["review"]["queue"]
    assert sum(row["wrong"] for row in queue) > 130
    right = [row for row in queue if row["wrong"] and row["confidence"] > 0.5]
    assert len(right) > 100


def test_rank_intervals_contain_the_rank(document):
    for target in document["targets"]:
        for rank, row in enumerate(target["proponents"], start=1):
            assert row["lowest"] <= rank <= row["highest"]
            assert row["thumbnail"].startswith("data:image/png;base64,")


def test_it_writes_what_it_says(document, tmp_path):
    record, page, queue = demo_page.write(document, tmp_path / "out")
    assert json.loads(record.read_text()) == document
    html = page.read_text()
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "script-src 'sha256-" in queue.read_text()
    assert "Known to be wrong." in queue.read_text()
    words = text.render(document)
    assert "Detectors of 150 wrong labels" in words
    assert "certified (order 2)" in words
    assert max(map(len, words.splitlines())) < 200


def test_the_labels_are_flipped_as_said():
    data = demo.load_digits(3)
    again = demo.load_digits(3)
    np.testing.assert_array_equal(data.y, again.y)
    assert data.flipped.sum() == 150
    assert len(data.x) == 1500
    assert len(data.x_test) == 297
