"""Does it mean anything? Linear datamodeling scores against retrained models.

Models are retrained on random halves of the training set, and every method is asked to
put their outputs in order (Spearman's correlation over the halves, mean over targets,
95 % bootstrap interval over targets and halves). Seconds are CPU seconds of what a
method computes from given checkpoints, compiled code warm; the second number has the
compilation in it.

Run `python -m benchmarks.lds`. `--fashion FOLDER` and `--sentences SDIST` say where the
data are, `--only digits` (or sentences, fashion) runs one of them, `--work FOLDER`
keeps the retrained outputs for the next run, `--methods` takes the seconds of
retraining from the stored row, `--quick` runs a small case, `--keep` replaces the
stored results and the tables of the README. traker and dattri run where the extra
`peers` is installed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import (
    datasets,
    lds_methods,
    lds_peers,
    lds_problems,
    lds_table,
    sentences,
)
from benchmarks.harness import is_quick, replace_in_readme, report, stored
from benchmarks.lds_methods import OURS
from benchmarks.lds_problems import Problem
from natgeo import evaluate
from natgeo.errors import UnfitEnvironmentError

RESULTS = Path(__file__).parent / "results"
RESAMPLES, SEED = 400, 0
ONE, PLAIN = "its best of one checkpoint", "that of one checkpoint without a ridge"
TIMES = (
    "wall_s_each",
    "cpu_s_each",
    "sequential_wall_ratio",
    "sequential_cpu_ratio",
)
Found = tuple[dict[str, Any], evaluate.Agreement]


def main() -> None:
    keep, work = "--keep" in sys.argv, _option("--work", None)
    for problem in _problems(needed=keep):
        rows = study(problem, None if work is None else Path(work))
        if keep:
            _keep(rows)


def _keep(rows: list[dict[str, Any]]) -> None:
    """Replaces the stored rows of one problem; those of the others stay."""
    RESULTS.mkdir(exist_ok=True)
    kept = [
        row for row in stored(RESULTS / "lds.jsonl") if row["data"] != rows[0]["data"]
    ] + rows
    order = list(lds_problems.NAMES)
    kept.sort(key=lambda row: order.index(row["data"]))
    lines = "".join(json.dumps(row) + "\n" for row in kept)
    (RESULTS / "lds.jsonl").write_text(lines)
    replace_in_readme("lds", lds_table.table(kept))


def _stored(problem: Problem) -> list[dict[str, Any]]:
    return [row for row in stored(RESULTS / "lds.jsonl") if row["data"] == problem.name]


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
    rows = [_retraining_row(problem, truth, stored)]
    found: list[Found] = []
    for method, about, made, spent in lds_methods.scored(problem):
        if made is None:
            rows.append(_row(problem, method, **about, lds=None))
            continue
        score = evaluate.lds(made, truth, resamples=RESAMPLES, seed=SEED)
        spent_s = {"cpu_s": spent[0], "first_cpu_s": spent[1]}
        rows.append(_row(problem, method, **about, **_with_interval(score), **spent_s))
        found.append((rows[-1], score))
    return [*rows, *_differences(problem, found)]


def _differences(problem: Problem, found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Our LDS minus that of others at their setting; the best of ours minus less."""
    ours = [(row, score) for row, score in found if row["method"] == OURS]
    sketched = [pair for pair in ours if pair[0]["projector"] == "CountSketch"]
    equal = {
        tuple(row[name] for name in ("K", "ridge", "C")): score
        for row, score in sketched
        if row["sketches"] == 1
    }
    for row, score in found:
        if row["method"] in lds_peers.LIBRARIES:
            about = {name: row[name] for name in ("K", "ridge", "C")}
            minus = equal[tuple(about.values())].minus(score)
            about |= {"of": OURS, "minus": row["method"]}
            yield _row(problem, "difference", **about, **_with_interval(minus))
    single = [pair for pair in ours if pair[0]["C"] == pair[0]["sketches"] == 1]
    best, one = (max(some, key=lambda pair: pair[1].value) for some in (ours, single))
    plain = [pair for pair in single if pair[0]["ridge"] == 0]
    others = [(ONE, one), *((PLAIN, pair) for pair in plain)]
    for name, (row, score) in others:
        if row is best[0]:
            continue
        about = {"of": _setting(best[0]), "minus": _setting(row), "against": name}
        minus = best[1].minus(score)
        yield _row(problem, "difference", **about, **_with_interval(minus))


def _setting(row: dict[str, Any]) -> str:
    return f"K = {row['K']}, ridge {row['ridge']:g}, C = {row['C']}"


def _with_interval(score: evaluate.Agreement) -> dict[str, Any]:
    return {"lds": score.value, "low": score.low, "high": score.high, "seed": SEED}


def _row(problem: Problem, method: str, **values: Any) -> dict[str, Any]:
    return report("lds", data=problem.name, method=method, **values)


def _retraining_row(
    problem: Problem, truth: evaluate.Retrained, stored: list[dict[str, Any]]
) -> dict[str, Any]:
    """What was retrained, and how much faster that is side by side.

    Seconds are those of the stored row, if there is one.
    """
    about = {
        "N": problem.size,
        "M": len(problem.targets[1]),
        "subsets": len(truth.weights),
        "seeds": len(truth.seeds),
        "chunk": truth.chunk,
    }
    made = evaluate.ceiling(truth, resamples=RESAMPLES, seed=SEED)
    about |= {"ceiling": made.value, "low": made.low, "high": made.high, "seed": SEED}
    if stored:
        about |= {name: stored[0][name] for name in TIMES if name in stored[0]}
    elif problem.timed:
        fast = _seconds_each(problem, 32, {"chunk": 32})
        slow = _seconds_each(problem, 4, {"chunk": 1, "devices": jax.devices()[:1]})
        ratios = slow[0] / fast[0], slow[1] / fast[1]
        about |= dict(zip(TIMES, (*fast, *ratios), strict=True))
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


def _option(name: str, default: Any) -> Any:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


if __name__ == "__main__":
    # A device for each core, before anything starts one.
    jax.config.update("jax_num_cpu_devices", 2)
    main()
