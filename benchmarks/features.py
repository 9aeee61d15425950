"""Projected gradients against other libraries and plain torch, in one run.

Each contender featurizes the same model on the same data, in a process of its own, on
one thread and on two, with its best batch size of those tried. `none` is the same JAX
gradients with no projection at all. Before it is timed, a contender's features must
reproduce the inner products of its own gradients as well as a random projection of that
kind and width can. Contenders named kronecker project each layer from two sides, which
is faster and less faithful (`benchmarks.fidelity`): compare them with one another.

Run `make bench-features`, or `python -m benchmarks.features` where the extra `peers` is
installed. `--only NAME`, which can be repeated, keeps the models and the contenders of
these names; `--quick` runs natgeo alone on toy sizes; `--keep` stores the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.contenders import OURS, Contender, flops
from benchmarks.harness import is_quick, replace_in_readme, report

RESULTS = Path(__file__).parent / "results"
MODELS = ("mlp", "resnet9", "transformer")
ALL = (*OURS, "torch", "traker", "dattri", "bergson", "bergson-kronecker")
WIDTHS = (512, 2048, 4096)
BATCHES = (8, 32, 128)
THREADS = (1, 2)
SECONDS = 1.0
# bergson takes inputs [N, positions, features] only, so no images.
UNABLE = {("bergson", "resnet9"), ("bergson-kronecker", "resnet9")}
# What natgeo must reach: a share of `none` at every width, and a multiple of traker.
OF_GRADIENTS, OVER_TRAKER = 0.7, {"mlp": 20.0, "resnet9": 8.0}
# The columns of the README's tables: a contender and what it is called there.
COLUMNS = {
    "natgeo": "natgeo",
    "none": "gradients alone",
    "torch": "torch",
    "traker": "traker",
    "dattri": "dattri",
    "bergson": "bergson",
    "natgeo-kronecker": "natgeo Kronecker",
    "bergson-kronecker": "bergson Kronecker",
}


def main() -> None:
    if "--one" in sys.argv:
        return _one(*sys.argv[sys.argv.index("--one") + 1 :][:5])
    quick, only = is_quick(), _only()
    chosen = [m for m in MODELS if m in only] or (MODELS[:1] if quick else MODELS)
    contenders = [c for c in ALL if c in only] or (OURS if quick else ALL)
    widths, batches = ((64,), (32,)) if quick else (WIDTHS, BATCHES)
    seconds = 0.05 if quick else SECONDS
    rows = []
    for model in chosen:
        for contender in contenders:
            if (contender, model) in UNABLE:
                continue
            cases = [(width, batch) for width in widths for batch in batches]
            for threads in THREADS[:1] if quick else THREADS:
                tries = _in_own_process(contender, model, threads, seconds, cases)
                best = _best(tries)
                # Two threads take the batch size that was best on one.
                cases = [(row["K"], row["batch"]) for row in best]
                rows += [report("features", **row) for row in best]
    rows += [report("bars", **row) for row in bars(rows)]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "features.jsonl").write_text(lines)
        replace_in_readme("features", tables(rows))


def bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What natgeo reaches of the gradients alone and over traker, on one thread."""
    found = []
    for (model, width), rates in _rates(rows, 1, "samples_per_cpu_s").items():
        if "natgeo" not in rates:
            continue
        row: dict[str, Any] = {"model": model, "K": width}
        if "none" in rates:
            row["of_gradients"] = rates["natgeo"] / rates["none"]
            row["of_gradients_met"] = row["of_gradients"] >= OF_GRADIENTS
        if "traker" in rates:
            row["over_traker"] = rates["natgeo"] / rates["traker"]
            if width == WIDTHS[-1] and model in OVER_TRAKER:
                row["over_traker_met"] = row["over_traker"] >= OVER_TRAKER[model]
        found.append(row)
    return found


def tables(rows: list[dict[str, Any]]) -> str:
    """What the README shows: one thread, two threads, and the share of the peak."""
    parts = [
        "One thread, samples per CPU second:",
        _table(rows, 1, "samples_per_cpu_s", tuple(COLUMNS)),
        "Two threads, samples per second:",
        _table(rows, 2, "samples_per_s", tuple(COLUMNS)),
        "\n".join(_peaks(rows)),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(
    rows: list[dict[str, Any]], threads: int, key: str, columns: Iterable[str]
) -> str:
    names = [COLUMNS[column] for column in columns]
    lines = [f"| model | K | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for (model, width), rates in _rates(rows, threads, key).items():
        cells = [_cell(rates, column) for column in columns]
        lines.append(f"| {model} | {width} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rates: dict[str, float], contender: str) -> str:
    """A rate, and natgeo's own projection of the same kind in comparison."""
    if contender not in rates:
        return "-"
    rate, text = rates[contender], f"{rates[contender]:,.0f}"
    ours = "natgeo-kronecker" if "kronecker" in contender else "natgeo"
    if contender == ours or ours not in rates:
        return text
    if contender == "none":
        return f"{text} ({rates[ours] / rate:.0%})"
    return f"{text} ({_times(rates[ours] / rate)})"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x"


def _peaks(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each thread count: what share of the peak gradients reach."""
    lines = []
    for threads in THREADS:
        made = {
            row["model"]: row
            for row in rows
            if row.get("contender") == "none" and row["threads"] == threads
        }
        if not made:
            continue
        shares = ", ".join(f"{m} {r['share_of_peak']:.1%}" for m, r in made.items())
        peak = np.mean([row["peak_gflops"] for row in made.values()])
        lines.append(
            f"Gradients alone, of the {peak:,.0f} GF/s that a float32 matrix product "
            f"reaches in the same run on {threads} thread{'s' * (threads > 1)}: "
            f"{shares}."
        )
    return lines


def _rates(
    rows: list[dict[str, Any]], threads: int, key: str
) -> dict[tuple[str, int], dict[str, float]]:
    """(model, width) -> contender -> rate; `none` has no width and goes with all."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    mine = [r for r in rows if r["name"] == "features" and r["threads"] == threads]
    for row in mine:
        if row["contender"] != "none":
            case = found.setdefault((row["model"], row["K"]), {})
            case[row["contender"]] = row[key]
    for row in mine:
        if row["contender"] == "none":
            for (model, _), case in found.items():
                if model == row["model"]:
                    case["none"] = row[key]
    return found


def _best(tries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each width, the row of the fastest batch size."""
    widths = dict.fromkeys(row["K"] for row in tries)
    return [
        max(
            (row for row in tries if row["K"] == width),
            key=lambda row: row["samples_per_cpu_s"],
        )
        for width in widths
    ]


def _only() -> set[str]:
    """The names given with `--only`.

    Raises:
        SystemExit: for a name that is neither a model nor a contender.
    """
    places = [i for i, word in enumerate(sys.argv) if word == "--only"]
    names = {sys.argv[place + 1] for place in places}
    known = {*MODELS, *ALL}
    if unknown := names - known:
        raise SystemExit(f"--only {sorted(unknown)}: expected some of {sorted(known)}")
    return names


def _in_own_process(
    contender: str,
    model: str,
    threads: int,
    seconds: float,
    cases: list[tuple[int, int]],
) -> list[dict[str, Any]]:
    if contender == "none":  # there is no width to vary
        cases = [(0, batch) for batch in dict.fromkeys(batch for _, batch in cases)]
    text = ",".join(f"{width}:{batch}" for width, batch in cases)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    limits = {name: str(threads) for name in names}
    xla = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    words = ["--one", contender, model, str(threads), str(seconds), text]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.features", *words],
        env={**os.environ, **limits, "XLA_FLAGS": xla},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{words[1:]}: {done.stderr.strip().splitlines()[-1]}")
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"contender"')]


def _one(contender: str, model: str, threads: str, seconds: str, cases: str) -> None:
    """Checks and times one contender at some widths and batch sizes, a line each."""
    if hasattr(os, "sched_setaffinity"):
        # XLA makes a thread for every processor that it may run on.
        allowed = sorted(os.sched_getaffinity(0))[: int(threads)]
        os.sched_setaffinity(0, allowed)
    build = OURS.get(contender) or _peer(contender)
    pairs = [tuple(map(int, case.split(":"))) for case in cases.split(",")]
    x, y = models.data(model, 4 * max(batch for _, batch in pairs))
    few = x[:16], y[:16]
    for width in dict.fromkeys(width for width, _ in pairs):
        made = build(model, width, few)
        if not made.error <= made.allowed:
            raise SystemExit(
                f"{contender}, {model}, K = {width}: inner products are off by "
                f"{made.error:.3f}, more than {made.allowed:.3f}"
            )
        for batch in (size for kept, size in pairs if kept == width):
            row = {
                "contender": contender,
                "model": model,
                "K": width,
                "columns": made.columns,
                "threads": int(threads),
                "batch": batch,
                "inner_product_error": made.error,
                "error_allowed": made.allowed,
                **_time(made, x, y, batch, float(seconds)),
            }
            if contender in OURS:
                row |= _of_peak(model, few, row["samples_per_s"])
            print(json.dumps(row), flush=True)


def _peer(contender: str) -> Callable[[str, int, Any], Contender]:
    from benchmarks.peers import PEERS

    return PEERS[contender]


def _time(made: Contender, x: Any, y: Any, size: int, seconds: float) -> dict:
    """The best of three windows after a warm-up; one window for slow contenders."""
    batches = [slice(i, i + size) for i in range(0, len(x) - size + 1, size)]
    made.featurize(x[batches[0]], y[batches[0]])
    start, cpu_rates, wall_rates, done = time.perf_counter(), [], [], 0
    while len(cpu_rates) < 3 and time.perf_counter() - start < 2 * seconds:
        wall, cpu, count = time.perf_counter(), time.process_time(), 0
        while not count or time.perf_counter() - wall < seconds / 3:
            rows = batches[count % len(batches)]
            made.featurize(x[rows], y[rows])
            count += 1
        cpu_rates.append(count * size / (time.process_time() - cpu))
        wall_rates.append(count * size / (time.perf_counter() - wall))
        done += count * size
    return {
        "N": done,
        "samples_per_cpu_s": max(cpu_rates),
        "samples_per_s": max(wall_rates),
    }


def _of_peak(model: str, few: Any, samples_per_s: float) -> dict[str, float]:
    """Operations of formed gradients a second, as a share of a matrix product's."""
    each, peak = flops(model, few), _peak()
    return {
        "gradient_mflop": each / 1e6,
        "peak_gflops": peak / 1e9,
        "share_of_peak": each * samples_per_s / peak,
    }


def _peak(size: int = 1024, repeats: int = 8) -> float:
    """Operations a second of a float32 matrix product on these threads, the best."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(matrix))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(matrix))
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


if __name__ == "__main__":
    main()
