"""The pages of the demo: the result document of a study of digits, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from natgeo.certify.rankings import Rankings
from natgeo.demo import CLASSES, EPS, Study
from natgeo.display import percent
from natgeo.labels.decisions import fingerprint
from natgeo.report import review, sections
from natgeo.report.document import write_document
from natgeo.report.page import write_report
from natgeo.report.thumbnails import png_data_uri

SHOWN_TARGETS, SHOWN_SUSPECTS, QUEUED = 4, 24, 150


def document(study: Study) -> dict[str, Any]:
    """The result document of a study."""
    pictures = Pictures(study)
    curve = sections.curve_section(study.rankings)
    geometry = sections.geometry_section(study.rankings)
    scan = sections.scan_section(
        study.scan,
        top=SHOWN_SUSPECTS,
        label=pictures.label,
        picture=pictures.train,
        flipped=study.data.flipped,
    )
    shown = _interesting_targets(study.predicted, study.data.y_test)
    return sections.document(
        "demo",
        "Certified attribution of handwritten digits",
        summary=_summary(study, curve, scan, geometry),
        guarantee=sections.guarantee_section(study.rankings, study.scale),
        geometry=geometry,
        curve=curve,
        targets=[_target(study, pictures, target) for target in shown],
        pair=_pair(study, pictures, shown[0]),
        scan=scan,
        review=_review(study, pictures),
        provenance=_provenance(study),
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


class Pictures:
    """Thumbnails and labels of a study's digits, by index."""

    def __init__(self, study: Study):
        self._data = study.data

    def train(self, index: int) -> str:
        """A training digit, as a data URI."""
        return png_data_uri(self._data.x[index].reshape(8, 8))

    def held_out(self, index: int) -> str:
        """A held-out digit."""
        return png_data_uri(self._data.x_test[index].reshape(8, 8))

    def label(self, index: int) -> str:
        """The given label of a training digit."""
        return str(self._data.y[index])


def _target(study: Study, pictures: Pictures, target: int) -> dict[str, Any]:
    return sections.target_section(
        study.rankings,
        study.scores[target],
        target,
        label=pictures.label,
        picture=pictures.train,
        flipped=study.data.flipped,
        about={
            "label": str(study.data.y_test[target]),
            "predicted": str(study.predicted[target]),
            "thumbnail": pictures.held_out(target),
        },
    )


def _pair(study: Study, pictures: Pictures, target: int) -> dict[str, Any]:
    pair = _closest_certified_pair(study.rankings, study.scores, target)
    return sections.pair_section(
        study.rankings,
        **pair,
        thumbnails={
            "target": pictures.held_out(pair["target"]),
            "above": pictures.train(pair["above"]),
            "below": pictures.train(pair["below"]),
        },
    )


def _review(study: Study, pictures: Pictures) -> dict[str, Any]:
    return review.review_section(
        study.scan,
        fingerprint=fingerprint(study.data.y),
        classes=[str(digit) for digit in range(CLASSES)],
        top=QUEUED,
        eps=EPS,
        picture=pictures.train,
        wrong=study.data.flipped,
    )


def _provenance(study: Study) -> dict[str, str]:
    flips = int(study.data.flipped.sum())
    return {
        "data": "scikit-learn digits, 1,500 for training and 297 held out",
        "noise": f"{flips} training labels flipped, seed {study.seed}",
        "model": "Flax perceptron 64-128-64-10, Adam 1e-3, 20 epochs",
        "projector": study.projector,
        "seconds": f"{study.seconds:.1f}",
        "command": f"natgeo demo --seed {study.seed}",
    }


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
    study: Study, curve: dict, scan: dict, geometry: dict
) -> list[dict[str, str]]:
    accuracy = float((study.predicted == study.data.y_test).mean())
    at = int(np.argmin(np.abs(np.log(np.array(curve["radii"]) / EPS))))
    found = {row["name"]: row for row in scan["detectors"]}
    mine, plain = scan["detectors"][0], found["loss"]
    return [
        {
            "label": "Test accuracy",
            "value": percent(accuracy),
            "note": f"{len(study.predicted)} held-out digits",
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
