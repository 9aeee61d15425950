"""What a label scan costs beside the features it needs, and in what memory it runs.

The first rows: grey images of 28 x 28 and the very small network that `natgeo scan
--images` trains, and coloured ones of 32 x 32 and the ResNet-9 of `benchmarks.models`,
K = 512. The same network gives a share that is its own: what a scan adds hardly depends
on it. Everything is compiled before it is timed, and features are those of an ordinary
`featurize`. "Scan" is predictions, geometry, all scores and suggested labels; "inputs"
the second opinion of the images; "evidence" the certified order by self-influence at
eps = 0.01, and the supporting examples of the 500 most suspicious. CPU time, one thread
of BLAS: waiting threads would count. The last row scans a store on disk in a process of
its own, and states the most memory that it held.

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
import scipy.linalg  # noqa: F401  its BLAS must be loaded to be limited
from threadpoolctl import threadpool_limits

import natgeo as ng
from benchmarks import models
from benchmarks.harness import is_quick, replace_in_readme, report
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
        report("scan", **overhead("resnet8", 400 if quick else 10_000)),
        report("scan", **overhead("resnet9", 100 if quick else 4_000)),
        report("scan", **large(2_000 if quick else 50_000, 32 if quick else 512)),
    ]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "scan.jsonl").write_text(lines)
        replace_in_readme("scan", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's sentences."""
    *some, big = rows
    return (
        " ".join(_sentence(row) for row in some) + f" A store "
        f"of {big['N']:,} examples (K = {big['K']}, {size(big['store_bytes'])}) is "
        f"scanned in {big['scan_cpu_s']:.0f} CPU seconds and its order certified in "
        f"{big['certify_cpu_s']:.0f} more; the process holds "
        f"{size(big['peak_bytes'])} at most, {size(big['start_bytes'])} of it before "
        f"it begins."
    )


def _sentence(row: dict[str, Any]) -> str:
    whole = row["scan_share"] + row["inputs_share"]
    return (
        f"With a network of {row['P']:,} parameters for images of {row['images']}, a "
        f"scan of {row['N']:,} adds {100 * whole:.0f} % to the CPU time of their "
        f"features (K = {row['K']}, {1e3 * row['features_cpu_s'] / row['N']:.1f} ms "
        f"each): {100 * row['scan_share']:.0f} % for predictions and scores, "
        f"{100 * row['inputs_share']:.0f} % for the second opinion of the images "
        f"(`readouts=()` leaves it out). The certified order and the evidence for "
        f"{row['queue']} suspects take {100 * row['evidence_share']:.0f} % more."
    )


def overhead(name: str, count: int) -> dict[str, Any]:
    """CPU time of a scan over that of its features, everything compiled."""
    apply, params, x, y = _problem(name, count)
    projector = ng.projectors.CountSketch(dim=min(512, count // 4), seed=0)
    task = ng.tasks.classification(apply, output="loss")

    def features(x: np.ndarray, y: np.ndarray) -> Any:
        return ng.featurize(task, params, (x, y), projector, batch_size=FEATURE_BATCH)

    def scan(x: np.ndarray, y: np.ndarray, readouts: Any = ()) -> ng.LabelScan:
        return ng.scan_labels(
            apply,
            params,
            (x, y),
            projector=projector,
            batch_size=FEATURE_BATCH,
            readouts=readouts,
        )

    few = slice(0, 2 * FEATURE_BATCH)
    with threadpool_limits(1):
        features(x[few], y[few])
        scan(x[few], y[few], None).suspects(4, eps=EPS)
        _, alone = _timed(lambda: features(x, y))
        found, whole = _timed(lambda: scan(x, y))
        _, default = _timed(lambda: scan(x, y, None))
        _, evidence = _timed(lambda: found.suspects(min(QUEUE, count), eps=EPS))
    n, k = found.geometry.train.shape
    return {
        "case": name,
        "images": " x ".join(str(size) for size in x.shape[1:]),
        "P": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "N": n,
        "K": k,
        "features_cpu_s": alone,
        "scan_share": (whole - alone) / alone,
        "inputs_share": (default - whole) / alone,
        "evidence_share": evidence / alone,
        "queue": min(QUEUE, count),
        "certified": found.certify(EPS).fraction,
    }


def _problem(name: str, count: int) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """A model, its parameters, and made-up images with labels."""
    if name != "resnet8":
        return *models.flax_model(name), *models.data(name, count)
    rng = np.random.default_rng(0)
    x = rng.random((count, 28, 28, 1), np.float32)
    model = ResNet8(10)
    params = model.init(jax.random.key(0), jnp.zeros((1, *x.shape[1:])))
    return model.apply, params, x, rng.integers(0, 10, count, dtype=np.int32)


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
