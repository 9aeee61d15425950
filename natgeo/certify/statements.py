"""Attribution statements, each the sign of one bilinear form u^T M v.

M = (L^-1 Q' L^-T)^-1 is the identity for the stored data and moves with the training
distribution; the statement is true while u^T M v > 0 (certificates.md, section 2).
Here u and v are still raw features, combined before they are whitened so that near
duplicates keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.bounds import U, gamma, row_norms, upward
from natgeo.errors import ArgumentError
from natgeo.geometry.natural import NaturalGeometry, as_target_store


@dataclass(frozen=True, eq=False)
class Combination:
    """A linear combination of stored features, in float64.

    Attributes:
        vector: the combination as computed, [K].
        formation: proven bound of its distance from the exact one.
        of_targets: upper bound of the sum of |coefficient| over targets: how far the
            combination moves if every target moves by one. Infinite if not known.
        of_examples: the same over training examples.
        terms: exact coefficient and index of each stored feature it is made of: all of
            them examples if `of_examples` is positive, else targets. Empty if not
            known.
        features: those features, [T, K], float64; None if not known.
    """

    vector: np.ndarray
    formation: float
    of_targets: float = math.inf
    of_examples: float = math.inf
    terms: tuple[tuple[float, int], ...] = ()
    features: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Statement:
    """A claim that holds exactly while u^T M v > 0.

    Attributes:
        claim: the claim in words.
        u: raw features of the left side.
        v: raw features of the right side.
        about: the kind of statement and its indices; what a certificate file names.
    """

    claim: str
    u: Combination
    v: Combination
    about: Mapping[str, Any] = field(default_factory=dict)


def pair(
    geometry: NaturalGeometry, targets: Any, *, target: int, above: int, below: int
) -> Statement:
    """For a target, training example `above` scores higher than `below`.

    u = w_t,  v = r_i w_i - r_j w_j

    Raises:
        ArgumentError: for an index out of range.
    """
    store = as_target_store(geometry, targets)
    t = checks.index("target", target, store.shape[0])
    i, j = _train_indices(geometry, above=above, below=below)
    weights = geometry.weights
    return Statement(
        f"for target {t}, training example {i} keeps a larger score than {j}",
        _of_targets(store, [(1.0, t)]),
        _of_examples(geometry, [(weights[i], i), (-weights[j], j)]),
        {"kind": "pair", "target": t, "above": i, "below": j},
    )


def proponent(
    geometry: NaturalGeometry, targets: Any, *, target: int, example: int
) -> Statement:
    """A training example keeps a positive score for a target: u = w_t, v = r_i w_i."""
    store = as_target_store(geometry, targets)
    t = checks.index("target", target, store.shape[0])
    (i,) = _train_indices(geometry, example=example)
    return Statement(
        f"training example {i} keeps a positive score for target {t}",
        _of_targets(store, [(1.0, t)]),
        _of_examples(geometry, [(geometry.weights[i], i)]),
        {"kind": "proponent", "target": t, "example": i},
    )


def opponent(
    geometry: NaturalGeometry, targets: Any, *, target: int, example: int
) -> Statement:
    """A training example keeps a negative score for a target: v = -r_i w_i."""
    store = as_target_store(geometry, targets)
    t = checks.index("target", target, store.shape[0])
    (i,) = _train_indices(geometry, example=example)
    return Statement(
        f"training example {i} keeps a negative score for target {t}",
        _of_targets(store, [(1.0, t)]),
        _of_examples(geometry, [(-geometry.weights[i], i)]),
        {"kind": "opponent", "target": t, "example": i},
    )


def group(
    geometry: NaturalGeometry,
    targets: Any,
    *,
    target: int,
    above: Sequence[int],
    below: Sequence[int],
) -> Statement:
    """For a target, one group of examples has a larger total score than another.

    u = w_t,  v = sum_G r w - sum_H r w; either group may be empty, not both.

    Raises:
        ArgumentError: for an index out of range or listed twice in a group, or two
            empty groups.
    """
    store = as_target_store(geometry, targets)
    t = checks.index("target", target, store.shape[0])
    size = geometry.train.shape[0]
    g = [checks.index("above", i, size) for i in above]
    h = [checks.index("below", i, size) for i in below]
    if not g and not h:
        raise ArgumentError("above and below are both empty: name some examples.")
    for name, listed in (("above", g), ("below", h)):
        if len(set(listed)) != len(listed):
            raise ArgumentError(
                f"{name}={listed} lists an example twice: a group has each example "
                f"once."
            )
    weights = geometry.weights
    return Statement(
        f"for target {t}, the {len(g)} examples of the first group keep a larger "
        f"total score than the {len(h)} of the second",
        _of_targets(store, [(1.0, t)]),
        _of_examples(
            geometry,
            [(weights[i], i) for i in g] + [(-weights[j], j) for j in h],
        ),
        {"kind": "group", "target": t, "above": g, "below": h},
    )


def target_pair(
    geometry: NaturalGeometry, targets: Any, *, more: int, less: int, example: int
) -> Statement:
    """A training example scores higher for one target than for another.

    u = w_t - w_s,  v = r_i w_i
    """
    store = as_target_store(geometry, targets)
    t = checks.index("more", more, store.shape[0])
    s = checks.index("less", less, store.shape[0])
    (i,) = _train_indices(geometry, example=example)
    return Statement(
        f"training example {i} keeps a larger score for target {t} than for {s}",
        _of_targets(store, [(1.0, t), (-1.0, s)]),
        _of_examples(geometry, [(geometry.weights[i], i)]),
        {"kind": "target_pair", "more": t, "less": s, "example": i},
    )


def self_influence_pair(
    geometry: NaturalGeometry, *, above: int, below: int
) -> Statement:
    """The self-influence of one example exceeds another's.

    u = w_i - w_j,  v = w_i + w_j, since |w_i|^2 - |w_j|^2 = (w_i - w_j).(w_i + w_j)
    """
    i, j = _train_indices(geometry, above=above, below=below)
    return Statement(
        f"training example {i} keeps a larger self-influence than {j}",
        _of_examples(geometry, [(1.0, i), (-1.0, j)]),
        _of_examples(geometry, [(1.0, i), (1.0, j)]),
        {"kind": "self_influence_pair", "above": i, "below": j},
    )


def _train_indices(geometry: NaturalGeometry, **indices: Any) -> list[int]:
    size = geometry.train.shape[0]
    return [checks.index(name, value, size) for name, value in indices.items()]


def _of_targets(store: Any, terms: list[tuple[float, int]]) -> Combination:
    made = _combine(store, terms)
    return replace(made, of_targets=_size(terms), of_examples=0.0)


def _of_examples(
    geometry: NaturalGeometry, terms: list[tuple[float, int]]
) -> Combination:
    made = _combine(geometry.train, terms)
    return replace(made, of_targets=0.0, of_examples=_size(terms))


def _size(terms: list[tuple[float, int]]) -> float:
    return float(upward(math.fsum(abs(float(factor)) for factor, _ in terms)))


def _combine(store: Any, terms: list[tuple[float, int]]) -> Combination:
    """sum_k c_k phi_k of stored features, with its proven rounding."""
    features = np.asarray(store.rows([index for _, index in terms]), np.float64)
    coefficients = np.array([float(coefficient) for coefficient, _ in terms])
    with np.errstate(over="ignore", invalid="ignore"):  # NaN is never certified
        vectors, formation = combine(features[None], coefficients[None])
    return Combination(
        vectors[0],
        float(formation[0]),
        terms=tuple((float(factor), int(index)) for factor, index in terms),
        features=features,
    )


def combine(
    features: np.ndarray, coefficients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Linear combinations sum_t c_bt x_bt with proven bounds of their rounding.

    A single feature with coefficient one is exact. The difference of two exact products
    loses only the rounding of the subtraction, u norm(d); products are exact when both
    factors together need at most 53 significant bits, as float32 data do.

    Args:
        features: exact vectors x, [B, T, K], float64.
        coefficients: exact coefficients c, [B, T].

    Returns:
        The computed combinations [B, K] and bounds of their distance from the exact
        ones [B].
    """
    terms = coefficients.shape[1]
    if terms <= 2:
        vectors = coefficients[:, 0, None] * features[:, 0]
        if terms == 2:
            vectors = vectors + coefficients[:, 1, None] * features[:, 1]
    else:
        vectors = np.einsum("bt,btk->bk", coefficients, features)
    if terms == 1 and (np.abs(coefficients) == 1).all():
        return vectors, np.zeros(len(vectors))
    short = _significant_bits(coefficients)
    exact = short == 1 or short + _significant_bits(features) <= 53
    if terms <= 2 and exact:
        return vectors, upward(U * row_norms(vectors))
    sizes = np.stack([row_norms(features[:, t]) for t in range(terms)], axis=1)
    total = (np.abs(coefficients) * sizes).sum(axis=1)
    return vectors, upward(gamma(terms + 2) * total)


def _significant_bits(values: np.ndarray) -> int:
    """The most significant bits that any of the values needs, 1 to 53."""
    mantissa = np.ldexp(np.frexp(values)[0], 53).astype(np.int64)
    together = int(np.bitwise_or.reduce(mantissa.ravel()))
    if together == 0:
        return 1
    return 54 - (together & -together).bit_length()
