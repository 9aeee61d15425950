"""What a certificate says and what it does not, in words that are true.

The wording follows soundness.md, section 6: every printed number comes with the data,
the metric and what is held fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from natgeo.certify.distances import Change, Distance, typical
from natgeo.certify.rankings import Rankings
from natgeo.certify.rounding import Proof
from natgeo.certify.sample import Estimate
from natgeo.certify.threats import Moving, Wasserstein2
from natgeo.certify.verdict import Verdict
from natgeo.display import at_least, at_most, given
from natgeo.errors import ArgumentError

LIMITS = (
    "Nothing about retraining: the network, its features and the evaluated examples "
    "are held fixed; only the training distribution inside the formula moves.",
    "Nothing about the population the data were drawn from, nor about another random "
    "projection: the ball is around the stored data, in their own fixed metric.",
    "Undecided means that no proof was found; it does not mean that the order is "
    "fragile. Ties are always undecided.",
)

# The bound under a ridge looks at more than the covariance; see `distances`.
_CLOSED_FORM = ", for what the closed form certifies"


def certificate_in_words(proof: Proof, verdict: Verdict) -> str:
    """The exact claim of one certified verdict, or what is known instead."""
    if verdict.status != "certified":
        return (
            f"{verdict.status.capitalize()}: {verdict.reason or verdict.claim}. "
            f"Proven up to order-2 natural radius {at_least(verdict.radius)}."
        )
    return (
        f"{_data(proof)}, {verdict.claim} under {verdict.threat}. Feature map and "
        f"evaluated points are held fixed. Rounding is included "
        f"(eta = {at_most(proof.eta)})."
    )


def rankings_in_words(rankings: Rankings) -> str:
    """What every certified pair, rank interval and top-k set of a result means."""
    threat = rankings.threat
    # What moves beside the distribution can only certify less.
    alone = threat.threat if isinstance(threat, Moving) else threat
    if math.isinf(alone.kappa(rankings.proof)):
        return (
            f"{_data(rankings.proof)}: nothing is certified. This theorem cannot "
            f"certify any order under {rankings.threat.describe()}; choose a smaller "
            f"one, with assumptions that the stored features satisfy."
        )
    return (
        f"{_data(rankings.proof)}: a certified pair keeps its order, a certified rank "
        f"interval holds the rank and a certified top-k member stays in, all at once, "
        f"under {rankings.threat.describe()}. Feature map and evaluated points are "
        f"held fixed. Rounding is included (eta = {at_most(rankings.proof.eta)})."
    )


def estimate_in_words(estimate: Estimate) -> str:
    """What a sampled fraction says, with its intervals and its seed."""
    fraction, low, high = (
        np.atleast_1d(part) for part in (estimate.fraction, estimate.low, estimate.high)
    )
    if fraction.ndim > 1:
        raise ArgumentError(
            "An estimate at several radii is put into words one by one."
        )
    widest = int(np.argmax(high - low))
    return (
        f"Certified fractions are estimated from {estimate.pairs:,} pairs drawn "
        f"uniformly with replacement (seed {estimate.seed}), each decided by proof; "
        f"for target {widest}, where it is widest, the {100 * estimate.level:g} % "
        f"interval of Clopper and Pearson is {at_least(100 * low[widest])} to "
        f"{at_most(100 * high[widest])} %."
    )


def radius_in_human_terms(proof: Proof, eps: float) -> Mapping[str, float]:
    """A natural radius against the size of the data; it has no absolute meaning.

    Returns:
        `eps`; `relative`, eps / sqrt(d_eff), the share of the root mean squared natural
        norm; and `replacements`, N eps^2 / D^2, how many training points may each be
        replaced by another typical one (D: median natural distance of random pairs).
    """
    geometry = proof.geometry
    natural = geometry.natural
    pairs = np.random.default_rng(0).integers(0, len(natural), (2, 4096))
    distance = float(
        np.median(np.linalg.norm(natural[pairs[0]] - natural[pairs[1]], axis=1))
    )
    scale = np.sqrt(geometry.effective_dimension)
    return {
        "eps": eps,
        "relative": float(eps / scale) if scale > 0 else float("nan"),
        "replacements": len(natural) * eps**2 / distance**2 if distance else 0.0,
    }


def radius_in_words(proof: Proof, threat: Wasserstein2) -> str:
    """One sentence that puts an order-2 radius into proportion."""
    terms = radius_in_human_terms(proof, threat.eps)
    return (
        f"eps = {given(terms['eps'])} is {100 * terms['relative']:.3g} % of the root "
        f"mean squared natural norm of the data; it covers replacing "
        f"{terms['replacements']:.2g} training points by others at the median natural "
        f"distance."
    )


def resample_in_words(eps: float, resamples: Sequence[Distance]) -> str:
    """A radius against what drawing the training set again does to the covariance."""
    moved = typical(resamples).covariance
    return (
        f"eps = {given(eps)} is {_times(eps, moved)} what one bootstrap resample of "
        f"the training set moves the covariance ({moved:.3g}): at this radius nothing "
        f"is said about sampling noise."
        if eps < moved
        else f"eps = {given(eps)} covers what one bootstrap resample of the training "
        f"set moves the covariance ({moved:.3g}){_CLOSED_FORM}."
    )


def change_in_words(eps: float, name: str, change: Change) -> str:
    """A radius against a known change, whose `name` completes "an example ..."."""
    alone = change.one()
    words = (
        f"eps = {given(eps)} is {_times(eps, alone.covariance)} what one example "
        f"{name} moves the covariance (median {alone.covariance:.3g})"
    )
    share = change.covered(eps)
    if math.isnan(share):
        return f"{words}."
    if share == 1:
        return f"{words}; it covers all examples {name}{_CLOSED_FORM}."
    return (
        f"{words}; it covers giving {100 * share:.3g} % of every example's weight to "
        f"the same example {name}{_CLOSED_FORM}."
    )


def _times(eps: float, moved: float) -> str:
    if not moved > 0:
        return "infinitely many times"
    ratio = eps / moved
    return f"{ratio:.3g} times" if ratio >= 1 else f"{100 * ratio:.3g} % of"


def _data(proof: Proof) -> str:
    geometry = proof.geometry
    return (
        f"For the {geometry.train.shape[0]:,} stored feature vectors with SHA-256 "
        f"{geometry.train.digest()[:12]}... and ridge {geometry.ridge.hex()}"
    )
