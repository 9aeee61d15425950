"""What a certificate says: well formed (`reading.py`), not yet known to be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from natgeo.proof import language

FORMAT = "natgeo-certificate"
VERSION = 1
NAME = "certificate.json"


@dataclass(frozen=True, eq=False)
class Claim:
    """A statement, what it holds under, and the rows of its witnesses for u and v."""

    statement: Mapping[str, Any]
    threat: Mapping[str, Any]
    witness: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Count:
    """At least so many of all pairs of training examples keep their order."""

    target: int
    at_least: int
    threat: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Refutation:
    """A displaced training set in which a statement is false.

    Example i moves from phi_i to phi_i + sum_k moves[i, k] directions[k], exactly.

    Attributes:
        statement: what is false of the displaced data.
        radius: the order-2 distance that the move does not exceed.
        floor: claimed lower bound of the eigenvalues of the displaced covariance.
        moves: [N, r].
        directions: [r, K].
        witness: rows of the witnesses for u and v under the displaced covariance.
        cost_witness: rows of the witnesses of the directions under the stored one.
    """

    statement: Mapping[str, Any]
    radius: float
    floor: float
    moves: np.ndarray
    directions: np.ndarray
    witness: tuple[int, int]
    cost_witness: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Certificate:
    """A well-formed certificate: what it claims, not yet what is true.

    Attributes:
        digest: SHA-256 of the training features.
        rows: number of training examples N.
        width: feature dimension K.
        dtype: of the training features.
        weights: SHA-256 of the residual weights, or None if there are none.
        targets: `sha256`, `rows`, `dtype` and `indices` of the targets used, or None.
        ridge: lambda.
        floor: claimed lower bound of the eigenvalues of Q.
        arrays: every array of the folder by its name.
        claims: what is to be checked exactly.
        counts: certified pairs of whole rankings, to be counted again.
        refutations: counterexamples to be checked exactly.
        bulk: the threat under which all listed pairs hold, or None.
    """

    digest: str
    rows: int
    width: int
    dtype: str
    weights: str | None
    targets: Mapping[str, Any] | None
    ridge: float
    floor: float
    arrays: Mapping[str, np.ndarray]
    claims: tuple[Claim, ...]
    counts: tuple[Count, ...]
    refutations: tuple[Refutation, ...]
    bulk: Mapping[str, Any] | None


def needs_whitener(found: Certificate) -> bool:
    """Whether anything in it rests on the float64 recipe."""
    needed = any(claim.threat["kind"] in language.NEED_NORMS for claim in found.claims)
    return needed or bool(found.counts) or found.bulk is not None
