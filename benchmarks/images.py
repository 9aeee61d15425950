"""How many pairs of training images are certified: Fashion-MNIST and CIFAR-10.

A small residual network with a patch stem and GroupNorm is trained on 10,000 images.
Its margin gradients in all parameters are sketched to K = 512, and the order of all
49,995,000 pairs of training images is certified for its predictions on 100 held-out
images, with ridge 0 and with the default ridge, beside the first-order bounds.

Run `python -m benchmarks.images`; `--fashion FOLDER` and `--cifar FILE` say where the
data are, `--quick` runs it on a few made-up images, `--keep` replaces the stored
results, the figure and the table of the README.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import natgeo as ng
from benchmarks import datasets
from benchmarks.datasets import CLASSES, Images
from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo import demo
from natgeo.display import percent, short
from natgeo.errors import UnfitEnvironmentError
from natgeo.labels.builtin import ResNet8
from natgeo.report import curve_figures, sections
from natgeo.types import Store

RESULTS = Path(__file__).parent / "results"
RADII = (0.001, 0.01, 0.03, 0.1)
NAMES = ("certified", "sensitivity_natural", "sensitivity_euclidean")
TRAIN, TARGETS, TEST, DIM, BATCH = 10_000, 100, 10_000, 512, 100
# Width of the network and epochs; CIFAR-10 is harder.
SETTINGS = {"Fashion-MNIST": (16, 6), "CIFAR-10": (32, 12), "made up": (4, 20)}


def main() -> None:
    keep, rows = "--keep" in sys.argv, []
    for data in data_sets(needed=keep):
        rows += _rows(data, 32 if is_quick() else DIM)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "images.jsonl").write_text(lines)
        _keep_figure(rows)
        replace_in_readme("images", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: each share rounded down."""
    eps = " | ".join(f"certified at {radius:g}" for radius in RADII)
    lines = [
        f"| images, ridge | test accuracy | cond(Q) | {eps} | first-order natural, "
        f"{RADII[1]:g} | first-order Euclidean, {RADII[1]:g} | L_euc / L_nat |",
        "|---" * (6 + len(RADII)) + "|",
    ]
    for row in rows:
        places = [row["radii"].index(radius) for radius in RADII]
        ridge = "0" if row["ridge"] == 0 else f"{row['ridge']:.1e} (default)"
        cells = [
            f"{row['data']}{f' ({note})' if (note := row['note']) else ''}, {ridge}",
            percent(row["accuracy"]),
            short(row["condition"]),
            *(percent(row["certified"][place]) for place in places),
            *(percent(row[name][places[1]]) for name in NAMES[1:]),
            f"{row['amplification_median']:,.1f}x",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def data_sets(*, needed: bool) -> Iterator[Images]:
    """The data sets that are there; a missing one is named, and refused if needed."""
    if is_quick():
        yield datasets.synthetic(200, 40)
        return
    fashion = Path(option("--fashion", datasets.FASHION))
    cifar = Path(option("--cifar", datasets.CIFAR))
    for load in (
        lambda: datasets.fashion_mnist(fashion).head(TRAIN, TEST),
        lambda: datasets.cifar10(cifar, train=TRAIN, test=TEST),
    ):
        try:
            yield load()
        except UnfitEnvironmentError as missing:
            if needed:
                raise SystemExit(str(missing)) from None
            print(f"left out: {missing}", file=sys.stderr)


def option(name: str, default: Any) -> Any:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def _rows(data: Images, dim: int) -> list[dict[str, Any]]:
    """One row for ridge 0 and one for the default ridge."""
    width, epochs = SETTINGS[data.name]
    apply, params = train_model(data, width=width, epochs=epochs, seed=0)
    about = {"epochs": epochs, **about_model(data, apply, params)}
    train, targets = margin_features(data, apply, params, dim)
    return [_row(about, train, targets, ridge) for ridge in (0.0, None)]


def about_model(data: Images, apply: Callable, params: Any) -> dict[str, Any]:
    """Which data and which model a row is about."""
    predicted = predict(apply, params, data.x_test)
    return {
        "data": data.name,
        "note": data.note,
        "P": sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params)),
        "accuracy": float((predicted == data.y_test).mean()),
    }


def margin_features(
    data: Images, apply: Callable, params: Any, dim: int
) -> tuple[Store, Store]:
    """Features of the training set and of the first `TARGETS` held-out images."""
    margin = ng.tasks.classification(apply)
    projector = ng.projectors.CountSketch(dim=dim, seed=0)
    train = ng.featurize(margin, params, (data.x, data.y), projector)
    # What is explained is the model's own answer, right or wrong.
    shown = data.x_test[:TARGETS]
    explained = (shown, predict(apply, params, shown))
    return train, ng.featurize(margin, params, explained, projector)


def _row(about: dict, train: Any, targets: Any, ridge: float | None) -> dict[str, Any]:
    geometry = ng.natural_geometry(train, ridge)
    rankings = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(0.01))
    sizes = sections.geometry_section(rankings)
    curve = sections.curve_section(rankings)
    if (np.array(curve["certified"]) < np.array(curve["sensitivity_natural"])).any():
        raise SystemExit("the first-order bound has more pairs than the certificate")
    keys = ("N", "M", "K", "ridge", "condition", "effective_dimension", "eta")
    same = ("radii", *NAMES, "matched", "amplification_median", "amplification_max")
    return report(
        "images",
        **about,
        **{key: sizes[key] for key in keys},
        **{key: curve[key] for key in same},
    )


def _keep_figure(rows: list[dict[str, Any]]) -> None:
    """Digits beside the image sets, all with ridge 0."""
    from natgeo import demo

    curves = {"digits": demo.run(0)["curve"]}
    for row in rows:
        if row["ridge"] == 0:
            short_note = row["note"].partition(",")[0]
            curves[row["data"] + (f" ({short_note})" if short_note else "")] = row
    picture = curve_figures.compared_curves(curves)
    (RESULTS / "images.svg").write_bytes(base64.b64decode(picture.partition(",")[2]))


def train_model(
    data: Images, *, width: int, epochs: int, seed: int
) -> tuple[Callable, Any]:
    """Trains the network with Adam on a cosine schedule; returns `(apply, params)`."""
    model = ResNet8(CLASSES, width)
    params = model.init(jax.random.key(seed), jnp.zeros((1, *data.x.shape[1:])))
    steps = len(data.y) // BATCH * epochs
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    rows = shuffled(len(data.y), BATCH, epochs, seed)
    return model.apply, demo.fit(model.apply, params, data.x, data.y, rows, optimizer)


def shuffled(count: int, batch: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Indices of each batch, a new order every epoch; what is left over waits."""
    rng, whole = np.random.default_rng(seed), count // batch * batch
    return [
        rows
        for _ in range(epochs)
        for rows in rng.permutation(count)[:whole].reshape(-1, batch)
    ]


def predict(apply: Callable, params: Any, x: np.ndarray) -> np.ndarray:
    """Predicted classes, [N] int32."""
    run = jax.jit(apply)
    parts = [run(params, x[start : start + 500]) for start in range(0, len(x), 500)]
    return np.argmax(np.concatenate(parts), axis=1).astype(np.int32)


if __name__ == "__main__":
    main()
