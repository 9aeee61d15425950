"""The benchmarks run at toy sizes, check their values and print one row a case."""

from __future__ import annotations

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import digits, features, fidelity, harness, pairs, ridge_gap, scores
from natgeo.store.memory import MemoryStore


@pytest.mark.parametrize("module", [scores, pairs], ids=["scores", "pairs"])
def test_quick_run_prints_checked_rows(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    module.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [row for row in rows if "error" in row]
    assert len(rows) == len(module.QUICK)
    for row in rows:
        assert row["error"] < 1e-5
        assert row["min_s"] > 0
        assert row["ratio"] > 0
        assert row["baseline"]


def test_pairs_at_scale_are_checked_and_compared(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--keep"])
    monkeypatch.setattr(pairs, "RESULTS", tmp_path)
    pairs.main()
    kept = (tmp_path / "pairs.jsonl").read_text().splitlines()
    exact, ridge = (json.loads(row) for row in kept)
    assert kept == capsys.readouterr().out.splitlines()[:2]
    assert exact["ridge"] == 0 < ridge["ridge"]
    for row in (exact, ridge):
        assert 0 < row["by_norms"] < row["fraction"] < 1
        assert row["cpu_ratio"] > 0
        assert 0 < row["peak_gib"] < 4
    monkeypatch.setattr(pairs, "EPS", 0.02)
    with pytest.raises(SystemExit, match="disagree"):
        pairs._check(np.full(4, exact["fraction"]), *_features())


def _features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(500, 16)), rng.normal(size=(4, 16))


@pytest.fixture
def usual_promotion():
    """Optax does not promise strict promotion; a user's process does not ask for it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("usual_promotion")
def test_digits_certify_far_more_than_the_first_order_bound(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    digits.main()
    row = json.loads(capsys.readouterr().out)
    assert row["certified"][0] > 0.9
    assert row["certified"][1] > 0.5
    assert row["sensitivity_natural"][1] < 0.01
    assert row["sensitivity_euclidean"] == [0.0, 0.0, 0.0, 0.0]


def test_the_ridge_gap_orders_its_columns_and_knows_when_a_pair_was_broken(monkeypatch):
    rng = np.random.default_rng(3)
    train = MemoryStore(rng.normal(size=(60, 6)), {"weights": rng.uniform(size=60)})
    targets = rng.normal(size=(9, 6))
    row = ridge_gap._row(train, targets, 1.0, 400)
    for closed, ours, left in zip(
        row["closed_form"], row["certified"], row["not_broken"], strict=True
    ):
        assert closed <= ours <= left
        assert left - ours < 0.05
    assert row["closed_form"][2] < row["certified"][2] < 1
    assert ridge_gap.table([row]).count("\n") == 1 + len(ridge_gap.RADII)
    monkeypatch.setattr(ridge_gap, "_attack", lambda forms, eps: -np.ones(400))
    with pytest.raises(SystemExit, match="broke"):
        ridge_gap._row(train, targets, 1.0, 400)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_promotion")
def test_with_a_ridge_both_bounds_are_within_two_points_of_the_attack(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    ridge_gap.main()
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        assert row["certified"][1] > row["closed_form"][1]
        assert row["not_broken"][1] - row["certified"][1] < 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("usual_promotion")
def test_the_default_projection_is_as_faithful_as_a_dense_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    fidelity.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sparse, dense = (row["spearman"] for row in rows)
    assert sparse > 0.4
    assert abs(sparse - dense) < 0.1


def test_features_are_checked_and_timed_in_their_own_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick"])
    features.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["contender"] for row in rows] == ["natgeo", "none"]
    assert all(row["samples_per_cpu_s"] > 0 for row in rows)
    assert 0 < rows[0]["inner_product_error"] < 6 / 64**0.5


def test_a_wrong_value_is_not_timed():
    with pytest.raises(SystemExit, match="above"):
        harness.measure(
            "wrong",
            lambda: np.ones(3),
            np.full(3, 2.0),
            tolerance=1e-6,
            baseline=lambda: 0,
            baseline_name="nothing",
            axes={"N": 3},
        )
