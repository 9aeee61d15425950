"""What finds wrong labels best: networks trained on labels that are wrong by design.

Sets and wrong labels: `benchmarks/label_problems.py`. Detectors, and the three
situations in which they are judged: `benchmarks/label_detectors.py`, with cleanlab on
the same predictions if it is installed.

Protocol: no detector sees which labels are wrong. The defaults were chosen on
development sets, in four steps.

1. On digits and a made-up mixture of Gaussians, seeds 0 to 2. The choice (EL2N and
   margins in place of the loss) won there and lost to plain loss on uniform flips of
   Fashion-MNIST (seeds 0 and 1) and CIFAR-10 (seed 0).
2. These three joined the development sets, and the loss became the base.
3. How several readouts are weighted was changed after uniform flips of digits (seed 10)
   and spam (seed 10) had been seen.
4. How readouts are weighted against the network was changed after the first results of
   the whole table had been seen (sentences, where pooling one to one fell below plain
   loss). The form (`detectors.weighed`) was chosen on the development sets of 1 and 2
   and on two more made-up ones where the network is bad and memorises (two and four
   classes, seeds 0 and 1), with readouts of its representation, of the inputs, and of
   noise. Skill relative to the network's, the first idea, was rejected there: a
   representation that has memorised makes its readout look as skilled as the network.

5. That a scan asks the inputs alone, and not the representation, was chosen after 47
   cases had been seen (`Case.seen`); so was the kernel beside their columns, which is
   one of the opinions that `benchmarks/table_noise.py` chose on other tables. All other
   cases were looked at after that choice, and the page sums them up apart.

Run `python -m benchmarks.label_noise`. `--only PATTERN` keeps the cases in whose name
it is found, `--kept FOLDER` keeps trained networks there, `--keep` adds cases to the
stored results (one line each; those that are there are not run again) and writes the
table of the README and the page of all cases, `--quick` runs toy sizes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import images, noise
from benchmarks import label_detectors as named
from benchmarks import trajectories as runs
from benchmarks.harness import is_quick, replace_in_readme, report, stored
from benchmarks.label_problems import PROBLEMS, Case, Problem
from benchmarks.label_tables import page, table
from benchmarks.trajectories import Trajectory
from natgeo.errors import DataError, UnfitEnvironmentError
from natgeo.labels import left_out
from natgeo.labels.inputs import input_readouts, second_opinion

RESULTS = Path(__file__).parent / "results"
FOLDS = 3


def main() -> None:
    keep = "--keep" in sys.argv
    file = RESULTS / "label_noise.jsonl"
    rows = stored(file) if keep else []
    there = {row["case"] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(images.option("--kept", scratch))
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
        (RESULTS / "label_noise.md").write_text(page(rows))


def _cases() -> Iterator[Case]:
    if is_quick():
        yield Case("made up", "uniform", 0.1, 0)
        return
    only = str(images.option("--only", ""))
    for case in [*_small(), *_images()]:
        if re.search(only, case.name):
            yield case


def _small() -> list[Case]:
    """Three seeds each; at 10 % and 20 % every kind, at 5 % and 40 % uniform flips."""
    kinds = [(kind, rate) for rate in (0.1, 0.2) for kind in noise.KINDS]
    kinds += [("uniform", 0.05), ("uniform", 0.4)]
    cases = [
        Case(data, kind, rate, seed)
        for seed in (10, 11, 12)
        for kind, rate in kinds
        for data in ("digits", "spam", "sentences")
    ]
    for seed in (10, 11, 12):
        cases.append(Case("sentences", "human", 0.0, seed))
        for kind in noise.KINDS:
            cases.append(Case("digits memorised", kind, 0.1, seed))
    return cases


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
    found = named.in_sample(whole, problem.given)
    readouts = _readouts(problem, folder / f"{case.data}-inputs.npy")
    classes = whole.logits.shape[2]
    second, best = (
        second_opinion(readouts, y, classes) for y in (problem.given, problem.right)
    )
    found |= named.with_inputs(whole, second, best, problem.given)
    if case.cross_fitted:
        parts = _held_out(problem, case, folder)
        found |= named.out_of_sample(parts, whole, second, problem.given)
    if case.cross_fitted and problem.x.ndim == 4:
        clean = replace(problem, given=problem.right)
        parts = _held_out(clean, case, folder, "right-")
        found |= named.limit(parts[-1], best, problem.given, problem.right)
    return {
        "case": case.name,
        **vars(case),
        "seen": case.seen,
        "N": len(wrong),
        "wrong": float(wrong.mean()),
        "epochs": whole.epochs.astype(int).tolist(),
        "accuracy": np.round(np.float64(whole.accuracy), 4).tolist(),
        "memorised": _memorised(whole, problem.given, wrong),
        "cpu_s": round(float(whole.seconds[0]), 1),
        "found": named.judged(found, wrong),
    }


def _memorised(run: Trajectory, given: np.ndarray, wrong: np.ndarray) -> list[float]:
    """Share of the wrong labels that the network predicts, at each checkpoint."""
    says = run.logits.argmax(axis=2) == given
    return np.round(says[:, wrong].mean(axis=1), 3).tolist()


def _train(problem: Problem, seed: int, rows: np.ndarray | None = None) -> Trajectory:
    return runs.train(
        problem.recipe, problem.x, problem.given, seed, test=problem.test, rows=rows
    )


def _held_out(problem: Problem, case: Case, folder: Path, kind: str = "") -> np.ndarray:
    """Logits of networks that were not trained on the example, [E, N, C]."""
    fold = left_out.folds(problem.given, FOLDS, case.seed)
    part = replace(problem, recipe=replace(problem.recipe, width=0))
    made = []
    for number in range(FOLDS):
        file = folder / f"{case.name}-{kind}without-{number}.npz"
        rows = np.flatnonzero(fold != number)
        made.append(runs.kept(file, lambda rows=rows: _train(part, case.seed, rows)))
    logits = np.stack([each.logits for each in made])
    return np.asarray(logits[fold, :, np.arange(len(fold))].transpose(1, 0, 2))


def _readouts(problem: Problem, file: Path) -> list[np.ndarray]:
    """What a scan reads of the inputs; of images it takes a while, and is kept."""
    if problem.x.ndim == 4 and file.is_file():
        return [np.load(file)]
    found = input_readouts(problem.x)
    if found is None:
        raise DataError(f"inputs of shape {problem.x.shape} have no plain features.")
    if problem.x.ndim == 4:
        np.save(file, found[1][0])
    return found[1]


if __name__ == "__main__":
    main()
