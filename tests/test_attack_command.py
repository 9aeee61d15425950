"""`natgeo attack` as a person meets it: every threat, every claim, every mistake."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import natgeo as ng
from natgeo.store.writer import DiskWriter
from tests import oracles
from tests.test_cli import run

N, K, RIDGE = 12, 3, 0.05
THREATS = {
    "w2": "--eps 0.4",
    "w1": "--eps 0.3 --support-radius 5",
    "euclidean2": "--eps 0.5",
    "delete": "--points 5",
    "add": "--points 9 --support-radius 5",
    "replace": "--points 4 --support-radius 5",
    "winf": "--eps 0.3",
    "moving": "--eps 0.3 --move-target 0.4 --move-examples 0.3",
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    weights = rng.uniform(0.5, 1, N).astype(np.float32)
    train, targets = rng.normal(size=(N, K)), rng.normal(size=(3, K))
    return train.astype(np.float32), weights, targets.astype(np.float32)


@pytest.fixture
def here(data, tmp_path, monkeypatch):
    train, weights, targets = data
    monkeypatch.chdir(tmp_path)
    for name, rows, columns in (
        ("train", train, {"weights": weights}),
        ("targets", targets, {}),
    ):
        with DiskWriter(name, {}) as writer:
            writer.append(rows, columns)
            writer.close()
    return tmp_path


def pair(data, ridge=RIDGE, target=2, place=3):
    """The example of the highest score, and one further down, as options."""
    train, weights, targets = (np.float64(x) for x in data)
    scores = oracles.scores(train, targets, ridge, weights)[target]
    i, j = (int(x) for x in np.argsort(-scores)[[0, place]])
    return i, j, f"--targets targets --target {target} --above {i} --below {j}"


def attacked(monkeypatch, capsys, words, code=0):
    """The values of a successful attack, or the message of a refused one."""
    words = f"attack train --ridge {RIDGE} {words}"
    found, out, err = run(monkeypatch, capsys, *words.split())
    assert found == code, err
    if code:
        assert out == ""
        return err
    return json.loads(out) if "--json" in words else out


@pytest.mark.parametrize("name", THREATS)
def test_every_threat_is_attacked_and_written(here, data, monkeypatch, capsys, name):
    i, j, words = pair(data)
    found = attacked(
        monkeypatch,
        capsys,
        f"{words} --threat {name} {THREATS[name]} --json --out moved",
    )
    assert found["flips"] is True
    assert found["status"] == ("refuted" if found["inside"] else "undecided")
    assert found["inside"] is True
    train, weights, targets = (np.float64(x) for x in data)
    store = ng.DiskStore("moved")
    assert store.metadata["displaced_from"] == ng.DiskStore("train").digest()
    size = {"delete": N - found["cost"], "add": N + found["cost"]}.get(name, N)
    assert store.shape == (size, K)
    assert store.columns == ("weights",)
    assert found["store_ridge"] == pytest.approx(RIDGE * N / size)
    # By the printed formula: the claim, with the covariance of the new store.
    points = {f"target {2}": targets[2], f"example {i}": train[i]}
    points[f"example {j}"] = train[j]
    if name in ("winf", "moving"):
        moved = ng.DiskStore("moved-points")
        assert found["moved"] == moved.metadata["moved_points"]
        points = dict(zip(found["moved"], np.asarray(moved), strict=True))
    v = weights[i] * points[f"example {i}"] - weights[j] * points[f"example {j}"]
    q = oracles.covariance(np.asarray(store), found["store_ridge"])
    after = points["target 2"] @ np.linalg.solve(q, v) * N / size
    assert after == pytest.approx(found["gap_after"], rel=1e-5)
    assert after < 0 < found["gap_before"]


CLAIMS = {
    "--targets targets --target 1 --above {0}": "keeps a positive score",
    "--targets targets --target 1 --below {-1}": "keeps a negative score",
    "--targets targets --target 1 --above {0},{1} --below {-1}": "first group",
    "--targets targets --target 1 --above {0},{1}": "second",
}


@pytest.mark.parametrize("words", CLAIMS)
def test_a_claim_is_what_its_options_say(here, data, monkeypatch, capsys, words):
    train, weights, targets = (np.float64(x) for x in data)
    order = np.argsort(-oracles.scores(train, targets, RIDGE, weights)[1])
    filled = re.sub(r"\{(-?\d+)\}", lambda at: str(order[int(at[1])]), words)
    text = attacked(monkeypatch, capsys, f"{filled} --threat winf --eps 0.05")
    assert CLAIMS[words] in text.splitlines()[0]
    assert "no example and no target moves further than 0.05" in text


def test_two_targets_and_self_influence_are_compared(here, data, monkeypatch, capsys):
    train, weights, targets = (np.float64(x) for x in data)
    scores = oracles.scores(train, targets, RIDGE, weights)[:, 4]
    more, less = int(np.argmax(scores)), int(np.argmin(scores))
    words = f"--targets targets --target {more} --than {less} --above 4"
    text = attacked(monkeypatch, capsys, words)
    assert f"example 4 keeps a larger score for target {more} than for {less}" in text
    own = oracles.scores(train, train, RIDGE).diagonal()
    i, j = int(np.argmax(own)), int(np.argmin(own))
    text = attacked(monkeypatch, capsys, f"--self-influence --above {i} --below {j}")
    assert f"example {i} keeps a larger self-influence than {j}" in text


def test_ranges_name_examples(here, data, monkeypatch, capsys):
    from natgeo.commands import claims

    found = claims._indices("--above", "3, 5,7-9", 12)
    assert found == [3, 5, 7, 8, 9]


def test_it_says_what_is_proven_on_either_side(here, data, monkeypatch, capsys):
    _, _, words = pair(data)
    text = attacked(monkeypatch, capsys, f"{words} --eps 0.0001")
    assert "Certified: nothing inside the threat can break it." in text
    assert "The flip is proven, rounding included." in text
    assert "not proven to be inside the threat" in text
    text = attacked(monkeypatch, capsys, f"{words} --eps 0.9")
    assert "Refuted: the claim breaks inside the threat." in text
    text = attacked(monkeypatch, capsys, f"{words} --threat delete --points 2")
    assert "Undecided: this threat is beyond its theorem" in text


def test_at_zero_ridge_it_breaks_a_pair_just_outside(here, data, monkeypatch, capsys):
    i, j, words = pair(data, 0.0)
    found = attacked(monkeypatch, capsys, f"{words} --ridge 0 --json")
    radius = found["certified_radius"]
    assert radius < found["cost"] < 1.001 * radius
    geometry = ng.natural_geometry(ng.DiskStore("train"), 0.0)
    order = ng.certify_rankings(
        geometry, ng.DiskStore("targets"), ng.threats.Wasserstein2(0.0)
    )
    assert radius == order.radius(target=2, above=i, below=j)


PAIR = "--targets targets --target 2 --above 3 --below 4"
MISTAKES = {
    "--targets targets --target 2": "--above and --below are both missing",
    "--targets targets --above 3 --below 4": "--target is missing",
    "--target 2 --above 3 --below 4": "--targets is missing",
    "--self-influence --above 3": "compares one example with another: --above names 1",
    f"--self-influence {PAIR}": "leave out --target",
    f"--than 1 {PAIR}": "--than is about one example and two targets",
    "--targets targets --target 9 --above 3": "target=9 is out of range",
    "--targets targets --target 1 --above 3,12": "'12' is out of range",
    "--targets targets --target 1 --above 7-5": "'7-5' is out of range or backwards",
    "--targets targets --target 1 --above 0-99999999999999": "out of range",
    "--targets targets --target 1 --above 3,3": "lists an example twice",
    "--targets targets --target 1 --above 3,,4": "'' is neither an index",
    "--targets targets --target 1 --above -1": "'-1' is neither an index",
    "--targets targets --target 1 --above three": "'three' is neither an index",
    f"--threat delete {PAIR}": "needs --points",
    f"--threat winf --points 3 {PAIR}": "--points 3 does not go with --threat winf",
    f"--eps nan {PAIR}": "eps=nan",
    f"--threat fire {PAIR}": "fire",
    f"--out no/where {PAIR}": "its folder does not exist",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_named_with_what_to_do(here, monkeypatch, capsys, words):
    said = attacked(monkeypatch, capsys, words, code=2)
    assert MISTAKES[words] in said
    assert said.count("\n") == 1


def test_an_order_that_is_not_there_and_a_used_folder(here, data, monkeypatch, capsys):
    i, j, words = pair(data)
    wrong = f"--targets targets --target 2 --above {j} --below {i}"
    for threat in ("w2", "winf", "delete --points 2", "euclidean2"):
        said = attacked(monkeypatch, capsys, f"{wrong} --threat {threat}", code=3)
        assert "nothing to refute" in said
    (here / "used").mkdir()
    (here / "used" / "file").write_text("")
    said = attacked(monkeypatch, capsys, f"{words} --out used", code=4)
    assert "used is in use" in said
    (here / "used").rename(here / "new-points")
    said = attacked(monkeypatch, capsys, f"{words} --threat winf --out new", code=4)
    assert "new-points is in use" in said
