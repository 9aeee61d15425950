"""Wrong labels in CSV files: `natgeo scan --table` beside cross-validated cleanlab.

Each table is written as a CSV file with wrong labels and scanned by the code of the
verb. Beside it stand plain loss of the same built-in network, at its last checkpoint
and averaged over them, and what people do otherwise: cleanlab's label quality (self
confidence, normalized margin) of 5-fold cross-validated predictions of scikit-learn's
LogisticRegression (on standardised columns), RandomForest and HistGradientBoosting with
their defaults, on the same columns of numbers that the scan makes of the file.

Wrong labels: `uniform` and `class` as in `benchmarks/noise.py`, and `unsure`: where a
15-nearest-neighbour judge, on the right labels of other folds, wavers between the right
class and another, that other one, with a chance that grows as the square of its share.
No detector is a nearest-neighbour model.

Protocol: no detector sees which labels are wrong. How models are combined was chosen on
other tables alone: iris, Glass, Ionosphere, Soybean, Vehicle, spam and digits (at most
1,500 rows, 10 %, seed 0, `unsure` in nearly this form). Those of `REPORTED` were run
after the choice, and once, with 10 % wrong labels on at most 600 random rows.

Run `python -m benchmarks.table_noise`; `--tables FOLDER` says where the R packages are,
`--only PATTERN` keeps the cases in whose name it is found, `--keep` adds cases to the
stored results (those that are there are not run again) and writes the table of the
README, `--quick` runs one small case.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import frames, images, noise, tables
from benchmarks.frames import Frame
from benchmarks.harness import is_quick, replace_in_readme, report, stored
from natgeo.commands import labelling
from natgeo.errors import UnfitEnvironmentError
from natgeo.evaluate import detection
from natgeo.labels.left_out import cross_fit

RESULTS = Path(__file__).parent / "results"
REPORTED = (
    *("wine", "breast_cancer", "BreastCancer", "DNA", "HouseVotes84", "Letter"),
    *("PimaIndians", "Satellite", "Shuttle", "Sonar", "Vowel", "Zoo", "income"),
)
KINDS = ("uniform", "class", "unsure")
RATE, SEED = 0.1, 0  # share of wrong labels; of their draw
MOST, WORST, FOLDS = 600, 10, 5
METHODS = ("self_confidence", "normalized_margin")
MODELS = ("LogisticRegression", "RandomForest", "HistGradientBoosting")


def main() -> None:
    keep = "--keep" in sys.argv
    file = RESULTS / "table_noise.jsonl"
    rows = stored(file) if keep else []
    there = {row["case"] for row in rows}
    for name, kind, rate, seed in _cases():
        case = f"{name}-{kind}-{rate:g}-{seed}"
        if case in there or not re.search(str(images.option("--only", "")), case):
            continue
        try:
            rows.append(row_of(case, name, kind, rate, seed))
        except UnfitEnvironmentError as missing:
            print(f"left out: {case}: {missing}", file=sys.stderr)
            continue
        if keep:
            with file.open("a") as out:
                out.write(json.dumps(rows[-1]) + "\n")
    if keep:
        replace_in_readme("table_noise", table(rows))


def _cases() -> Iterator[tuple[str, str, float, int]]:
    if is_quick():
        yield "iris", "unsure", RATE, SEED
        return
    for name in REPORTED:
        for kind in KINDS:
            yield name, kind, RATE, SEED


def row_of(case: str, name: str, kind: str, rate: float, seed: int) -> dict[str, Any]:
    """Scores of every detector on one table with one draw of wrong labels."""
    library = Path(images.option("--tables", tables.LIBRARY))
    frame = frames.load(name, MOST, library)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        frame.write(file, frame.labels)
        right = _read(file, frame)
        given = flip(kind, right.x, right.y, rate, seed)
        frame.write(file, [right.classes[number] for number in given])
        start = time.process_time()
        found, data = _scanned(file, frame, seed)
        cpu = time.process_time() - start
    wrong = given != right.y
    scores = {"scan": found.scores[found.detector], "mean loss": found.scores["loss"]}
    scores["loss"] = np.asarray(found.geometry.train.column("outputs"))
    scores |= dict(_rivals(data.x, data.y, len(data.classes), seed))
    return report(
        "table_noise",
        case=case,
        data=name,
        kind=kind,
        rate=rate,
        seed=seed,
        rows=len(given),
        columns=data.x.shape[1],
        classes=len(right.classes),
        wrong=int(wrong.sum()),
        opinions=found.choices.get("opinions"),
        scan_cpu_s=round(cpu, 2),
        auroc={k: round(detection.auroc(v, wrong), 5) for k, v in scores.items()},
        worst={k: _worst(v, wrong) for k, v in scores.items()},
    )


def _read(file: Path, frame: Frame) -> labelling.Data:
    source = labelling.Source(None, file, frame.label, (), None, None)
    return labelling.read(source, progress=False)


def _scanned(file: Path, frame: Frame, seed: int) -> tuple[Any, labelling.Data]:
    data = _read(file, frame)
    asked = labelling.Asked(0.01, WORST, None, None, None, None, seed)
    return labelling.scan(data, asked), data


def flip(kind: str, x: np.ndarray, y: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Labels of which round(rate N) are wrong, one at least, [N]."""
    if kind != "unsure":
        return noise.flip(kind, x, y, max(rate, 1 / len(y)), seed)
    chances = _judged(x, y, seed)
    places = np.arange(len(y))
    own = chances[places, y].copy()
    chances[places, y] = -1
    other, share = chances.argmax(axis=1), chances.max(axis=1)
    chance = np.square(share / (own + share))
    rng = np.random.default_rng([seed, 2])
    count = max(round(rate * len(y)), 1)
    wrong = rng.choice(len(y), count, replace=False, p=chance / chance.sum())
    given = y.copy()
    given[wrong] = other[wrong]
    return given


def _judged(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Shares of the classes among 15 neighbours of other folds, never zero, [N, C]."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    columns, classes = StandardScaler().fit_transform(x), int(y.max()) + 1
    judge = KNeighborsClassifier(15, weights="distance")
    found = _predicted(judge, columns, y, classes, seed)
    return 0.95 * found + 0.05 / classes


def _rivals(
    x: np.ndarray, y: np.ndarray, classes: int, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and suspicion of every rival; none without scikit-learn and cleanlab."""
    if importlib.util.find_spec("cleanlab") is None:
        return
    from cleanlab.rank import get_label_quality_scores

    for name, model in _models(seed).items():
        found = _predicted(model, x, y, classes, seed)
        for method in METHODS:
            quality = get_label_quality_scores(y, found, method=method)
            yield f"{name}, {method}", -quality


def _models(seed: int) -> dict[str, Any]:
    from sklearn import ensemble, linear_model, pipeline, preprocessing

    lines = linear_model.LogisticRegression(max_iter=1000)
    found = (
        pipeline.make_pipeline(preprocessing.StandardScaler(), lines),
        ensemble.RandomForestClassifier(random_state=seed),
        ensemble.HistGradientBoostingClassifier(random_state=seed),
    )
    return dict(zip(MODELS, found, strict=True))


def _predicted(
    model: Any, x: np.ndarray, y: np.ndarray, classes: int, seed: int
) -> np.ndarray:
    """Cross-validated probabilities, [N, classes]; zero for classes not seen."""

    def run(kept: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        fitted = model.fit(x[kept], y[kept])
        out = np.zeros((len(held_out), classes))
        out[:, fitted.classes_] = fitted.predict_proba(x[held_out])
        return out

    return cross_fit(run, y, FOLDS, seed)


def _worst(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Share of wrong labels among the ten most suspicious, or as many as are wrong."""
    count = min(WORST, int(wrong.sum()))
    return float(wrong[np.argsort(-scores, kind="stable")[:count]].mean())


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: AUROC, and in brackets the share wrong among the ten worst.

    Means over the cases of a table. Of cleanlab's two methods the better one on average
    over all tables stands for each model.
    """
    columns = ["scan", "mean loss", "loss", *_better_methods(rows)]
    heads = [
        name.replace(", self_confidence", "").replace(", normalized_margin", "")
        for name in columns
    ]
    lines = ["| table | " + " | ".join(heads) + " |", "|---" * (1 + len(columns)) + "|"]
    for name in REPORTED:
        some = [row for row in rows if row["data"] == name]
        if some:
            lines.append(_line(f"{name} ({len(some)})", some, columns))
    for kind in KINDS:
        some = [row for row in rows if row["kind"] == kind]
        if some:
            lines.append(_line(f"all, {kind} ({len(some)})", some, columns))
    lines.append(_line(f"**all** ({len(rows)})", rows, columns))
    return "\n".join(lines)


def _line(name: str, rows: list[dict[str, Any]], columns: list[str]) -> str:
    cells = [
        f"{np.mean([row['auroc'][column] for row in rows]):.3f} "
        f"({np.mean([row['worst'][column] for row in rows]):.0%})"
        for column in columns
    ]
    return "| " + " | ".join([name, *cells]).replace("%", " %") + " |"


def _better_methods(rows: list[dict[str, Any]]) -> list[str]:
    """Each model with that method of cleanlab that has the larger mean AUROC."""
    found = []
    for name in MODELS:
        some = [f"{name}, {method}" for method in METHODS]
        if all(one in row["auroc"] for row in rows for one in some):
            means = [np.mean([row["auroc"][one] for row in rows]) for one in some]
            found.append(some[int(np.argmax(means))])
    return found


if __name__ == "__main__":
    main()
