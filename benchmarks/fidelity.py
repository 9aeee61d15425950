"""How faithful each projection is: rank correlation with unprojected scores.

Three models on the digits: the trained classifier of the demo, and with random weights
the ResNet-9 (digits as images) and the transformer (pixels as tokens) of the feature
benchmark. Scores of held-out digits by ridge-regularised TRAK with the whole gradient,
[M, P], computed in float64 through the N x N kernel, against the same scores after
projection: Spearman's correlation, mean over targets and seeds.

Run `python -m benchmarks.fidelity`; `--quick` for toy sizes, `--keep` keeps rows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.linalg
import scipy.stats

import natgeo as ng
from benchmarks import models
from benchmarks.contenders import task_and_params
from benchmarks.harness import is_quick, report
from natgeo import demo

RESULTS = Path(__file__).parent / "results"
KINDS: dict[str, Callable[..., Any]] = {
    "countsketch": ng.projectors.CountSketch,
    "rademacher": ng.projectors.Rademacher,
    "kronecker": ng.projectors.Kronecker,
}
TRAIN = {"mlp": None, "resnet9": 200, "transformer": 200}
BATCH = 50


def main() -> None:
    quick = is_quick()
    widths, seeds = ((64,), 1) if quick else ((512, 2048, 4096), 3)
    rows = []
    for model, count in {"mlp": 100}.items() if quick else TRAIN.items():
        train, targets = _gradients(model, count)
        rows += _compare(model, train, targets, widths, seeds)
    if "--keep" in sys.argv:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "fidelity.jsonl").write_text(lines)


def _compare(
    model: str, train: Any, targets: Any, widths: tuple[int, ...], seeds: int
) -> list[dict[str, Any]]:
    whole = [_project(ng.projectors.Identity(), part) for part in (train, targets)]
    ridge = 1e-2 * float(np.square(whole[0]).sum(axis=1).mean())
    want, rows = _kernel_scores(*whole, ridge), []
    for width in widths:
        for name, kind in KINDS.items():
            found = []
            for seed in range(seeds):
                both = (_project(kind(width, seed), part) for part in (train, targets))
                got = _kernel_scores(*both, ridge)
                found += [
                    scipy.stats.spearmanr(a, b).statistic
                    for a, b in zip(got, want, strict=True)
                ]
            row = {
                "model": model,
                "projector": name,
                "K": width,
                "spearman": float(np.mean(found)),
                "seeds": seeds,
                "N": len(whole[0]),
                "M": len(whole[1]),
                "P": whole[0].shape[1],
            }
            rows.append(report("fidelity", **row))
    return rows


def _gradients(model: str, count: int | None) -> tuple[Any, Any]:
    """Formed gradients, pytrees of [N, ...], of training and of held-out digits."""
    data = demo.load_digits(0)
    if model == "mlp":
        apply, params = demo.train_model(data, 0)
        task = ng.tasks.classification(apply)
    else:
        task, params = task_and_params(model)
    step = jax.jit(jax.vmap(jax.grad(task.output), in_axes=(None, 0)))

    def gradients(x: np.ndarray, y: np.ndarray) -> Any:
        parts = [
            step(params, _examples(model, x[i : i + BATCH], y[i : i + BATCH]))
            for i in range(0, len(y), BATCH)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return gradients(data.x[:count], data.y[:count]), gradients(
        data.x_test[:BATCH], data.y_test[:BATCH]
    )


def _examples(model: str, x: np.ndarray, y: np.ndarray) -> Any:
    """Digits, [B, 64] from 0 to 1, as a model takes them."""
    if model == "transformer":
        return np.rint(x * 16).astype(np.int32)
    if model == "resnet9":
        image = x.reshape(-1, 8, 8, 1).repeat(4, axis=1).repeat(4, axis=2)
        return np.broadcast_to(image, (len(x), *models.INPUT[model])), y
    return x, y


def _project(projector: Any, gradients: Any) -> np.ndarray:
    return np.asarray(jax.jit(projector.project)(gradients), np.float64)


def _kernel_scores(train: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """phi_t^T (Phi^T Phi / N + ridge I)^-1 phi_i, [M, N], by the N x N kernel."""
    n = len(train)
    kernel = train @ train.T
    inverse = scipy.linalg.solve(kernel + n * ridge * np.eye(n), kernel, assume_a="pos")
    cross = targets @ train.T
    return (cross - cross @ inverse) / ridge


if __name__ == "__main__":
    main()
