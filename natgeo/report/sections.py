"""From results to the plain values that the report, `--json` and people read.

Each function makes one section of a result document. Nothing is computed here that is
not a view of a result; the page is drawn from these values alone.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from natgeo.certify import guarantee, sensitivity
from natgeo.certify.distances import Change, Distance, typical
from natgeo.certify.rankings import Rankings
from natgeo.certify.threats import Moving, Wasserstein2
from natgeo.certify.witness import Counterexample, counterexample
from natgeo.evaluate import detection
from natgeo.evaluate.roc import roc_curve
from natgeo.labels.scan import LabelScan
from natgeo.report.document import FORMAT

# Radii of the curve when nobody asks for others: six a decade, from a hair to one.
_DECADE = (1, 1.5, 2, 3, 5, 7)
RADII = (*(float(f"{m}e{p}") for p in (-4, -3, -2, -1) for m in _DECADE), 0.9)

Label = Callable[[int], str | None]
Picture = Callable[[int], str | None]


def document(kind: str, title: str, **sections: Any) -> dict[str, Any]:
    """A result document: who wrote it, what it is, and its sections."""
    present = {name: value for name, value in sections.items() if value is not None}
    return {
        "natgeo": version("natgeo"),
        "format": FORMAT,
        "kind": kind,
        "title": title,
        **present,
        "provenance": {
            "natgeo": version("natgeo"),
            "numpy": version("numpy"),
            "jax": version("jax"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{k: str(v) for k, v in sections.get("provenance", {}).items()},
        },
    }


def geometry_section(rankings: Rankings) -> dict[str, Any]:
    """Sizes and conditioning of the natural geometry."""
    geometry = rankings.geometry
    return {
        "N": geometry.train.shape[0],
        "M": rankings.targets.shape[0],
        "K": geometry.width,
        "ridge": geometry.ridge,
        "condition": finite(geometry.condition),
        "effective_dimension": finite(geometry.effective_dimension),
        "spectral_amplification": finite(geometry.spectral_amplification),
        "eta": finite(rankings.proof.eta),
        "sha256": geometry.train.digest(),
    }


def guarantee_section(
    rankings: Rankings, scale: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The guarantee in words, its radius in proportion, and what it does not say.

    Args:
        rankings: the certificates.
        scale: from `scale_section`, distances of known changes of the same data.
    """
    says = guarantee.rankings_in_words(rankings)
    if isinstance(rankings.threat, Wasserstein2):
        says += " " + guarantee.radius_in_words(rankings.proof, rankings.threat)
    section: dict[str, Any] = {"says": says, "does_not_say": list(guarantee.LIMITS)}
    return section if scale is None else {**section, "scale": dict(scale)}


def scale_section(
    rankings: Rankings,
    changes: Mapping[str, Change],
    resamples: Sequence[Distance] = (),
) -> dict[str, Any]:
    """What known changes of the user's own data measure, so that eps means something.

    Args:
        rankings: the certificates; sentences are made for an order-2 threat.
        changes: words that complete "an example ..." -> `distances.change`.
        resamples: from `distances.resample`.
    """
    rows, says = [], []
    eps = rankings.threat.eps if isinstance(rankings.threat, Wasserstein2) else None
    for name, change in changes.items():
        rows.append(_distance(f"one example {name} (median)", change.one()))
        rows.append(_distance(f"all examples {name}", change.share(1.0)))
        if eps is not None:
            says.append(guarantee.change_in_words(eps, name, change))
    if resamples:
        middle = typical(resamples)
        rows.append(
            _distance(f"bootstrap resample (median of {len(resamples)})", middle)
        )
        if eps is not None:
            says.append(guarantee.resample_in_words(eps, resamples))
    return {"says": says, "rows": rows}


def _distance(name: str, found: Distance) -> dict[str, Any]:
    return {
        "change": name,
        "covariance": finite(found.covariance),
        "moved": finite(found.moved),
    }


def curve_radii(rankings: Rankings, radii: Sequence[float] = RADII) -> Sequence[float]:
    """The radii of the curve: those asked for, and that of the threat."""
    if isinstance(rankings.threat, Wasserstein2) and rankings.threat.eps < 1:
        return sorted({*radii, rankings.threat.eps})
    return radii


def curve_section(
    rankings: Rankings,
    radii: Sequence[float] = RADII,
    *,
    sample: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Certified fraction over radii, with the first-order bounds at matched radii.

    Args:
        rankings: the certificates.
        radii: order-2 radii; that of the threat is added.
        sample: how many pairs to estimate the certified fraction from, and the seed.
    """
    geometry, targets = rankings.geometry, rankings.targets
    radii = curve_radii(rankings, radii)
    matched = sensitivity.matched_radius(geometry)
    if sample is None:
        certified = rankings.curve(radii).mean(axis=0)
    else:
        found = rankings.estimate(sample[0], seed=sample[1], radii=radii)
        certified = found.fraction.mean(axis=0)
    natural = sensitivity.natural(geometry, targets).separated(radii).mean(axis=0)
    euclidean, flat = None, None
    if np.isfinite(matched):
        euclidean = [radius * matched for radius in radii]
        bound = sensitivity.euclidean(geometry, targets)
        flat = bound.separated(euclidean).mean(axis=0).tolist()
    ratio = sensitivity.amplification(geometry, targets)
    return {
        "radii": [float(radius) for radius in radii],
        "euclidean_radii": euclidean,
        "certified": certified.tolist(),
        "sensitivity_natural": natural.tolist(),
        "sensitivity_euclidean": flat,
        "matched": finite(matched),
        "amplification_median": finite(ratio["median"]),
        "amplification_max": finite(ratio["max"]),
        "targets": targets.shape[0],
        "pairs": rankings.pairs,
    }


def _radius(rankings: Rankings) -> float | None:
    """The order-2 radius, which others can be compared with; None for other threats."""
    return rankings.threat.eps if isinstance(rankings.threat, Wasserstein2) else None


def target_section(
    rankings: Rankings,
    scores: np.ndarray,
    target: int,
    *,
    top: int = 10,
    label: Label = lambda index: None,
    picture: Picture = lambda index: None,
    flipped: Sequence[bool] | np.ndarray | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The highest-scoring training examples of a target with certified rank intervals.

    Args:
        rankings: the certificates.
        scores: scores of this target, [N], which choose and order what is shown.
        target: index of the target.
        top: how many proponents to show, and the k of the certified top-k.
        label: words for a training example.
        picture: a data URI for a training example.
        flipped: which training labels are known to be wrong.
        about: label, prediction and thumbnail of the target.
    """
    top = min(top, len(scores))
    ranks = rankings.ranks(target)
    members = rankings.top_k(target, top)
    best = np.argsort(-scores, kind="stable")[:top]
    return {
        "target": target,
        **{"label": None, "predicted": None, "thumbnail": None, **(about or {})},
        "eps": _radius(rankings),
        "proponents": [
            {
                "index": int(i),
                "rank": rank,
                "label": label(int(i)),
                "flipped": None if flipped is None else bool(flipped[i]),
                "score": float(scores[i]),
                "lowest": int(ranks[i, 0]),
                "highest": int(ranks[i, 1]),
                "thumbnail": picture(int(i)),
            }
            for rank, i in enumerate(best, start=1)
        ],
        "top_k": {
            "k": top,
            "inside": len(members.inside),
            "undecided": len(members.undecided),
            "outside": len(members.outside),
        },
    }


def pair_section(
    rankings: Rankings,
    *,
    target: int,
    above: int,
    below: int,
    thumbnails: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """One pair: its verdict, its radius, and the counterexample just outside."""
    verdict = rankings.verdict(target=target, above=above, below=below, attack=True)
    found = None
    # Only a move of the distribution alone has a cost to compare with a radius.
    if verdict.cosine > 0 and not isinstance(rankings.threat, Moving):
        breaking = verdict.counterexample
        if not isinstance(breaking, Counterexample):
            statement = rankings.statement(target=target, above=above, below=below)
            breaking = counterexample(rankings.proof, statement, verdict.radius)
        found = {
            "cost": breaking.cost,
            "gap_before": breaking.gap_before,
            "gap_after": breaking.gap_after,
            "flips": breaking.flips,
        }
    return {
        "target": target,
        "above": above,
        "below": below,
        "claim": guarantee.certificate_in_words(rankings.proof, verdict),
        "status": verdict.status,
        "radius": verdict.radius,
        "eps": _radius(rankings),
        "thumbnails": {"target": None, "above": None, "below": None}
        | dict(thumbnails or {}),
        "counterexample": found,
    }


def scan_section(
    scan: LabelScan,
    *,
    top: int = 24,
    label: Label = lambda index: None,
    picture: Picture = lambda index: None,
    flipped: np.ndarray | None = None,
    suggested: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The most suspicious examples, and how good each detector is if that is known."""
    detectors = []
    ordered = {scan.detector: scan.scores[scan.detector], **scan.scores}
    for name, values in ordered.items():
        known: dict[str, Any] = {
            "auroc": None,
            "recall_at_20": None,
            "recall_curve": None,
            "roc_curve": None,
        }
        if flipped is not None:
            known = {
                "auroc": detection.auroc(values, flipped),
                "recall_at_20": detection.recall_at(values, flipped, 0.2),
                "recall_curve": detection.recall_curve(values, flipped).tolist(),
                "roc_curve": roc_curve(values, flipped).tolist(),
            }
        detectors.append({"name": name, **known})
    values = scan.scores[scan.detector]
    return {
        "known_flips": None if flipped is None else int(flipped.sum()),
        "detectors": detectors,
        "suspicious": [
            {
                "index": int(i),
                "rank": rank,
                "score": float(values[i]),
                "given": label(int(i)),
                "suggested": None if suggested is None else suggested[i],
                "flipped": None if flipped is None else bool(flipped[i]),
                "certified_top": None,
                "thumbnail": picture(int(i)),
            }
            for rank, i in enumerate(scan.suspicious(min(top, len(values))), start=1)
        ],
    }


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return float(value) if np.isfinite(value) else None
