"""How faithful each projection is: rank correlation with unprojected scores.

The digits model of the demo. Scores of held-out digits by ridge-regularised TRAK with
the whole gradient, [M, P], computed in float64 through the N x N kernel, against the
same scores after projection: Spearman's correlation, mean over targets and seeds.

Run `python -m benchmarks.fidelity`; `--quick` for toy sizes, `--keep` keeps rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.stats

import natgeo as ng
from benchmarks.harness import is_quick, report
from natgeo import demo

RESULTS = Path(__file__).parent / "results"
KINDS = {
    "countsketch": ng.projectors.CountSketch,
    "rademacher": ng.projectors.Rademacher,
}


def main() -> None:
    quick = is_quick()
    widths, seeds = ((64,), 1) if quick else ((512, 2048, 4096), 3)
    data = demo.load_digits(0)
    apply, params = demo.train_model(data, 0)
    rows = slice(0, 100 if quick else None)
    train = (data.x[rows], data.y[rows])
    targets = (data.x_test[:50], data.y_test[:50])
    task = ng.tasks.classification(apply)

    def features(examples: Any, projector: Any) -> np.ndarray:
        store = ng.featurize(task, params, examples, projector)
        return np.asarray(store, np.float64)

    whole = [features(part, ng.projectors.Identity()) for part in (train, targets)]
    ridge = 1e-2 * float(np.square(whole[0]).sum(axis=1).mean())
    want = _kernel_scores(*whole, ridge)
    kept = []
    for width in widths:
        for name, kind in KINDS.items():
            found = []
            for seed in range(seeds):
                projector = kind(dim=width, seed=seed)
                got = _kernel_scores(
                    features(train, projector), features(targets, projector), ridge
                )
                found += [
                    scipy.stats.spearmanr(a, b).statistic
                    for a, b in zip(got, want, strict=True)
                ]
            kept.append(
                report(
                    "fidelity",
                    projector=name,
                    K=width,
                    spearman=float(np.mean(found)),
                    seeds=seeds,
                    N=len(train[1]),
                    M=len(targets[1]),
                    P=whole[0].shape[1],
                )
            )
    if "--keep" in sys.argv:
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        (RESULTS / "fidelity.jsonl").write_text(lines)


def _kernel_scores(train: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """phi_t^T (Phi^T Phi / N + ridge I)^-1 phi_i, [M, N], by the N x N kernel."""
    n = len(train)
    kernel = train @ train.T
    inverse = scipy.linalg.solve(kernel + n * ridge * np.eye(n), kernel, assume_a="pos")
    cross = targets @ train.T
    return (cross - cross @ inverse) / ridge


if __name__ == "__main__":
    main()
