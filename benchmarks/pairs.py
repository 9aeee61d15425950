"""All pairs: the time of exact certified counts against the pairs' matrix product.

The baseline is what any method that looks at all pairs must do: the N x N x K product
for the distances, and one comparison for each pair and target.

Run `python -m benchmarks.pairs`; add `--quick` for toy sizes.
"""

from __future__ import annotations

import numpy as np

import natgeo as ng
from benchmarks.harness import is_quick, measure

QUICK = [(300, 3, 16)]  # N, M, K
FULL = [(2_000, 64, 256), (10_000, 16, 512)]
EPS = 0.01


def main() -> None:
    for n, m, k in QUICK if is_quick() else FULL:
        rng = np.random.default_rng(0)
        train = rng.standard_normal((n, k), np.float32)
        targets = rng.standard_normal((m, k), np.float32)
        geometry = ng.natural_geometry(train, ridge=0.0)
        order = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(EPS))
        measure(
            "certified fraction of all pairs",
            lambda order=order: order.curve([EPS]),
            _float64_fraction(train, targets, EPS)[:, None],
            tolerance=1e-6,
            baseline=lambda train=train, m=m: _least_work(train, m),
            baseline_name="float64 N x N x K product + one comparison each",
            axes={"N": n, "M": m, "K": k},
            repeats=3,
        )


def _float64_fraction(train: np.ndarray, targets: np.ndarray, eps: float) -> np.ndarray:
    """Plain float64 without error terms, row by row: cosine above kappa."""
    train, targets = np.float64(train), np.float64(targets)
    inverse = np.linalg.inv(train.T @ train / len(train))
    scores = targets @ inverse @ train.T
    lengths = np.sqrt(np.einsum("mk,kl,ml->m", targets, inverse, targets))
    kappa = eps * np.sqrt(2 - eps * eps)
    half = np.linalg.cholesky(inverse)
    natural = train @ half
    counts = np.zeros(len(targets))
    for i in range(len(train) - 1):
        distance = np.linalg.norm(natural[i + 1 :] - natural[i], axis=1)
        gaps = np.abs(scores[:, i + 1 :] - scores[:, i, None])
        counts += (gaps > kappa * lengths[:, None] * distance).sum(axis=1)
    return counts / (len(train) * (len(train) - 1) / 2)


def _least_work(train: np.ndarray, targets: int) -> int:
    wide = np.asarray(train, np.float64)
    found = 0
    for start in range(0, len(wide), 256):
        tile = wide[start : start + 256] @ wide[start:].T
        for _ in range(targets):
            found += int(np.count_nonzero(tile > 0.0))
    return found


if __name__ == "__main__":
    main()
