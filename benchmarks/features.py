"""Projected gradients against traker, dattri and plain torch, in one run.

Each contender featurizes the same model on the same data at the same width, in a
process of its own, with its best batch size of those tried; the row gives samples per
CPU second after a warm-up. `none` is the same JAX gradients with no projection at all.
Before it is timed, each contender's features must reproduce the inner products of its
own gradients as well as a random projection of that width can.

Run `make bench-features`, or `python -m benchmarks.features` where the extra `peers` is
installed; `--quick` runs natgeo alone on toy sizes, `--keep` stores the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.harness import is_quick, replace_in_readme, report

RESULTS = Path(__file__).parent / "results"
OURS, PEERS = ("natgeo", "none"), ("torch", "traker", "dattri")
CASES = [("mlp", 10_000), ("resnet9", 1_000)]
WIDTHS = (512, 2048, 4096)
BATCHES = (32, 64, 256)


def main() -> None:
    if "--one" in sys.argv:
        return _one(*sys.argv[sys.argv.index("--one") + 1 :][:5])
    quick, rows = is_quick(), []
    for model, count in [("mlp", 256)] if quick else CASES:
        for width in (64,) if quick else WIDTHS:
            for contender in OURS if quick else (*OURS, *PEERS):
                # A tenth of the data is long enough for the slower ones.
                n = count if contender in OURS else count // 10
                tries = [
                    _in_own_process(contender, model, width, batch, max(n, batch))
                    for batch in ((32,) if quick else BATCHES)
                ]
                best = max(tries, key=lambda row: row["samples_per_cpu_s"])
                rows.append(report("features", **best))
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "features.jsonl").write_text(lines)
        replace_in_readme("features", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: samples per CPU second, and ratios to natgeo."""
    lines = ["| model | K | natgeo | no projection | torch | traker | dattri |"]
    lines.append("|---|---|---|---|---|---|---|")
    for model, _ in CASES:
        for width in WIDTHS:
            found = {
                row["contender"]: row["samples_per_cpu_s"]
                for row in rows
                if (row["model"], row["K"]) == (model, width)
            }
            if len(found) < len(OURS) + len(PEERS):
                continue
            ours = found["natgeo"]
            cells = [f"{ours:,.0f}", f"{found['none']:,.0f}"]
            cells += [f"{found[p]:,.0f} ({_times(ours / found[p])})" for p in PEERS]
            lines.append(f"| {model} | {width} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x"


def _in_own_process(*case: Any) -> dict[str, Any]:
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    xla = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    command = [sys.executable, "-m", "benchmarks.features", "--one", *map(str, case)]
    done = subprocess.run(
        command,
        env={**os.environ, **threads, "XLA_FLAGS": xla},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _one(contender: str, model: str, width: str, batch: str, count: str) -> None:
    """Checks and times one contender; prints one JSON line."""
    run = {
        "natgeo": _natgeo,
        "none": _no_projection,
        "torch": _torch,
        "traker": _traker,
        "dattri": _dattri,
    }[contender]
    n, size = int(count), int(batch)
    x, y = models.data(model, n)
    featurize, error = run(model, x[:size], y[:size], int(width))
    if not error <= 6 / np.sqrt(int(width)):
        raise SystemExit(f"features are wrong: inner products are off by {error:.3f}")
    featurize(x[:size], y[:size])
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, n - size + 1, size):
        featurize(x[start : start + size], y[start : start + size])
    done = n // size * size
    row = {
        "contender": contender,
        "model": model,
        "K": int(width),
        "batch": size,
        "N": done,
        "samples_per_cpu_s": done / (time.process_time() - cpu),
        "samples_per_s": done / (time.perf_counter() - wall),
        "inner_product_error": error,
    }
    print(json.dumps(row))


def _error(features: np.ndarray, gradients: np.ndarray) -> float:
    """Largest error of an inner product, relative to the norms, up to one scale."""
    one, two = (np.asarray(a, np.float64)[:16] for a in (features, gradients))
    one = one / np.linalg.norm(one, axis=1, keepdims=True)
    two = two / np.linalg.norm(two, axis=1, keepdims=True)
    return float(np.abs(one @ one.T - two @ two.T).max())


def _natgeo(model: str, x: Any, y: Any, width: int) -> tuple[Callable, float]:
    import jax

    from natgeo.features import projectors, tasks
    from natgeo.features.gradients import feature_step

    apply, params = models.flax_model(model)
    task = tasks.classification(apply)
    step = jax.jit(feature_step(task, projectors.CountSketch(width)))

    def featurize(x: Any, y: Any) -> np.ndarray:
        return np.asarray(step(params, (x, y))["features"])

    few = x[:16], y[:16]
    gradient = jax.jit(feature_step(task, projectors.Identity()))(params, few)
    return featurize, _error(featurize(*few), gradient["features"])


def _no_projection(model: str, x: Any, y: Any, width: int) -> tuple[Callable, float]:
    import jax

    from natgeo.features import tasks

    del width
    apply, params = models.flax_model(model)
    output = tasks.classification(apply).output
    step = jax.jit(jax.vmap(jax.grad(output), in_axes=(None, 0)))
    return lambda x, y: jax.block_until_ready(step(params, (x, y))), 0.0


def _torch_parts(model: str) -> tuple[Callable, Callable]:
    """Per-example margin gradients [B, P] in torch, and the tensors of a batch."""
    import torch

    module = models.torch_model(model)
    weights = {name: value.detach() for name, value in module.named_parameters()}

    def margin(weights: Any, x: Any, y: Any) -> Any:
        logits = torch.func.functional_call(module, weights, (x[None],))[0]
        others = logits.masked_fill(torch.arange(10) == y, -torch.inf)
        return logits.gather(0, y[None])[0] - others.logsumexp(0)

    per_example = torch.func.vmap(torch.func.grad(margin), in_dims=(None, 0, 0))

    def gradients(x: Any, y: Any) -> Any:
        made = per_example(weights, x, y)
        return torch.cat([value.flatten(1) for value in made.values()], dim=1)

    def tensors(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        x = x if x.ndim == 2 else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return torch.from_numpy(x), torch.from_numpy(y).long()

    return gradients, tensors


def _torch(model: str, x: Any, y: Any, width: int) -> tuple[Callable, float]:
    import torch

    gradients, tensors = _torch_parts(model)
    size = gradients(*tensors(x[:1], y[:1])).shape[1]
    signs = torch.randint(0, 2, (size, width)).float() * 2 - 1

    def featurize(x: Any, y: Any) -> np.ndarray:
        return (gradients(*tensors(x, y)) @ signs).numpy()

    few = x[:16], y[:16]
    return featurize, _error(featurize(*few), gradients(*tensors(*few)).numpy())


def _traker(model: str, x: Any, y: Any, width: int) -> tuple[Callable, float]:
    from trak import TRAKer

    gradients, tensors = _torch_parts(model)
    module = models.torch_model(model)
    folder = tempfile.mkdtemp()
    traker = TRAKer(
        model=module,
        task="image_classification",
        train_set_size=2 * 10**5,
        save_dir=folder,
        device="cpu",
        proj_dim=width,
        use_half_precision=False,
        logging_level=40,
    )
    traker.load_checkpoint(module.state_dict(), model_id=0)
    place = [0]

    def featurize(x: Any, y: Any) -> np.ndarray:
        traker.featurize(batch=tensors(x, y), num_samples=len(x))
        place[0] += len(x)
        rows = slice(place[0] - len(x), place[0])
        return np.asarray(traker.saver.current_store["grads"][rows])

    few = x[:16], y[:16]
    return featurize, _error(featurize(*few), gradients(*tensors(*few)).numpy())


def _dattri(model: str, x: Any, y: Any, width: int) -> tuple[Callable, float]:
    from dattri.func.projection import random_project

    gradients, tensors = _torch_parts(model)

    def featurize(x: Any, y: Any) -> np.ndarray:
        rows = gradients(*tensors(x, y))
        project = random_project(
            rows, len(rows), width, 32, proj_type="rademacher", device="cpu"
        )
        return project(rows).numpy()

    few = x[:16], y[:16]
    return featurize, _error(featurize(*few), gradients(*tensors(*few)).numpy())


if __name__ == "__main__":
    main()
