"""The headline figures of arXiv 2512.09103, on models that two CPU cores can train.

    certified       share of all pairs over the radius; the paper: 68.7 %, Euclidean 0 %
    amplification   L_euc / L_nat and cond(Q); the paper: more than 10,000x, and 76x
    noise           a tenth of the labels flipped; the paper: AUROC .970, recall 94.1 %
    stability       self-influence against how stable an example's scores are

The setting of `benchmarks.images`: Fashion-MNIST and CIFAR-10, 10,000 training images,
a small residual network with GroupNorm, K = 512, 100 held-out images. The paper has
ResNet-18 on CIFAR-10: `--resnet18` trains that on all 50,000 images, for a GPU. The
full run takes about a quarter of an hour of CPU time.

Run `python -m benchmarks.paper`; `--figure NAME` makes one of the four, `--fashion
FOLDER` and `--cifar FILE` say where the data are, `--quick` runs on made-up images,
`--keep` puts the results into `results/paper.jsonl` and draws `results/paper.md` from
it, `--page` only draws.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

import natgeo as ng
from benchmarks import datasets, images, noise, paper_page, resnet18
from benchmarks.datasets import Images
from benchmarks.harness import is_quick, report, stored
from natgeo.certify import sensitivity
from natgeo.certify.rankings import Rankings
from natgeo.report import sections
from natgeo.types import Store

RESULTS = images.RESULTS
PUBLISHED = 0.687  # certified share of pairs in the abstract; its eps is not given
EPS = 0.01
RADII = (1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 7e-5, *sections.RADII)  # of the drawn curves
WIDE = np.geomspace(1e-8, 1, 17)  # where first-order crossings are looked for
FLIPPED_SHARE, NOISE_SEED = 0.1, 0
PAIRS, SAMPLE_SEED = 200_000, 0  # random pairs of the certified shares
RANKED, RESAMPLES = 5, 20  # targets and resamples of the stability figure


@dataclass(frozen=True, eq=False)
class Run:
    """One data set and one kind of model; what several figures need is made once."""

    data: Images
    model: str
    train_model: Callable[..., tuple[Callable, Any]]
    width: int
    epochs: int
    dim: int

    @cached_property
    def fitted(self) -> tuple[Callable, Any]:
        """`(apply, params)` of the network trained on the given labels."""
        return self._trained(self.data)

    @cached_property
    def about(self) -> dict[str, Any]:
        """Which model and data the rows are about."""
        return self._about(self.data, *self.fitted)

    @cached_property
    def features(self) -> tuple[Store, Store]:
        """Margin features of the training set and of the targets."""
        return images.margin_features(self.data, *self.fitted, self.dim)

    @cached_property
    def rankings(self) -> Rankings:
        """Certificates at ridge 0, where they are exact."""
        train, targets = self.features
        return ng.certify_rankings(
            ng.natural_geometry(train, ridge=0.0),
            targets,
            ng.threats.Wasserstein2(EPS),
        )

    @cached_property
    def natural(self) -> sensitivity.Sensitivity:
        """The first-order natural bound of every score."""
        return sensitivity.natural(self.rankings.geometry, self.rankings.targets)

    @cached_property
    def natural_crossing(self) -> float:
        """The radius where the natural bound separates 68.7 % of the pairs."""
        return _crossing(_mean(self.natural), WIDE)

    @cached_property
    def euclidean(self) -> sensitivity.Sensitivity:
        """The first-order Euclidean bound, its slopes in matched units."""
        found = sensitivity.euclidean(self.rankings.geometry, self.rankings.targets)
        return replace(found, slopes=found.slopes * self.matched)

    @cached_property
    def matched(self) -> float:
        """Euclidean units per natural unit (`sensitivity.matched_radius`)."""
        return sensitivity.matched_radius(self.rankings.geometry)

    @cached_property
    def noisy(self) -> tuple[np.ndarray, dict[str, Any], ng.LabelScan]:
        """Which labels are wrong, the model trained on them, and its scan."""
        right = self.data.y
        given = noise.flip("uniform", self.data.x, right, FLIPPED_SHARE, NOISE_SEED)
        data = replace(self.data, y=given)
        apply, params = self._trained(data)
        projector = ng.projectors.CountSketch(dim=self.dim, seed=0)
        scan = ng.scan_labels(apply, params, (data.x, given), projector=projector)
        return given != right, self._about(data, apply, params), scan

    def _trained(self, data: Images) -> tuple[Callable, Any]:
        return self.train_model(data, width=self.width, epochs=self.epochs, seed=0)

    def _about(self, data: Images, apply: Callable, params: Any) -> dict[str, Any]:
        sizes = {"N": len(data.y), "K": self.dim, "epochs": self.epochs}
        about = images.about_model(data, apply, params)
        return {"model": self.model, **about, **sizes}


def main() -> None:
    if "--page" in sys.argv:
        _draw()
        return
    chosen = images.option("--figure", None)
    if chosen is not None and chosen not in FIGURES:
        raise SystemExit(f"--figure {chosen}: expected {', '.join(FIGURES)}.")
    names = list(FIGURES) if chosen is None else [chosen]
    rows = [FIGURES[name](run) for run in _runs() for name in names]
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        _store(rows)
        _draw()


def certified(run: Run) -> dict[str, Any]:
    """The curve of certified pairs, and where it and the others pass the 68.7 %."""
    curve = sections.curve_section(run.rankings, RADII, sample=(PAIRS, SAMPLE_SEED))
    exact = _crossing(_sampled(run.rankings), curve["radii"])
    natural = run.natural_crossing
    euclidean = _crossing(_mean(run.euclidean), WIDE)
    shares = {
        "certified": _sampled(run.rankings),
        "natural": _mean(run.natural),
        "euclidean": _mean(run.euclidean),
    }
    return _row(
        "certified",
        run.about,
        {key: curve[key] for key in ("radii", *images.NAMES, "targets", "pairs")},
        level=PUBLISHED,
        sample={"pairs": PAIRS, "seed": SAMPLE_SEED},
        crossing={"certified": exact, "natural": natural, "euclidean": euclidean},
        at_certified={name: float(f([exact])[0]) for name, f in shares.items()},
        at_natural={name: float(f([natural])[0]) for name, f in shares.items()},
        effective_dimension=run.rankings.geometry.effective_dimension,
    )


def amplification(run: Run) -> dict[str, Any]:
    """Every way of reading "inflates Lipschitz bounds" that we can think of.

    `slopes` is L_euc / L_nat of each score at matched radii, `raw` the same at equal
    numbers, `norms` the bound without the geometry of single examples,
    2 norm(phi_t) norm(phi_i) max norm(phi) / lambda_min^2, over L_nat at matched radii.
    `worst` divides the largest L_euc of all scores by the largest L_nat.
    """
    train, targets = (np.asarray(store, np.float64) for store in run.features)
    geometry = run.rankings.geometry
    phi = np.linalg.norm(train, axis=1)
    least = float(geometry.spectrum[0])
    coarse = 2 * np.outer(np.linalg.norm(targets, axis=1), phi * abs(geometry.weights))
    coarse *= phi.max() / least**2 * run.matched
    slopes, worst = run.natural.slopes, run.euclidean.slopes.max()
    ratio = run.euclidean.slopes / slopes
    shrunk = ng.natural_geometry(run.features[0])
    return _row(
        "amplification",
        run.about,
        condition=geometry.condition,
        ridge=shrunk.ridge,
        condition_with_ridge=shrunk.condition,
        matched=run.matched,
        slopes=_median_and_max(ratio),
        raw=_median_and_max(ratio / run.matched),
        norms=_median_and_max(coarse / slopes),
        worst=float(worst / slopes.max()),
        worst_raw=float(worst / run.matched / slopes.max()),
        ball=float(run.matched / np.sqrt(least)),
    )


def wrong_labels(run: Run) -> dict[str, Any]:
    """How well the flipped labels are found, with plain loss beside self-influence."""
    wrong, about, scan = run.noisy
    return _row(
        "noise",
        about,
        flipped=int(wrong.sum()),
        seed=NOISE_SEED,
        default=scan.detector,
        detectors=scan.detection(wrong),
    )


def stability(run: Run) -> dict[str, Any]:
    """Rank correlations of self-influence with the stability of an example's scores.

    The paper's bound of a score's slope is 2 norm(w_t) max norm(w) times
    |r_i| sqrt(SI_i), so both SI_i and that product are compared. Stability is measured
    in four ways, each a mean over the same targets: the share of the example's pairs
    that is certified, the share that the first-order intervals separate where they
    separate 68.7 % of all pairs, and the spread of its score and of its rank over
    bootstrap resamples of the training set.
    """
    geometry, ranked = run.rankings.geometry, range(min(RANKED, len(run.features[1])))
    influence = ng.self_influence(geometry)
    radius = run.natural_crossing
    scores, ranks = _resampled(run.rankings, list(ranked))
    n = len(influence)
    settled = [n - 1 - np.diff(run.rankings.ranks(t), axis=1)[:, 0] for t in ranked]
    found = {
        "certified_share": np.mean(settled, axis=0),
        "separated_share": _separated(run.natural, radius, list(ranked)),
        "score_spread": scores,
        "rank_spread": ranks,
    }
    predictors = {
        "self_influence": influence,
        "weighted": np.abs(geometry.weights) * np.sqrt(influence),
    }
    return _row(
        "stability",
        run.about,
        eps=EPS,
        first_order_radius=radius,
        targets=len(ranked),
        resamples=RESAMPLES,
        spearman={
            name: {
                key: float(scipy.stats.spearmanr(values, measured).statistic)
                for key, measured in found.items()
            }
            for name, values in predictors.items()
        },
    )


FIGURES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "certified": certified,
    "amplification": amplification,
    "noise": wrong_labels,
    "stability": stability,
}


def _runs() -> Iterator[Run]:
    dim = 32 if is_quick() else images.DIM
    if "--resnet18" not in sys.argv:
        for data in images.data_sets(needed="--keep" in sys.argv):
            width, epochs = images.SETTINGS[data.name]
            yield Run(data, "ResNet-8", images.train_model, width, epochs, dim)
        return
    if is_quick():
        data, width, epochs = datasets.synthetic(200, 40), 4, 4
    else:
        data = datasets.cifar10(Path(images.option("--cifar", datasets.CIFAR)))
        width, epochs, dim = resnet18.WIDTH, resnet18.EPOCHS, resnet18.DIM
    yield Run(data, "ResNet-18", resnet18.train_model, width, epochs, dim)


def _row(figure: str, *parts: dict[str, Any], **values: Any) -> dict[str, Any]:
    together = {key: value for part in parts for key, value in part.items()}
    return report("paper", figure=figure, **together, **values)


def _store(rows: list[dict[str, Any]]) -> None:
    """Replaces the stored rows of the same figure, data set and model."""

    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["figure"], row["data"], row["model"]

    file = RESULTS / "paper.jsonl"
    known = {key(row): row for row in stored(file)}
    known |= {key(row): row for row in rows}
    file.write_text("".join(json.dumps(row) + "\n" for row in known.values()))


def _draw() -> None:
    rows = stored(RESULTS / "paper.jsonl")
    (RESULTS / "paper.md").write_text(paper_page.page(rows))
    (RESULTS / "paper.svg").write_bytes(paper_page.figure(rows))


def _sampled(rankings: Rankings) -> Callable[[Any], np.ndarray]:
    def share(radii: Any) -> np.ndarray:
        found = rankings.estimate(PAIRS, seed=SAMPLE_SEED, radii=radii)
        return found.fraction.mean(axis=0)

    return share


def _mean(bound: sensitivity.Sensitivity) -> Callable[[Any], np.ndarray]:
    return lambda radii: bound.separated(radii).mean(axis=0)


def _crossing(share: Callable[[Any], np.ndarray], radii: Any) -> float:
    """The radius at which a falling share of pairs passes 68.7 %; NaN outside `radii`.

    Looked for twice on a finer grid between the two radii on either side, then between
    the two nearest of those by a straight line over the logarithm of the radius.
    """
    grid = np.asarray(radii)
    for _ in range(3):
        found = share(grid)
        below = int(np.argmax(found < PUBLISHED))
        if below == 0:
            return float("nan")
        (low, high), (above, under) = (x[below - 1 : below + 1] for x in (grid, found))
        grid = np.geomspace(low, high, 5)
    return float(low * (high / low) ** ((above - PUBLISHED) / (above - under)))


def _separated(
    bound: sensitivity.Sensitivity, eps: float, targets: list[int]
) -> np.ndarray:
    """Number of each example's pairs with disjoint intervals, mean over targets."""
    out = []
    for score, slope in zip(bound.scores[targets], bound.slopes[targets], strict=True):
        starts, ends = score - eps * slope, score + eps * slope
        above = len(starts) - np.searchsorted(np.sort(starts), ends, side="right")
        out.append(above + np.searchsorted(np.sort(ends), starts, side="left"))
    return np.mean(out, axis=0)


def _resampled(rankings: Rankings, targets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Spread of each example's score and of its rank over bootstrap resamples, [N]."""
    geometry, rng = rankings.geometry, np.random.default_rng(0)
    w, n = geometry.natural, geometry.train.shape[0]
    u = geometry.whiten(np.asarray(rankings.targets.rows(np.array(targets))))
    scores = []
    for _ in range(RESAMPLES):
        copies = np.bincount(rng.integers(0, n, n), minlength=n)
        covariance = (w * copies[:, None]).T @ w / n
        scores.append(np.linalg.solve(covariance, u.T).T @ w.T * geometry.weights)
    ranks = [scipy.stats.rankdata(part, axis=1) for part in scores]
    return tuple(np.std(part, axis=0).mean(axis=0) for part in (scores, ranks))


def _median_and_max(values: np.ndarray) -> dict[str, float]:
    values = values[np.isfinite(values)]
    return {"median": float(np.median(values)), "max": float(values.max())}


if __name__ == "__main__":
    main()
