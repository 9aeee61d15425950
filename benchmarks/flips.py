"""How often certified pairs flip when the training examples are resampled.

Pairs of training digits are drawn at random; their certified radius is set beside how
often they flip in a bootstrap over the training examples. A full bootstrap lies far
outside every certified ball; when only a small share of the weight is resampled, some
draws stay inside, and there no pair may flip.

Run `python -m benchmarks.flips`; `--quick` runs a small case, `--keep` replaces the
stored results and the figure of the README.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import natgeo as ng
from benchmarks.harness import is_quick, report
from natgeo import demo, evaluate
from natgeo.evaluate.stability import Comparison, Stability
from natgeo.report.flips import flips_figure

RESULTS = Path(__file__).parent / "results"
DIM, TARGETS, PAIRS, DRAWS, SEED = 256, 100, 1000, 100, 0
SHARES = (0.03, 0.1, 1.0)  # the last one is drawn


def main() -> None:
    rows, comparison = study()
    if "--keep" not in sys.argv:
        return
    RESULTS.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (RESULTS / "flips.jsonl").write_text(lines)
    picture = flips_figure(comparison)
    (RESULTS / "flips.svg").write_bytes(base64.b64decode(picture.partition(",")[2]))


def study() -> tuple[list[dict[str, Any]], Comparison]:
    """A row for each resampled share of the weight, and the last comparison."""
    geometry, targets = _digits(32 if is_quick() else DIM)
    rankings = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(demo.EPS))
    rows = []
    for share in SHARES:
        stability = evaluate.resample_examples(
            geometry, targets, draws=DRAWS, share=share, seed=SEED
        )
        found = evaluate.against_certificates(
            stability, rankings.radius, pairs=100 if is_quick() else PAIRS, seed=SEED
        )
        rows.append(_row(share, stability, found))
    return rows, found


def _digits(width: int) -> tuple[Any, Any]:
    """The geometry and the targets of the demo's perceptron, ridge 0."""
    data = demo.load_digits(SEED)
    apply, params = demo.train_model(data, SEED)
    task, sketch = ng.tasks.classification(apply), ng.projectors.CountSketch(width)
    train, targets = (
        ng.featurize(task, params, part, sketch, batch_size=50)
        for part in (
            (data.x, data.y),
            (data.x_test[:TARGETS], data.y_test[:TARGETS]),
        )
    )
    return ng.natural_geometry(train, ridge=0.0), targets


def _row(share: float, stability: Stability, found: Comparison) -> dict[str, Any]:
    # Pairs and resamples of which the certificate says that nothing flips.
    inside = found.radius[None, :] > found.distances[:, None]
    t, above, below = found.pairs.T
    flipped = stability.draws[:, t, above] <= stability.draws[:, t, below]
    return report(
        "flips",
        share=share,
        pairs=len(found.pairs),
        draws=len(found.distances),
        seed=stability.seed,
        radius_median=float(np.median(found.radius)),
        radius_largest=float(found.radius.max()),
        needed=[stability.needed(level) for level in (0.05, 0.5, 0.95)],
        flips_mean=float(found.flips.mean()),
        spearman=_rank_correlation(found),
        inside=int(inside.sum()),
        flipped_inside=int((inside & flipped).sum()),
    )


def _rank_correlation(found: Comparison) -> float | None:
    """Spearman's, of radius and flips; None where no pair flips."""
    if not np.ptp(found.flips):
        return None
    return float(spearmanr(found.radius, found.flips).statistic)


if __name__ == "__main__":
    main()
