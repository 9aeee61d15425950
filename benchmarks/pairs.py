"""All pairs: the time of exact certified counts against the pairs' matrix product.

The baseline is what any method that looks at all pairs must do: the product of all
pairs of rows for the distances, and one comparison for each pair and target.

Run `python -m benchmarks.pairs`; add `--quick` for toy sizes, or `--keep` to replace
the stored results. The largest case takes minutes; its baseline is timed on a twentieth
of the tiles and scaled, and its counts are checked against a plain float64 sample.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import natgeo as ng
from benchmarks.harness import is_quick, measure, report
from natgeo.geometry import kernels

QUICK = [(300, 3, 16)]  # N, M, K
FULL = [(2_000, 64, 256), (10_000, 16, 512)]
QUICK_SCALE, SCALE = (1_500, 4, 16), (50_000, 100, 512)
EPS = 0.01
RESULTS = Path(__file__).parent / "results"
_TILE = 1024
_SAMPLE = 200_000


def main() -> None:
    rows = [
        at_scale(*(QUICK_SCALE if is_quick() else SCALE), ridge)
        for ridge in (0.0, None)
    ]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "pairs.jsonl").write_text(lines)
    for n, m, k in QUICK if is_quick() else FULL:
        rng = np.random.default_rng(0)
        train = rng.standard_normal((n, k), np.float32)
        targets = rng.standard_normal((m, k), np.float32)
        geometry = ng.natural_geometry(train, ridge=0.0)

        def fraction(
            geometry: ng.NaturalGeometry = geometry, targets: np.ndarray = targets
        ) -> np.ndarray:
            order = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(EPS))
            return order.curve([EPS])

        measure(
            "certified fraction of all pairs",
            fraction,
            _float64_fraction(train, targets, EPS)[:, None],
            tolerance=1e-6,
            baseline=lambda train=train, m=m: _least_work(train, m),
            baseline_name="float64 product of all pairs + one comparison each",
            axes={"N": n, "M": m, "K": k},
            repeats=3,
        )


def at_scale(n: int, m: int, k: int, ridge: float | None) -> dict[str, Any]:
    """One row: wall and CPU seconds of all counts, their baseline, and the peak memory.

    Features have a decaying spectrum; targets are noisy training examples.

    Raises:
        SystemExit: if a count disagrees with the sample.
    """
    rng = np.random.default_rng(0)
    train = rng.standard_normal((n, k), np.float32)
    train *= np.geomspace(1, 1e-2, k, dtype=np.float32)
    noise = rng.standard_normal((m, k), np.float32) * train.std(axis=0)
    targets = train[:m] + np.float32(0.5) * noise
    geometry = ng.natural_geometry(train, ridge)
    order = ng.certify_rankings(
        geometry, targets, ng.threats.Wasserstein2(EPS), kernel=kernels.xla
    )
    _, *proof = _timed(lambda: order.proof)
    order.counts(part=(0, max(order.pairs // 10**6, 1)))  # compiles
    counts, *ours = _timed(order.counts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if geometry.ridge == 0:
        _check(counts[:, 0] / order.pairs, train, targets)
    share = 20 if n > 10_000 else 1
    found, *theirs = _timed(lambda: _least_work(train, m, share))
    scale = n * (n - 1) / 2 / found
    wall, cpu = (seconds * scale for seconds in theirs)
    return report(
        "certified counts of all pairs",
        N=n,
        M=m,
        K=k,
        ridge=geometry.ridge,
        eps=EPS,
        fraction=float(np.mean(counts) / order.pairs),
        by_norms=float(order.fraction_by_norms.mean()),
        proof_s=proof[0],
        wall_s=ours[0],
        cpu_s=ours[1],
        cpu_ns_per_pair_and_target=ours[1] / order.pairs / m * 1e9,
        baseline="float64 product of all pairs + one float32 comparison each",
        baseline_wall_s=wall,
        baseline_cpu_s=cpu,
        ratio=ours[0] / wall,
        cpu_ratio=ours[1] / cpu,
        peak_gib=peak,
        cores=os.cpu_count(),
    )


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = function()
    return value, time.perf_counter() - wall, time.process_time() - cpu


def _check(fractions: np.ndarray, train: np.ndarray, targets: np.ndarray) -> None:
    """Compares with plain float64 on random pairs: within five standard errors."""
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, len(train), (_SAMPLE, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    wide = np.float64(train)
    inverse = np.linalg.inv(wide.T @ wide / len(wide))
    half = np.linalg.cholesky(inverse)
    natural, points = wide @ half, np.float64(targets) @ half
    lengths = np.linalg.norm(points, axis=1)
    kappa = EPS * np.sqrt(2 - EPS * EPS)
    found = np.zeros(len(targets))
    for some in np.array_split(pairs, 100):
        gap = natural[some[:, 0]] - natural[some[:, 1]]
        cosines = np.abs(points @ gap.T) / np.linalg.norm(gap, axis=1)
        found += np.count_nonzero(cosines > kappa * lengths[:, None], axis=1)
    found /= len(pairs)
    room = 5 * np.sqrt(found * (1 - found) / len(pairs)) + 1e-4
    if (np.abs(found - fractions) > room).any():
        raise SystemExit("certified counts disagree with a plain float64 sample")


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


def _least_work(train: np.ndarray, targets: int, share: int = 1) -> int:
    """The baseline on all cores, for one in `share` tiles; how many pairs it saw."""
    wide = np.asarray(train, np.float64)
    slices = [slice(i, i + _TILE) for i in range(0, len(wide), _TILE)]
    tiles = [(a, b) for i, a in enumerate(slices) for b in slices[i:]]

    def work(tile: tuple[slice, slice]) -> int:
        a, b = tile
        product = wide[a] @ wide[b].T
        narrow = product.astype(np.float32)
        above = np.empty(narrow.shape, bool)
        for _ in range(targets):
            np.count_nonzero(np.greater(narrow, 0, out=above))
        size = len(product)
        return size * (size - 1) // 2 if a == b else product.size

    cores = os.cpu_count() or 1
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(work, tiles[::share]))


if __name__ == "__main__":
    main()
