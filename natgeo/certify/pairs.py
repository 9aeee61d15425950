"""Pairs decided one by one: subtracted before they are whitened, as single verdicts.

This keeps the digits of near duplicates, which the Gram matrix of a tile loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from natgeo.certify import ridge as ridge_bound
from natgeo.certify.bounds import gamma, upward
from natgeo.certify.limits import (
    SMALLEST,
    Limits,
    Moves,
    Pairs,
    asked,
    example_moves,
    ridge_rows,
)
from natgeo.certify.rounding import NaturalRows, Proof
from natgeo.certify.statements import combine

_CHUNK = 256


def count_pairs(
    proof: Proof,
    targets: NaturalRows,
    kappas: Sequence[float],
    radii: Sequence[float | None],
    pairs: np.ndarray,
    moves: Moves | None = None,
) -> np.ndarray:
    """How many of some pairs [P, 2] are certified, [M, G], each decided on its own.

    Each pair is subtracted before it is whitened, as for a single verdict, and held
    against the limits of the sweep; a pair that is listed twice counts twice.
    """
    if not proof.holds:
        return np.zeros((len(targets.rows), len(kappas)), np.int64)
    ridge = ridge_rows(proof, radii)
    with np.errstate(over="ignore", invalid="ignore"):
        limits = asked(proof, targets, kappas, radii, moves)
        far = example_moves(proof, moves)
        return count_one_by_one(proof, targets, limits, pairs, ridge, far)


def count_one_by_one(
    proof: Proof,
    targets: NaturalRows,
    limits: Limits,
    pairs: np.ndarray,
    ridge: NaturalRows | None,
    moves: np.ndarray | None = None,
) -> np.ndarray:
    """Certified pairs of each target among `pairs` [P, 2], by `limits`, [M, G]."""
    found: np.ndarray = np.zeros(limits.limit.shape, np.int64)
    for _, gaps, chunk in decided(proof, targets, pairs, ridge, moves):
        for place in range(found.shape[1]):
            length = limits.lengths(chunk, (slice(None), [place]))
            ratio = np.square(gaps) / length
            found[:, place] += (ratio > limits.limit[:, [place]]).sum(axis=1)
    return found


def proven_orders(
    proof: Proof,
    targets: NaturalRows,
    pairs: np.ndarray,
    kappa: float,
    radius: float | None = None,
) -> np.ndarray:
    """Which of some pairs [P, 2] are certified for each target, [M, P].

    1 where the first example of a pair is certified above the second, -1 where it is
    certified below, 0 where nothing is. `radius` is of the order-2 ball, if it is one.
    """
    ridge = ridge_rows(proof, [radius])
    limits = asked(proof, targets, [kappa], [radius])
    found = [np.zeros((len(limits.limit), 0))]
    with np.errstate(over="ignore", invalid="ignore"):  # NaN is never certified
        for _, gaps, chunk in decided(proof, targets, pairs, ridge):
            length = limits.lengths(chunk, (slice(None), [0]))
            found.append(np.sign(gaps) * (np.square(gaps) / length > limits.limit))
    return np.concatenate(found, axis=1).astype(np.int8)


def decided(
    proof: Proof,
    targets: NaturalRows,
    pairs: np.ndarray,
    ridge: NaturalRows | None = None,
    moves: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, Pairs]]:
    """Close pairs in chunks: pairs [P, 2], proven gaps [M, P], what lengths need [P].

    A gap is positive where the first of the pair is proven above the second, negative
    where it is proven below and zero for a tie.
    """
    geometry = proof.geometry
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        both = np.asarray(geometry.train.rows(chunk.ravel()), np.float64).reshape(
            *chunk.shape, -1
        )
        difference = proof.whiten(*combine(both, geometry.weights[chunk] * [1, -1]))
        found, room = products(targets, difference)
        size = np.maximum(np.nextafter(np.abs(found) - room, -np.inf), 0)
        distance, shares = upward(difference.true_norms**2), None
        if ridge is not None:
            shares = ridge_bound.shares(proof, difference)
        far = None if moves is None else upward(moves[chunk].sum(axis=1))
        lengths = Pairs(np.maximum(distance, SMALLEST), shares, far)
        yield chunk, np.sign(found) * size, lengths


def products(left: NaturalRows, right: NaturalRows) -> tuple[np.ndarray, np.ndarray]:
    """All inner products of natural rows, [M, B], and bounds of their errors."""
    per_norm = upward(gamma(left.rows.shape[1]) * left.norms + left.errors)
    room = per_norm[:, None] * right.norms + left.true_norms[:, None] * right.errors
    return left.rows @ right.rows.T, upward(room)
