"""The source's first-order bounds, for comparison. These are not certificates.

arXiv 2512.09103 calls a pair stable when two linearised intervals do not overlap:

    |tau_ti - tau_tj| > eps (L_ti + L_tj)

Both the natural and the Euclidean L linearise an order-1 ball in eps, so they promise
nothing at any finite radius unless the support is bounded (certificates.md, section 4).
They are called *sensitivity* here, never certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.geometry.natural import NaturalGeometry, as_target_store


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """First-order sensitivities of all scores, in the metric that `eps` refers to.

    Attributes:
        scores: tau, [M, N], float64.
        slopes: L, the bound of |d tau / d eps|, [M, N].
    """

    scores: np.ndarray
    slopes: np.ndarray

    def separated(self, radii: Sequence[float]) -> np.ndarray:
        """Share of all pairs with disjoint intervals tau +- eps L, [M, len(radii)].

        By sorting: for each interval, count those that end before it starts.
        """
        n = self.scores.shape[1]
        out = np.empty((len(self.scores), len(radii)))
        for place, radius in enumerate(radii):
            eps = checks.nonnegative("radius", radius)
            for target, (score, slope) in enumerate(
                zip(self.scores, self.slopes, strict=True)
            ):
                ends = np.sort(score + eps * slope)
                starts = np.sort(score - eps * slope)  # sorted queries are faster
                out[target, place] = np.searchsorted(ends, starts, side="left").sum()
        return out / max(n * (n - 1) // 2, 1)


def natural(geometry: NaturalGeometry, targets: Any) -> Sensitivity:
    """L_nat(t, i) = 2 |r_i| sqrt(SI_t SI_i) max_j sqrt(SI_j); eps in natural units."""
    t = _natural_targets(geometry, targets)
    products, lengths = _products(geometry, t)
    slopes = 2 * np.outer(np.linalg.norm(t, axis=1), lengths) * lengths.max()
    return Sensitivity(products, slopes * np.abs(geometry.weights))


def euclidean(geometry: NaturalGeometry, targets: Any) -> Sensitivity:
    """L_euc(t, i) = 2 |r_i| |Q^-1 phi_t| |Q^-1 phi_i| max_j |phi_j|; raw units."""
    t = _natural_targets(geometry, targets)
    # Q^-1 phi = L^-T w, so the rows of w R are the rows of Phi Q^-1.
    products, inverse = _products(geometry, t, geometry.whitener)
    inverse_targets = np.linalg.norm(t @ geometry.whitener, axis=1)
    longest = max(
        np.linalg.norm(np.asarray(block, np.float64), axis=1).max()
        for block in geometry.train.blocks(4096)
    )
    slopes = 2 * np.outer(inverse_targets, inverse) * longest
    return Sensitivity(products, slopes * np.abs(geometry.weights))


def _products(
    geometry: NaturalGeometry, targets: np.ndarray, change: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [M, N], and norms [N] of the rows w_i, or of w_i times `change`."""
    products = np.empty((len(targets), geometry.train.shape[0]))
    norms = np.empty(geometry.train.shape[0])
    start = 0
    for block in geometry.natural_blocks():
        here = slice(start, start + len(block))
        products[:, here] = targets @ block.T
        rows = block if change is None else block @ change
        norms[here] = np.linalg.norm(rows, axis=1)
        start += len(block)
    return products * geometry.weights, norms


def matched_radius(geometry: NaturalGeometry) -> float:
    """Euclidean units per natural unit, by the size of the same perturbed data sets.

    Replace some training examples by other training examples: the order-2 displacement
    is sqrt(share moved) times the root mean squared distance of a random pair, in
    either metric. A natural radius eps is matched by the Euclidean radius eps times the
    quotient of the two root mean squares.
    """
    n = geometry.train.shape[0]
    raw_square, raw_sum = 0.0, np.zeros(geometry.width)
    for block in geometry.train.blocks(4096):
        rows = np.asarray(block, np.float64)
        raw_square += float(np.square(rows).sum())
        raw_sum += rows.sum(axis=0)
    square, total = 0.0, np.zeros(geometry.width)
    for w in geometry.natural_blocks():
        square += float(np.square(w).sum())
        total += w.sum(axis=0)
    raw = raw_square / n - float(np.square(raw_sum / n).sum())
    nat = square / n - float(np.square(total / n).sum())
    return float(np.sqrt(raw / nat)) if nat > 0 else float("nan")


def amplification(geometry: NaturalGeometry, targets: Any) -> dict[str, float]:
    """L_euc / L_nat over all scores, with both radii matched: median and maximum.

    How much more the Euclidean first-order bound lets a score move than the natural
    one, for the same perturbed data sets (certificates.md, section 4).
    """
    flat, natural_ = euclidean(geometry, targets), natural(geometry, targets)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = flat.slopes / natural_.slopes * matched_radius(geometry)
    ratio = ratio[np.isfinite(ratio)]
    if not ratio.size:
        return {"median": float("nan"), "max": float("nan")}
    return {"median": float(np.median(ratio)), "max": float(ratio.max())}


def _natural_targets(geometry: NaturalGeometry, targets: Any) -> np.ndarray:
    return geometry.whiten(np.asarray(as_target_store(geometry, targets)))
