"""Two checkers, written apart, give the same answer about right and wrong files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from natgeo.proof.checker import check_certificate
from tests.proof import cases, second

OPTIONS = [
    {"ridge": 0.0},
    {"ridge": 0.0, "weighted": False},
    {"ridge": 0.0625},
    {"ridge": 0.0625, "dtype": np.float64},
    {"ridge": 1.0, "n": 6, "k": 4},
]


def random_tampering(rng, folder):
    """One change that leaves the file well formed, most often to something false."""
    kind = rng.integers(0, 11)
    if kind == 0:
        cases.save(folder, "witnesses", nudged(rng, cases.load(folder, "witnesses")))
    elif kind == 1:
        cases.save(folder, "whitener", nudged(rng, cases.load(folder, "whitener")))
    elif kind == 2:
        name = "moves-0" if rng.random() < 0.5 else "directions-0"
        if (folder / f"{name}.npy").exists():
            cases.save(folder, name, nudged(rng, cases.load(folder, name)))
    elif kind == 3:
        pairs = cases.load(folder, "pairs").copy()
        row = rng.integers(len(pairs))
        pairs[row, 1:] = rng.integers(0, pairs[:, 1:].max() + 1, 2)
        cases.save(folder, "pairs", pairs)
    else:
        cases.edit(folder, lambda body: change(rng, body, kind))


def nudged(rng, array):
    out = array.copy()
    place = tuple(rng.integers(0, size) for size in out.shape)
    out[place] *= rng.choice([0.0, 1 - 1e-9, 1 + 1e-3, 2.0, -1.0, 1e10])
    return out


def change(rng, body, kind):
    claim = body["claims"][rng.integers(len(body["claims"]))]
    threat = claim["threat"]
    if kind == 4 and "eps" in threat:
        names = [name for name in ("eps", "target", "examples") if name in threat]
        threat[names[rng.integers(len(names))]] = float(rng.uniform(0, 1.1)).hex()
    elif kind == 9:
        body["counts"][0]["threat"]["eps"] = float(rng.uniform(0, 0.5)).hex()
    elif kind == 10:
        part = body["counts"][0]
        n = body["data"]["features"]["rows"]
        part["at_least"] = int(rng.integers(0, n * (n - 1) // 2 + 1))
        part["says"] = part["says"].replace(
            part["says"].split()[5], str(part["at_least"]), 1
        )
    elif kind == 5 and "points" in threat:
        threat["points"] = int(rng.integers(0, 8))
    elif kind == 6:
        body["data"]["floor"] = (
            float.fromhex(body["data"]["floor"]) * rng.choice([0.0, 0.5, 1.0])
        ).hex()
    elif kind == 7:
        body["data"]["ridge"] = float(rng.choice([0.0, 1e-6, 0.5])).hex()
    elif body["refutations"]:
        part = body["refutations"][0]
        scale = rng.choice([1 - 1e-4, 1.0, 1 + 1e-4])
        part["radius"] = (float.fromhex(part["radius"]) * scale).hex()


def agree(folder, order):
    train = np.asarray(order.geometry.train)
    weights = order.geometry.train.column("weights")
    targets = np.asarray(order.targets)
    ours = check_certificate(folder, order.geometry.train, order.targets)
    theirs = second.accepts(folder, train, weights, targets)
    assert (ours.status == "valid") == theirs, str(ours)
    return theirs


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_the_second_checker_agrees(tmp_path, number):
    rng = np.random.default_rng(number)
    options = {"n": 8, "k": 3, **OPTIONS[number]}
    order = cases.rankings(number, **options)
    honest, folder = tmp_path / "honest", tmp_path / "cert"
    cases.complete(honest, order)
    assert agree(honest, order)
    answers = []
    for _ in range(16):
        shutil.copytree(honest, folder)
        random_tampering(rng, folder)
        answers.append(agree(folder, order))
        shutil.rmtree(folder)
    assert 0 < sum(answers) < len(answers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_second_checker_agrees_on_many(tmp_path, seed):
    rng = np.random.default_rng(1000 + seed)
    options = {"n": 8, "k": 3, **OPTIONS[seed % len(OPTIONS)]}
    order = cases.rankings(100 + seed, **options)
    cases.complete(tmp_path / "honest", order)
    for turn in range(40):
        folder = tmp_path / str(turn)
        shutil.copytree(tmp_path / "honest", folder)
        for _ in range(int(rng.integers(1, 4))):
            random_tampering(rng, folder)
        agree(folder, order)
