"""Projected gradients against other libraries and plain torch, in one run.

Each contender featurizes the same model on the same data, in a process of its own, on
one thread and on two, with the batch size that was best of those tried at the middle
width. `none` is the same JAX gradients with no projection at all. Before it is timed, a
contender's features must reproduce the inner products of its own gradients as well as a
random projection of that kind and width can. Contenders named kronecker project each
layer from two sides, which is faster and less faithful (`benchmarks.fidelity`): compare
them with one another.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.contenders import OURS, Contender, flops
from benchmarks.feature_tables import THREADS, WIDTHS, bars, tables
from benchmarks.harness import is_quick, replace_in_readme, report

RESULTS = Path(__file__).parent / "results"
MODELS = ("mlp", "resnet9", "transformer")
ALL = (*OURS, "torch", "traker", "dattri", "bergson", "bergson-kronecker")
BATCHES = (8, 32, 128)
SECONDS = 1.0
# bergson takes inputs [N, positions, features] only, so no images.
UNABLE = {("bergson", "resnet9"), ("bergson-kronecker", "resnet9")}


def main() -> None:
    if "--one" in sys.argv:
        return _one(*sys.argv[sys.argv.index("--one") + 1 :][:6])
    quick, only = is_quick(), _only()
    chosen = [m for m in MODELS if m in only] or (MODELS[:1] if quick else MODELS)
    contenders = [c for c in ALL if c in only] or (OURS if quick else ALL)
    widths, batches = ((64,), (32,)) if quick else (WIDTHS, BATCHES)
    seconds, rows = 0.05 if quick else SECONDS, []
    for model in chosen:
        for contender in contenders:
            if (contender, model) in UNABLE:
                continue
            sizes = batches
            for threads in THREADS[:1] if quick else THREADS:
                made = _in_own_process(
                    contender, model, threads, seconds, widths, sizes
                )
                rows += [report("features", **row) for row in made]
                sizes = (made[0]["batch"],)  # two threads take the best of one
    rows += [report("bars", **row) for row in bars(rows)]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "features.jsonl").write_text(lines)
        replace_in_readme("features", tables(rows))


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
    widths: Sequence[int],
    batches: Sequence[int],
) -> list[dict[str, Any]]:
    """A row for each width, with the batch size that was best at the middle one."""
    if contender == "none":
        widths = (0,)
    lists = [",".join(map(str, numbers)) for numbers in (widths, batches)]
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    limits = {name: str(threads) for name in names}
    xla = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    words = ["--one", contender, model, str(threads), str(seconds), *lists]
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


def _one(
    contender: str, model: str, threads: str, seconds: str, widths: str, batches: str
) -> None:
    """Checks and times one contender; prints a JSON line for each width."""
    if hasattr(os, "sched_setaffinity"):
        # XLA makes a thread for every processor that it may run on.
        allowed = sorted(os.sched_getaffinity(0))[: int(threads)]
        os.sched_setaffinity(0, allowed)
    build = OURS.get(contender) or _peer(contender)
    sizes, dims = ([int(n) for n in text.split(",")] for text in (batches, widths))
    x, y = models.data(model, 4 * max(sizes))
    few, found = (x[:32], y[:32]), {}
    middle = dims[len(dims) // 2]
    for width in (middle, *(dim for dim in dims if dim != middle)):
        made = build(model, width, few)
        if not made.error <= made.allowed:
            raise SystemExit(
                f"{contender}, {model}, K = {width}: inner products are off by "
                f"{made.error:.3f}, more than {made.allowed:.3f}"
            )
        tries = [
            _time(made, x, y, size, float(seconds))
            for size in sizes  # the best at the middle width serves the others
        ]
        found[width] = max(tries, key=lambda row: row["samples_per_cpu_s"])
        sizes = [found[width]["batch"]]
        found[width] = {
            "contender": contender,
            "model": model,
            "K": width,
            "columns": made.columns,
            "threads": int(threads),
            "inner_product_error": made.error,
            "error_allowed": made.allowed,
            **found[width],
        }
        if contender in OURS:
            found[width] |= _of_peak(model, few, found[width]["samples_per_s"])
    for width in dims:
        print(json.dumps(found[width]), flush=True)


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
        "batch": size,
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
