"""What finds wrong labels best: networks trained on labels that are wrong by design.

Sets: digits, spam, movie sentences, Fashion-MNIST and CIFAR-10 (10,000 images each).
Wrong labels: `uniform`, `class` and `boundary` flips (`benchmarks/noise.py`) of 5 to
40 % of the labels, and, for sentences, what one person said where the mean of all said
otherwise (`human`). Detectors: `natgeo.labels.detectors`, and cleanlab on the same
predictions if it is installed. Each is judged in one of three situations: `one`, the
last checkpoint; `several`, the checkpoints of one run; `held out`, networks that were
not trained on the example (cross-fitting).

Protocol: the defaults were chosen on digits and on a made-up mixture of Gaussians with
seeds 0 to 2, and then fixed. Digits have other seeds here; nothing was chosen on spam,
sentences, Fashion-MNIST or CIFAR-10, and no detector sees which labels are wrong.

Run `python -m benchmarks.label_noise`. `--only WORD` keeps the cases whose name has the
word, `--kept FOLDER` keeps trained networks there, `--keep` adds cases to the stored
results (one line each; those that are there are not run again) and writes the table of
the README, `--quick` runs toy sizes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from benchmarks import datasets, images, noise, sentences, tables
from benchmarks import trajectories as runs
from benchmarks.harness import is_quick, replace_in_readme, report
from benchmarks.trajectories import Recipe, Trajectory
from natgeo.errors import UnfitEnvironmentError
from natgeo.evaluate import detection
from natgeo.labels import detectors

RESULTS = Path(__file__).parent / "results"
FOLDS = {"digits": 5, "spam": 5, "sentences": 5, "Fashion-MNIST": 2, "made up": 3}
IMAGES, TEST_IMAGES, SENTENCES = 10_000, 2000, 4000


@dataclass(frozen=True)
class Case:
    """One network on one set with one draw of wrong labels."""

    data: str
    kind: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.kind}-{self.rate:g}-{self.seed}".replace(" ", "-")


@dataclass(frozen=True, eq=False)
class Problem:
    """Data with right labels and labels as given, and how a network is trained."""

    x: np.ndarray
    right: np.ndarray
    given: np.ndarray
    test: tuple[np.ndarray, np.ndarray]
    recipe: Recipe


class Perceptron(nn.Module):
    """Two hidden layers."""

    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, x):
        """Logits [B, classes] of [B, columns]."""
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.classes)(x)


def main() -> None:
    keep = "--keep" in sys.argv
    file = RESULTS / "label_noise.jsonl"
    rows = _stored(file) if keep else []
    there = {row["case"] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(images._option("--kept", scratch))
        for case in _cases():
            if case.name in there:
                continue
            try:
                rows.append(report("label_noise", **row_of(case, folder)))
            except UnfitEnvironmentError as missing:
                print(f"left out: {case.name}: {missing}", file=sys.stderr)
                continue
            if keep:
                with file.open("a") as out:
                    out.write(json.dumps(rows[-1]) + "\n")
    if keep:
        replace_in_readme("label_noise", table(rows))


def _stored(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def _cases() -> Iterator[Case]:
    if is_quick():
        yield Case("made up", "uniform", 0.1, 0)
        return
    only = str(images._option("--only", ""))
    for case in [*_small(), *_images()]:
        if only in case.name:
            yield case


def _small() -> list[Case]:
    """Three seeds each; at 10 % and 20 % every kind, at 5 % and 40 % uniform flips."""
    kinds = [(kind, rate) for rate in (0.1, 0.2) for kind in noise.KINDS]
    kinds += [("uniform", 0.05), ("uniform", 0.4)]
    cases = [
        Case(data, kind, rate, seed)
        for kind, rate in kinds
        for data in ("digits", "spam", "sentences")
        for seed in (10, 11, 12)
        if (data, kind) != ("sentences", "boundary") or rate == 0.1
    ]
    return cases + [Case("sentences", "human", 0.0, seed) for seed in (10, 11, 12)]


def _images() -> list[Case]:
    cases = [
        Case(data, "uniform", 0.1, seed)
        for seed in (0, 1)
        for data in ("Fashion-MNIST", "CIFAR-10")
    ]
    for kind, rate in [
        ("class", 0.1),
        ("boundary", 0.1),
        ("uniform", 0.05),
        ("uniform", 0.2),
        ("uniform", 0.4),
    ]:
        cases += [Case(data, kind, rate, 0) for data in ("Fashion-MNIST", "CIFAR-10")]
    return cases


def row_of(case: Case, folder: Path) -> dict[str, Any]:
    """Trains what is not kept yet, and judges every detector."""
    problem = PROBLEMS[case.data](case)
    wrong = problem.given != problem.right
    whole = runs.kept(folder / f"{case.name}.npz", lambda: _train(problem, case.seed))
    found = _judged(_in_sample(whole, problem.given), wrong)
    if case.data in FOLDS and (case.data != "Fashion-MNIST" or case.rate == 0.1):
        parts = _held_out(problem, case, folder)
        found |= _judged(_out_of_sample(parts, problem.given), wrong)
    return {
        "case": case.name,
        **vars(case),
        "N": len(wrong),
        "wrong": float(wrong.mean()),
        "epochs": whole.epochs.astype(int).tolist(),
        "accuracy": np.round(np.float64(whole.accuracy), 4).tolist(),
        "memorised": _memorised(whole, problem.given, wrong),
        "cpu_s": round(float(whole.seconds[0]), 1),
        "found": found,
    }
