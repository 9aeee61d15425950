"""Scores: the time of a block of scores against one NumPy matrix product.

Run `python -m benchmarks.scores`; add `--quick` for toy sizes.
"""

from __future__ import annotations

import numpy as np

import natgeo as ng
from benchmarks.harness import is_quick, measure

QUICK = [(600, 16, 32)]  # N, M, K
FULL = [(10_000, 512, 512), (50_000, 512, 1024)]


def main() -> None:
    for n, m, k in QUICK if is_quick() else FULL:
        rng = np.random.default_rng(0)
        train = rng.standard_normal((n, k), np.float32)
        targets = rng.standard_normal((m, k), np.float32)
        geometry = ng.natural_geometry(train, ridge=1e-3)
        wide = np.asarray(train, np.float64)
        q = wide.T @ wide / n + 1e-3 * np.eye(k)
        want = np.asarray(targets, np.float64) @ np.linalg.solve(q, wide.T)
        measure(
            "scores",
            lambda geometry=geometry, targets=targets: ng.scores(geometry, targets),
            want,
            tolerance=1e-5,
            baseline=lambda targets=targets, train=train: targets @ train.T,
            baseline_name="float32 NumPy product of the same sizes",
            axes={"N": n, "M": m, "K": k},
        )


if __name__ == "__main__":
    main()
