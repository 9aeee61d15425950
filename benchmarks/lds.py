"""Does it mean anything? Linear datamodeling scores against retrained models.

Models are retrained on random halves of the training set, and every method is asked to
put their outputs in order (Spearman's correlation over the halves, mean over targets,
95 % bootstrap interval over targets and halves). Seconds are CPU seconds of what a
method computes from given checkpoints, compiled code warm; the second number has the
compilation in it.

Run `python -m benchmarks.lds`. `--fashion FOLDER` and `--sentences SDIST` say where the
data are, `--only digits` (or sentences, fashion) runs one of them, `--work FOLDER`
keeps the retrained outputs for the next run, `--methods` takes the stored row about
retraining as it is, `--quick` runs a small case, `--keep` replaces the stored results,
the figure and the table of the README. traker and dattri run where the extra `peers` is
installed.
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
from benchmarks.lds_problems import EXPLAINED, Problem
from natgeo import evaluate
from natgeo.errors import UnfitEnvironmentError

RESULTS = Path(__file__).parent / "results"
RESAMPLES, SEED = 400, 0
EQUAL = 512  # K of the comparison with other libraries, at ridge 0
BATCH = 50  # divides every N and M, so that a projector is compiled once
PROJECTORS: dict[str, Callable[..., Any]] = {
    "CountSketch": ng.projectors.CountSketch,
    "Rademacher": ng.projectors.Rademacher,
}


def main() -> None:
    keep, work = "--keep" in sys.argv, _option("--work", None)
    for problem in _problems(needed=keep):
        rows = study(problem, None if work is None else Path(work))
        if keep:
            _keep(rows)


def _keep(rows: list[dict[str, Any]]) -> None:
    """Replaces the stored rows of one problem; those of the others stay."""
    RESULTS.mkdir(exist_ok=True)
    kept = [row for row in _held() if row["data"] != rows[0]["data"]] + rows
    order = list(lds_problems.NAMES)
    kept.sort(key=lambda row: order.index(row["data"]))
    lines = "".join(json.dumps(row) + "\n" for row in kept)
    (RESULTS / "lds.jsonl").write_text(lines)
    replace_in_readme("lds", table(kept))


def _held() -> list[dict[str, Any]]:
    file = RESULTS / "lds.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def _stored(problem: Problem) -> list[dict[str, Any]]:
    return [row for row in _held() if row["data"] == problem.name]


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
    stored = _stored(problem) if "--methods" in sys.argv else []
    rows = stored[:1] or [_retraining_row(problem, truth)]
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

    Those are the best of all, the best of one checkpoint, the best for each CPU second,
    those of several sketches of one checkpoint, and the one of the other libraries
    (K = 512, ridge 0).
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
        given = [
            "-" if row.get(name) is None else f"{row[name]:g}"
            for name in ("K", "ridge", "C")
        ]
        name = row["method"] + (f", {kind}" if (kind := row.get("projector")) else "")
        if row.get("sketches", 1) > 1:
            name += f", {row['sketches']} seeds"
        lines.append(f"| {' | '.join([row['data'], name, *given, *cells])} |")
    return "\n".join(lines)


def _notable(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [r for r in rows if r["data"] == data and r["method"] != "retraining"]
        ours = [row for row in here if row["method"] == "Natural W-TRAK"]
        several = [row for row in ours if row.get("sketches", 1) > 1]
        single = [row for row in ours if row["C"] == 1 and row not in several]
        equal = [r for r in ours if r["K"] == EQUAL and r["ridge"] == 0]
        equal = [r for r in equal if r["projector"] == "CountSketch" and r["C"] < 10]
        best = sorted(ours, key=lambda row: row["lds"])[-1:]
        best += sorted(single, key=lambda row: row["lds"])[-1:]
        best += sorted(ours, key=lambda row: row["lds"] / row["cpu_s"])[-1:]
        for row in here:
            if row not in ours or row in best + equal + several:
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
    seeds = range(EXPLAINED, EXPLAINED + problem.checkpoints)
    finals = Featured(problem, problem.trained(seeds))
    wide = max(width for width, _, _ in problem.grid)
    for setting in problem.grid:
        yield from _natural(finals, "CountSketch", *setting)
    if problem.dense:
        yield from _natural(finals, "Rademacher", EQUAL, 1e-3, (1, 3))
    if problem.sketches:
        yield from _natural(finals, "CountSketch", EQUAL, 1e-3, problem.sketches, True)
    yield _product(finals, wide, 1, "gradient dot")
    yield _product(finals, wide, 1, "gradient cosine")
    if problem.path:
        early = [problem.trained(seeds[:1], epoch)[0] for epoch in problem.path]
        path = Featured(problem, [*early, finals.checkpoints[0]])
        yield _product(path, wide, len(path.checkpoints), "TracIn")
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


Member = tuple[int, int]  # the place of a checkpoint and the seed of a projector


class Featured:
    """Features of some checkpoints, computed once for each projector, with times."""

    def __init__(self, problem: Problem, checkpoints: list[Any]):
        self.problem, self.checkpoints = problem, checkpoints
        self._kept: dict[Any, tuple[Any, Any, float]] = {}
        self._first: dict[Any, float] = {}  # what compiling added

    def of(
        self, kind: str, width: int, members: list[Member]
    ) -> tuple[list, float, float]:
        """Train and target features of some members; seconds warm, at first."""
        made = [self._one(kind, width, *member) for member in members]
        warm = sum(seconds for *_, seconds in made)
        seeds = {seed for _, seed in members}
        more = sum(self._first[kind, width, seed] for seed in seeds)
        return [pair[:2] for pair in made], warm, warm + more

    def _one(self, kind: str, width: int, place: int, seed: int) -> Any:
        """Features of one member.

        The first of a projector is computed once more, to tell compiling apart.
        """
        setting = (kind, width, seed)
        if (*setting, place) not in self._kept:
            cold = None if setting in self._first else self._featurize(*setting, place)
            made = self._kept[*setting, place] = self._featurize(*setting, place)
            if cold is not None:
                self._first[setting] = max(0.0, cold[2] - made[2])
        return self._kept[*setting, place]

    def _featurize(self, kind: str, width: int, seed: int, place: int) -> Any:
        projector = PROJECTORS[kind](width, seed=seed)
        start = time.process_time()
        train, targets = (
            ng.featurize(
                self.problem.margin,
                self.checkpoints[place],
                data,
                projector,
                batch_size=BATCH,
            )
            for data in (self.problem.train, self.problem.targets)
        )
        return train, targets, time.process_time() - start


def _natural(
    held: Featured,
    kind: str,
    width: int,
    share: float,
    numbers: tuple[int, ...],
    sketches: bool = False,
) -> Iterator[Scored]:
    """Natural W-TRAK with a ridge of `share` of the trace of each covariance.

    Ensembles are over checkpoints, or over sketches of the first one.
    """
    members = [(0, n) if sketches else (n, 0) for n in range(max(numbers))]
    geometries, spent = [], 0.0
    for number in range(1, len(members) + 1):
        features, warm, first = held.of(kind, width, members[:number])
        start = time.process_time()
        train, targets = features[-1]
        rows = np.asarray(train, np.float64)
        ridge = share * float(np.square(rows).sum(axis=1).mean())
        geometries.append((ng.natural_geometry(train, ridge), targets))
        spent += time.process_time() - start
        if number not in numbers:
            continue
        start = time.process_time()
        scores = ng.ensemble(geometries).scores
        total = spent + time.process_time() - start
        about = {
            "projector": kind,
            "K": width,
            "ridge": share,
            "C": 1 if sketches else number,
            "sketches": number if sketches else 1,
            "effective_dimension": _effective_dimension(train, ridge),
        }
        yield "Natural W-TRAK", about, scores, (warm + total, first + total)


def _effective_dimension(train: Any, ridge: float) -> float:
    """sum_k s_k / (s_k + ridge) over the positive eigenvalues s_k of the covariance."""
    rows = np.asarray(train, np.float64)
    short = rows if rows.shape[0] < rows.shape[1] else rows.T
    found = np.linalg.eigvalsh(short @ short.T / len(rows))
    found = found[found > 1e-12 * found[-1]]
    return float(np.sum(found / (found + ridge)))


def _product(held: Featured, width: int, number: int, method: str) -> Scored:
    """sum_c r_i^c phi_t^c . phi_i^c: gradient dot, TracIn; or their cosine."""
    places = [(place, 0) for place in range(number)]
    members, warm, first = held.of("CountSketch", width, places)
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
