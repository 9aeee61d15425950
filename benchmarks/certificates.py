"""Certificates issued on digits, and how many a process without JAX proves again.

Every claim is a pair at its own certified radius, which leaves the checker no slack but
the rounding that natgeo allowed for. Prints what was issued, and what was proven again:
claims and counterexamples in exact rationals, listed pairs in float64.

Run `python -m benchmarks.certificates`; add `--quick` for random data of toy size, or
`--keep` to replace the stored row and the README's line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import natgeo as ng
from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo import demo
from natgeo.store.writer import DiskWriter

RESULTS = Path(__file__).parent / "results"
EPS, BROKEN, LISTED = 0.01, 3, 4
CHECK = (
    "import sys; sys.modules['jax'] = sys.modules['natgeo.certify'] = None; "
    "from natgeo.cli import main; main()"
)


def main() -> None:
    order = _random_rankings() if is_quick() else _digits_rankings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        claims = _claims(order, 20 if is_quick() else 200)
        broken = [
            (statement, order.refute(**_indices(statement)))
            for statement, _ in claims[:BROKEN]
        ]
        best = np.argsort(-ng.scores(order.geometry, order.targets), axis=1)
        pairs = [ng.certified_pairs(order, t, best[t, :10]) for t in range(LISTED)]
        start = time.process_time()
        ng.write_certificate(
            folder / "cert",
            order,
            claims,
            refutations=[one for one in broken if one[1].flips],
            pairs=np.concatenate(pairs),
        )
        written = time.process_time() - start
        _keep(order.geometry.train, folder / "train")
        _keep(order.targets, folder / "targets")
        found, seconds = _recheck(folder)
    n, k = order.geometry.train.shape
    holds = [claim["holds"] for claim in found["claims"]]
    row = report(
        "certificates",
        N=n,
        K=k,
        issued=len(holds),
        exact_rationals=_proven(found, "exact", "refutation"),
        claims=_proven(found, "exact"),
        counterexamples=_proven(found, "refutation"),
        lists_in_float64=_proven(found, "pairs"),
        listed_pairs=sum(len(part) for part in pairs),
        false=len(holds) - sum(holds),
        status=found["status"],
        written_and_checked_cpu_s=written,
        rechecked_s=seconds,
    )
    if not all(holds):
        raise SystemExit("a certificate was issued that its checker cannot prove")
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "certificates.jsonl").write_text(json.dumps(row) + "\n")
        replace_in_readme("certificates", line(row))


def line(row: dict[str, Any]) -> str:
    """The README's line of a run in which everything was proven again."""
    return (
        f"A certificate on digits (N = {row['N']:,}, K = {row['K']}, ridge 0): "
        f"{row['claims']} claims, each at its own certified radius, and "
        f"{row['counterexamples']} counterexamples, all {row['exact_rationals']} "
        f"re-checked in exact rationals by a process without JAX; and a list of "
        f"{row['listed_pairs']:,} pairs, re-checked in float64 with proven error "
        f"terms: **false = {row['false']}**."
    )


def _proven(found: dict[str, Any], *forms: str) -> int:
    return sum(one["holds"] for one in found["claims"] if one["form"] in forms)


def _claims(order: ng.Rankings, count: int) -> list[tuple[Any, Any]]:
    """Pairs of neighbouring and of distant ranks, each at its own certified radius."""
    best = np.argsort(-ng.scores(order.geometry, order.targets), axis=1)
    m, n = best.shape
    rng, claims = np.random.default_rng(0), []
    while len(claims) < count:
        t, above = int(rng.integers(m)), int(rng.integers(n - 1))
        below = min(n - 1, above + 1 + int(rng.geometric(0.02)))
        pair = {
            "target": t,
            "above": int(best[t, above]),
            "below": int(best[t, below]),
        }
        radius = order.radius(**pair)
        if radius > 0:
            claims.append((order.statement(**pair), ng.threats.Wasserstein2(radius)))
    return claims


def _indices(statement: Any) -> dict[str, int]:
    return {name: statement.about[name] for name in ("target", "above", "below")}


def _recheck(folder: Path) -> tuple[dict[str, Any], float]:
    start = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-c", CHECK, "check", folder / "cert", "--json"),
            *("--features", folder / "train", "--targets", folder / "targets"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout), time.perf_counter() - start


def _keep(store: Any, path: Path) -> None:
    with DiskWriter(path) as writer:
        columns = {name: np.asarray(store.column(name)) for name in store.columns}
        writer.append(np.asarray(store), columns)
        writer.close()


def _random_rankings() -> ng.Rankings:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((60, 8), np.float32)
    targets = ng.MemoryStore(rng.standard_normal((6, 8), np.float32))
    geometry = ng.natural_geometry(train, ridge=0.0)
    return ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(EPS))


def _digits_rankings() -> ng.Rankings:
    data = demo.load_digits(0)
    apply, params = demo.train_model(data, 0)
    margin = ng.tasks.classification(apply)
    projector = ng.projectors.Rademacher(dim=demo.DIM, seed=0)
    train = ng.featurize(margin, params, (data.x, data.y), projector)
    targets = ng.featurize(margin, params, (data.x_test, data.y_test), projector)
    geometry = ng.natural_geometry(train, ridge=0.0)
    return ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(EPS))


if __name__ == "__main__":
    main()
