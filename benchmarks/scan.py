"""What a label scan costs beside the features it needs, and in what memory it runs.

The first rows: images of 28 x 28, a small residual network, K = 512. Everything is
compiled before it is timed. "Scan" is predictions, geometry, all scores and suggested
labels; "evidence" is the certified order by self-influence at eps = 0.01, and the
supporting examples of the 500 most suspicious. CPU time, one thread of BLAS: waiting
threads would count. The last row scans a store on disk in a
process of its own, and states the most memory that it held.

Run `python -m benchmarks.scan`; add `--quick` for toy sizes, or `--keep` to replace the
stored results and the table of the README.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

import natgeo as ng
from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo.labels import sources
from natgeo.labels.builtin import FEATURE_BATCH, ResNet8
from natgeo.resources import size
from natgeo.store.writer import DiskWriter

RESULTS = Path(__file__).parent / "results"
EPS, QUEUE = 0.01, 500
LARGE = """
import json, sys, time
import natgeo as ng
import natgeo.labels.scan
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
start = peak()
began = time.process_time()
scan = ng.scan_labels(ng.DiskStore(sys.argv[1]))
scanned = time.process_time() - began
order = scan.certify(0.01)
print(json.dumps({
    "scan_cpu_s": scanned,
    "certify_cpu_s": time.process_time() - began - scanned,
    "certified": order.fraction,
    "peak_bytes": peak(),
    "start_bytes": start,
}))
"""


def main() -> None:
    quick = is_quick()
    rows = [
        report("scan", **overhead(400 if quick else 10_000, 8 if quick else 28)),
        report("scan", **large(2_000 if quick else 50_000, 32 if quick else 512)),
    ]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "scan.jsonl").write_text(lines)
        replace_in_readme("scan", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's sentences."""
    small, big = rows
    return (
        f"Scanning {small['N']:,} images costs {100 * small['scan_share']:.0f} % of "
        f"the CPU time of their features (K = {small['K']}), with the certified order "
        f"and the evidence for {small['queue']} suspects "
        f"{100 * (small['scan_share'] + small['evidence_share']):.0f} %. A store of "
        f"{big['N']:,} examples (K = {big['K']}, {size(big['store_bytes'])}) is "
        f"scanned in {big['scan_cpu_s']:.0f} CPU seconds and its order certified in "
        f"{big['certify_cpu_s']:.0f} more; the process holds "
        f"{size(big['peak_bytes'])} at most, {size(big['start_bytes'])} of it before "
        f"it begins."
    )


def overhead(count: int, side: int) -> dict[str, Any]:
    """CPU time of a scan over that of its features, everything compiled."""
    rng = np.random.default_rng(0)
    x = rng.random((count, side, side, 1), np.float32)
    y = rng.integers(0, 10, count, dtype=np.int32)
    model = ResNet8(10)
    params = model.init(jax.random.key(0), jnp.zeros((1, side, side, 1)))
    projector = ng.projectors.CountSketch(dim=min(512, count // 4), seed=0)
    task = sources._loss_task(model.apply, None)

    def features(x: np.ndarray, y: np.ndarray) -> Any:
        return ng.featurize(task, params, (x, y), projector, batch_size=FEATURE_BATCH)

    def scan(x: np.ndarray, y: np.ndarray) -> ng.LabelScan:
        return ng.scan_labels(
            model.apply,
            params,
            (x, y),
            projector=projector,
            batch_size=FEATURE_BATCH,
        )

    few = slice(0, 2 * FEATURE_BATCH)
    with threadpool_limits(1):
        scan(x[few], y[few]).suspects(4, eps=EPS)
        _, alone = _timed(lambda: features(x, y))
        found, whole = _timed(lambda: scan(x, y))
        _, evidence = _timed(lambda: found.suspects(min(QUEUE, count), eps=EPS))
    n, k = found.geometry.train.shape
    return {
        "case": "overhead",
        "N": n,
        "K": k,
        "features_cpu_s": alone,
        "scan_share": (whole - alone) / alone,
        "evidence_share": evidence / alone,
        "queue": min(QUEUE, count),
        "certified": found.certify(EPS).fraction,
    }


def large(count: int, width: int) -> dict[str, Any]:
    """A scan of a store in a process of its own."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        with DiskWriter(path, {"task": "made-up-loss"}, shard_rows=8192) as writer:
            for start in range(0, count, 8192):
                part = min(8192, count - start)
                sizes = np.exp(rng.normal(size=(part, 1))).astype(np.float32)
                rows = rng.standard_normal((part, width), np.float32) * sizes
                writer.append(rows, {"outputs": sizes[:, 0]})
            writer.close()
        stored = sum(file.stat().st_size for file in path.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", LARGE, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    return {"case": "large", "N": count, "K": width, "store_bytes": stored, **found}


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return run(), time.process_time() - start


if __name__ == "__main__":
    main()
