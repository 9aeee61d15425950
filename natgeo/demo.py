"""The main job on real data: handwritten digits, a small Flax model, flipped labels.

Trains a classifier on scikit-learn's digits with a tenth of the training labels wrong,
certifies which training digits made it predict what it predicts, and scans for the
wrong labels. Everything is seeded; the same machine gives the same page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natgeo.certify import distances
from natgeo.certify.rankings import Rankings, certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.display import percent
from natgeo.errors import UnfitEnvironmentError
from natgeo.features import projectors, tasks
from natgeo.features.featurize import featurize
from natgeo.geometry import kernels
from natgeo.geometry.natural import natural_geometry
from natgeo.geometry.scores import scores
from natgeo.labels.decisions import fingerprint
from natgeo.labels.scan import scan_labels
from natgeo.report import review, sections
from natgeo.report.document import write_document
from natgeo.report.page import write_report
from natgeo.report.thumbnails import png_data_uri

TRAIN, CLASSES, FLIPPED_SHARE = 1500, 10, 0.1
DIM, EPS, EPOCHS, BATCH = 256, 0.01, 20, 50
SHOWN_TARGETS, SHOWN_SUSPECTS, QUEUED = 4, 24, 150


@dataclass(frozen=True, eq=False)
class Digits:
    """Images in [0, 1], [N, 64] float32, and labels; a known part of them is wrong."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    flipped: np.ndarray


class Perceptron(nn.Module):
    """A multi-layer perceptron with two hidden layers: 17,226 parameters on digits."""

    @nn.compact
    def __call__(self, x):
        """Logits [B, 10] of flattened images [B, 64]."""
        for width in (128, 64):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(CLASSES)(x)


def load_digits(seed: int) -> Digits:
    """scikit-learn's 1,797 digits, shuffled; a tenth of the train labels is flipped.

    Raises:
        UnfitEnvironmentError: if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError:
        raise UnfitEnvironmentError(
            "The demo needs the digits of scikit-learn. Install natgeo[demo]."
        ) from None
    bunch = load()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(bunch.target))
    x = np.asarray(bunch.data[order] / 16, np.float32)
    y = np.asarray(bunch.target[order], np.int32)
    flipped = np.zeros(TRAIN, bool)
    flipped[rng.choice(TRAIN, int(FLIPPED_SHARE * TRAIN), replace=False)] = True
    shift = rng.integers(1, CLASSES, TRAIN, dtype=np.int32)
    given = np.where(flipped, (y[:TRAIN] + shift) % CLASSES, y[:TRAIN]).astype(np.int32)
    return Digits(x[:TRAIN], given, x[TRAIN:], y[TRAIN:], flipped)


def train_model(data: Digits, seed: int) -> tuple[Callable, Any]:
    """Trains the perceptron with Adam; returns `(apply, params)`."""
    model = Perceptron()
    params = model.init(jax.random.key(seed), jnp.zeros((1, data.x.shape[1])))
    order = np.random.default_rng(seed)
    batches = [
        rows
        for _ in range(EPOCHS)
        for rows in order.permutation(len(data.y)).reshape(-1, BATCH)
    ]
    return model.apply, fit(
        model.apply, params, data.x, data.y, batches, optax.adam(1e-3)
    )


def fit(
    apply: Callable,
    params: Any,
    x: np.ndarray,
    y: np.ndarray,
    batches: Iterable[np.ndarray],
    optimizer: optax.GradientTransformation,
) -> Any:
    """Trains a classifier on the examples of each batch in turn.

    Args:
        apply: `apply(params, x)` -> logits, [B, classes].
        params: pytree to begin with.
        x: inputs, [N, ...].
        y: labels, [N], whole numbers.
        batches: indices of examples, all of one length.
        optimizer: from optax.
    """

    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            logits = apply(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for rows in batches:
        params, state = step(params, state, x[rows], y[rows])
    return params


def run(seed: int = 0, *, progress: bool = False) -> dict[str, Any]:
    """Trains, attributes, certifies and scans; returns the result document."""
    start = time.perf_counter()
    data = load_digits(seed)
    apply, params = train_model(data, seed)
    predicted = np.argmax(np.asarray(apply(params, data.x_test)), axis=1)
    accuracy = float((predicted == data.y_test).mean())

    projector = projectors.Rademacher(dim=DIM, seed=seed)
    margin = tasks.classification(apply)
    train = featurize(margin, params, (data.x, data.y), projector, progress=progress)
    # What is explained is the model's own answer, right or wrong.
    targets = featurize(
        margin,
        params,
        (data.x_test, predicted.astype(np.int32)),
        projector,
        progress=progress,
    )
    geometry = natural_geometry(train, ridge=0.0)
    rankings = certify_rankings(
        geometry,
        targets,
        Wasserstein2(EPS),
        progress=progress,
        kernel=kernels.for_work(len(data.y), len(data.y_test), len(sections.RADII)),
    )
    all_scores = scores(geometry, targets)

    scan = scan_labels(
        apply, params, (data.x, data.y), projector=projector, progress=progress
    )

    def features_of(x: np.ndarray, y: np.ndarray) -> Any:
        return featurize(margin, params, (x, y), projector, progress=progress)

    relabelled = (data.y + 1) % CLASSES
    scale = sections.scale_section(
        rankings,
        {
            "shifted by one pixel": distances.change(
                geometry, train, features_of(_shifted(data.x), data.y)
            ),
            "relabelled as the next digit": distances.change(
                geometry, train, features_of(data.x, relabelled)
            ),
        },
        distances.resample(geometry, seed=seed),
    )

    def picture(index: int) -> str:
        return png_data_uri(data.x[index].reshape(8, 8))

    def target_picture(index: int) -> str:
        return png_data_uri(data.x_test[index].reshape(8, 8))

    def label(index: int) -> str:
        return str(data.y[index])

    shown = _interesting_targets(predicted, data.y_test)
    curve = sections.curve_section(rankings)
    pair = _closest_certified_pair(rankings, all_scores, shown[0])
    scan_part = sections.scan_section(
        scan, top=SHOWN_SUSPECTS, label=label, picture=picture, flipped=data.flipped
    )
    geometry_part = sections.geometry_section(rankings)
    return sections.document(
        "demo",
        "Certified attribution of handwritten digits",
        summary=_summary(accuracy, len(predicted), curve, scan_part, geometry_part),
        guarantee=sections.guarantee_section(rankings, scale),
        geometry=geometry_part,
        curve=curve,
        targets=[
            sections.target_section(
                rankings,
                all_scores[target],
                target,
                label=label,
                picture=picture,
                flipped=data.flipped,
                about={
                    "label": str(data.y_test[target]),
                    "predicted": str(predicted[target]),
                    "thumbnail": target_picture(target),
                },
            )
            for target in shown
        ],
        pair=sections.pair_section(
            rankings,
            **pair,
            thumbnails={
                "target": target_picture(pair["target"]),
                "above": picture(pair["above"]),
                "below": picture(pair["below"]),
            },
        ),
        scan=scan_part,
        review=review.review_section(
            scan,
            fingerprint=fingerprint(data.y),
            classes=[str(digit) for digit in range(CLASSES)],
            top=QUEUED,
            eps=EPS,
            picture=picture,
            wrong=data.flipped,
        ),
        provenance={
            "data": "scikit-learn digits, 1,500 for training and 297 held out",
            "noise": f"{int(data.flipped.sum())} training labels flipped, seed {seed}",
            "model": "Flax perceptron 64-128-64-10, Adam 1e-3, 20 epochs",
            "projector": str(projector),
            "seconds": f"{time.perf_counter() - start:.1f}",
            "command": f"natgeo demo --seed {seed}",
        },
    )


def write(document: dict[str, Any], folder: Path) -> tuple[Path, Path, Path]:
    """Writes `demo.json`, `report.html` and `scan.html` into `folder`.

    The second page is the review of the suspicious labels, the first one the rest.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, page = folder / "demo.json", folder / "report.html"
    queue = folder / "scan.html"
    write_document(document, record)
    rest = {name: part for name, part in document.items() if name != "review"}
    write_report(rest, page)
    keep = ("natgeo", "format", "scan", "review", "provenance")
    about = {
        "kind": "scan",
        "title": "Which digits are labelled wrong",
        "summary": review.summary(document["review"]),
    }
    write_report({**{name: document[name] for name in keep}, **about}, queue)
    return record, page, queue


def _shifted(x: np.ndarray) -> np.ndarray:
    """The same digits one pixel to the right, [N, 64]."""
    images = x.reshape(-1, 8, 8)
    moved = np.concatenate([np.zeros_like(images[:, :, :1]), images[:, :, :-1]], axis=2)
    return moved.reshape(x.shape)


def _interesting_targets(predicted: np.ndarray, truth: np.ndarray) -> list[int]:
    """The first right prediction, then mistakes, then more right ones."""
    wrong = np.flatnonzero(predicted != truth)
    right = np.flatnonzero(predicted == truth)
    return [int(i) for i in [*right[:2], *wrong[:2], *right[2:]][:SHOWN_TARGETS]]


def _closest_certified_pair(
    rankings: Rankings, all_scores: np.ndarray, target: int
) -> dict[str, int]:
    """The best proponent and the highest-ranked example it is certified to outrank."""
    order = np.argsort(-all_scores[target], kind="stable")
    best, rivals = int(order[0]), [int(i) for i in order[1:]]
    for rival in rivals:
        verdict = rankings.verdict(target=target, above=best, below=rival)
        if verdict.status == "certified":
            return {"target": target, "above": best, "below": rival}
    return {"target": target, "above": best, "below": rivals[-1]}


def _summary(
    accuracy: float, held_out: int, curve: dict, scan: dict, geometry: dict
) -> list[dict[str, str]]:
    at = int(np.argmin(np.abs(np.log(np.array(curve["radii"]) / EPS))))
    found = {row["name"]: row for row in scan["detectors"]}
    mine, plain = scan["detectors"][0], found["loss"]
    return [
        {
            "label": "Test accuracy",
            "value": percent(accuracy),
            "note": f"{held_out} held-out digits",
        },
        {
            "label": f"Certified pairs at eps = {curve['radii'][at]:g}",
            "value": percent(curve["certified"][at]),
            "note": f"of {curve['pairs']:,} pairs, mean of {curve['targets']} targets; "
            f"first-order sensitivity separates "
            f"{percent(curve['sensitivity_natural'][at])}",
        },
        {
            "label": "Wrong labels found",
            "value": percent(mine["recall_at_20"]),
            "note": f"of {scan['known_flips']} flips in the top 20 % by "
            f"{mine['name']}; plain loss {percent(plain['recall_at_20'])}",
        },
        {
            "label": "Detection AUROC",
            "value": f"{mine['auroc']:.4f}",
            "note": f"{mine['name']}; plain loss {plain['auroc']:.4f}",
        },
        {
            "label": "Condition number of Q",
            "value": f"{geometry['condition']:,.0f}",
            "note": f"N = {geometry['N']:,}, K = {geometry['K']}, ridge "
            f"{geometry['ridge']:g}, effective dimension "
            f"{geometry['effective_dimension']:.1f}",
        },
    ]
