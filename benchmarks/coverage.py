"""Coverage of first-order influence intervals: random retraining against an attack.

Convex models are really retrained on changed training data: on random perturbations at
the full radius, on bootstrap resamples, on other halves of the data, and on worst-case
perturbations inside the ball. A first-order interval is covered if the retrained
influence of a fixed example on a fixed target lies inside. Every attacked value must
lie in the proven interval of the same radius, or the run stops.

Run `python -m benchmarks.coverage`; `--tables FOLDER` says where the R packages are,
`--quick` runs two small cases, and `--keep` replaces the stored results, the figure and
the table of the README.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks import tables
from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo import convex
from natgeo.convex.attack import Influence, cost, moved
from natgeo.convex.sensitivity import moments
from natgeo.display import percent, short
from natgeo.errors import UnfitEnvironmentError

RESULTS = Path(__file__).parent / "results"
RADII = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SHOWN = (0.01, 0.1)
TARGETS, MOST_ROWS, DRAWS = 20, 1500, 10
# Pairs of a target and an example that are attacked; several classes cost more.
PAIRS = {"squared": 12, "logistic": 12, "multinomial": 4}
# Data, loss and ridge.
CASES = (
    ("diabetes", "squared", 0.01),
    ("breast_cancer", "squared", 0.01),
    ("breast_cancer", "logistic", 0.01),
    ("breast_cancer", "logistic", 1.0),
    ("spam", "squared", 0.01),
    ("spam", "logistic", 0.01),
    ("spam", "logistic", 1.0),
    ("Satellite", "squared", 0.01),
    ("Satellite", "multinomial", 0.01),
    ("DNA", "squared", 0.01),
    ("DNA", "multinomial", 0.01),
)
CURVES = (
    ("random", "random perturbations at the full radius", "#b4b8bd", "-"),
    ("bootstrap", "bootstrap resamples", "#a04a86", (0, (6, 2, 1.2, 2))),
    ("other_half", "other halves of the data", "#00795a", (0, (5, 2))),
    ("attacked", "worst-case retraining, same radius", "#c04f00", "-"),
    ("proven", "worst-case retraining, proven interval or vacuous", "#0063a6", "-"),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A model on one part of a table, the rows left over, and what is explained."""

    data: str
    model: convex.ConvexModel
    other: tuple[np.ndarray, np.ndarray]
    influences: tuple[Influence, ...]
    examples: tuple[int, ...]


def main() -> None:
    rows: list[dict[str, Any]] = []
    for case in _cases(needed="--keep" in sys.argv):
        rows += _rows(case, 2 if is_quick() else DRAWS)
    if "--keep" in sys.argv:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "coverage.jsonl").write_text(lines)
        (RESULTS / "coverage.svg").write_bytes(figure(rows))
        replace_in_readme("coverage", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's tables: coverages, rounded down, and widths."""
    head = ["data, loss, ridge", "eps", "random", "bootstrap", "other half"]
    head += ["attacked", "attack / first order (median, max)"]
    lines = [_line(head), "|---" * len(head) + "|"]
    for row in rows:
        if row["eps"] in SHOWN:
            shares = [percent(row[name]) for name, *_ in CURVES[:4]]
            excess = f"{row['excess_median']:.2f}x, {row['excess_max']:.2f}x"
            lines.append(_line([_name(row), f"{row['eps']:g}", *shares, excess]))
    radii = sorted({row["eps"] for row in rows})
    head = ["proven / attacked width, median", *(f"{eps:g}" for eps in radii)]
    lines += ["", _line(head), "|---" * len(head) + "|"]
    for name in dict.fromkeys(_name(row) for row in rows):
        mine = {row["eps"]: row for row in rows if _name(row) == name}
        lines.append(_line([name, *(_width(mine[eps]) for eps in radii)]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(row: dict[str, Any]) -> str:
    return f"{row['data']}, {row['loss']}, {row['ridge']:g}"


def figure(rows: list[dict[str, Any]]) -> bytes:
    """Coverage over eps, the mean over all cases: an SVG."""
    radii = sorted({row["eps"] for row in rows})
    style = {"svg.hashsalt": "natgeo", "svg.fonttype": "none", "font.size": 9.0}
    with matplotlib.rc_context(style):
        drawn = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = drawn.add_subplot()
        for name, words, colour, line in CURVES:
            means = [
                100 * np.mean([row[name] for row in rows if row["eps"] == eps])
                for eps in radii
            ]
            # The two at 100 % lie on each other: one wide, one narrow.
            width = 5.0 if name == "random" else 1.4
            axes.plot(radii, means, color=colour, linestyle=line, lw=width, label=words)
        axes.set_xscale("log")
        axes.set_ylim(-3, 103)
        axes.set_xlabel("eps, order-2 natural radius")
        axes.set_ylabel("retrained influences inside, %")
        axes.legend(
            fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 0.95)
        )
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        out = io.BytesIO()
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _width(row: dict[str, Any]) -> str:
    if row["width_median"] is None:
        return "vacuous"
    some = f" ({percent(row['vacuous'])} vacuous)" if row["vacuous"] else ""
    return f"{short(row['width_median'])}x{some}"


def _cases(*, needed: bool) -> Iterator[Case]:
    chosen = CASES[1:3] if is_quick() else CASES
    folder = Path(_option("--tables", tables.LIBRARY))
    for name, loss, ridge in chosen:
        try:
            data = tables.load(name, folder)
        except UnfitEnvironmentError as missing:
            if needed:
                raise SystemExit(str(missing)) from None
            print(f"left out: {missing}", file=sys.stderr)
            continue
        yield _case(data, loss, ridge)


def _option(name: str, default: Any) -> Any:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def _case(data: tables.Table, loss: str, ridge: float) -> Case:
    """One half of the rows is trained on, the other half is there to be resampled."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.y))
    held, rest = order[:TARGETS], order[TARGETS:]
    size = min(len(rest) // 2, MOST_ROWS)
    y = data.y
    if loss == "squared" and data.classes:
        y = np.where(data.y == 0, 1.0, -1.0)  # the first class against the rest
    elif loss == "squared":
        y = (data.y - data.y.mean()) / data.y.std()
    used = data.x[rest[:size]].std(axis=0) > 0
    x = data.x[:, used]
    model = convex.fit(x[rest[:size]], y[rest[:size]], loss=loss, ridge=ridge)
    targets = convex.targets(model, x[held], y[held])
    count = 2 if is_quick() else PAIRS[loss]
    # Half of the examples are the most influential ones of their target.
    influence = np.abs(convex.influence(model, targets))
    examples = [
        int(np.argmax(influence[t])) if t % 2 else int(rng.integers(size))
        for t in range(count)
    ]
    return Case(
        data.name,
        model,
        (model.rows(x[rest[size:]]), model.codes(y[rest[size:]])),
        tuple(
            Influence(
                targets.take(t),
                convex.training_targets(model, [i]),
            )
            for t, i in enumerate(examples)
        ),
        tuple(examples),
    )


def _rows(case: Case, draws: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    model = case.model
    before = np.array([one.of(model) for one in case.influences])
    slopes = np.array([_slope(one, model) for one in case.influences])
    bootstrap = _bootstrap(case, draws, rng)
    other = _other_halves(case, draws, rng)
    rows = []
    for eps in (0.003, 0.1) if is_quick() else RADII:
        half = eps * slopes
        random = _random(case, eps, draws, rng)
        inside = {
            name: float((np.abs(values - before) <= half).mean())
            for name, values in (
                ("random", random),
                ("bootstrap", bootstrap),
                ("other_half", other),
            )
        }
        rows.append(
            report(
                "coverage",
                data=case.data,
                loss=model.loss.name,
                N=len(model.design),
                p=model.design.shape[1],
                ridge=float(model.penalty[0]),
                eps=eps,
                pairs=len(before),
                draws=draws,
                **inside,
                **_attacked(case, eps, before, half),
            )
        )
    return rows


def _attacked(
    case: Case, eps: float, before: np.ndarray, half: np.ndarray
) -> dict[str, Any]:
    """What worst-case retraining reaches, against both kinds of interval."""
    low, high = np.empty((2, len(before)))
    proven = []
    for place, (one, train) in enumerate(
        zip(case.influences, case.examples, strict=True)
    ):
        found = convex.proven_interval(one.target, train, eps)
        proven.append((float(found.low[0]), float(found.high[0])))
        for ends, upward in ((low, False), (high, True)):
            end = convex.attack(
                one.target, train, eps, upward=upward, starts=1, steps=8
            )
            ends[place] = end.value
            if not (end.cost <= eps and found.low[0] <= end.value <= found.high[0]):
                raise SystemExit(
                    f"an attack left a proven interval: {case.data}, eps={eps}"
                )
    excess = np.maximum(high - before, before - low) / half
    bounds = np.array(proven)
    known = np.isfinite(bounds).all(axis=1)
    ratio = (bounds[known, 1] - bounds[known, 0]) / (high - low)[known]
    return {
        "attacked": float((excess <= 1).mean()),
        "proven": 1.0,
        "excess_median": float(np.median(excess)),
        "excess_max": float(excess.max()),
        "vacuous": float((~known).mean()),
        "width_median": float(np.median(ratio)) if known.any() else None,
        "width_max": float(ratio.max()) if known.any() else None,
    }


def _slope(one: Influence, model: convex.ConvexModel) -> float:
    """The first-order half-width of order 2 at radius 1, natural metric."""
    field, metric = one.slopes(model), moments(model, model.classes is None)
    return float(np.sqrt(model.weights @ np.einsum("nj,nj->n", field @ metric, field)))


def _random(case: Case, eps: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Influences after retraining on Gaussian moves of cost eps, [draws, pairs]."""
    model = case.model
    metric = moments(model, model.classes is None)
    root = np.linalg.cholesky(metric)
    values = []
    for _ in range(draws):
        moves = rng.standard_normal((len(model.design), len(metric))) @ root.T
        moves *= eps / cost(model, metric, moves)
        design, labels = moved(model, moves)
        values.append(_values(case, model.refit(design=design, labels=labels)))
    return np.array(values)


def _bootstrap(case: Case, draws: int, rng: np.random.Generator) -> np.ndarray:
    size = len(case.model.design)
    return np.array(
        [
            _values(
                case,
                case.model.refit(
                    weights=rng.multinomial(size, np.full(size, 1 / size)) / size
                ),
            )
            for _ in range(draws)
        ]
    )


def _other_halves(case: Case, draws: int, rng: np.random.Generator) -> np.ndarray:
    design, labels = case.other
    size = min(len(case.model.design), len(design))
    values = []
    for _ in range(draws):
        rows = rng.choice(len(design), size, replace=size == len(design))
        weights = np.full(size, 1 / size)
        model = case.model.refit(
            design=design[rows], labels=labels[rows], weights=weights
        )
        values.append(_values(case, model))
    return np.array(values)


def _values(case: Case, model: convex.ConvexModel) -> np.ndarray:
    return np.array([one.of(model) for one in case.influences])


if __name__ == "__main__":
    main()
