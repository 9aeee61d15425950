"""The points of a statement, each once, so that an attack can move them together.

A training example may stand on both sides of a statement (self-influence) or in both
groups, and wherever it stands it is the same point: it moves once. Coefficients of the
same point on one side are added up; they are equal or opposite, so that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from natgeo.certify.bounds import U, row_norms, upward
from natgeo.certify.rounding import Proof
from natgeo.certify.statements import Combination, Statement, combine

TARGET, EXAMPLE = "target", "example"
Name = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Points:
    """What a statement evaluates: u = sum_p left_p x_p and v = sum_p right_p x_p.

    Attributes:
        names: kind and index of each point, `target` or `example`.
        features: stored features x, [P, K], float64.
        left: coefficients of u, [P].
        right: coefficients of v, [P].
    """

    names: tuple[Name, ...]
    features: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Index of each point in the training set, -1 for a target, [P]."""
        return np.array([i if kind == EXAMPLE else -1 for kind, i in self.names])

    @property
    def shared(self) -> bool:
        """Whether some point stands on both sides."""
        return bool(((self.left != 0) & (self.right != 0)).any())

    def limits(self, target: float, examples: float) -> np.ndarray:
        """How far each point may move, [P]."""
        return np.array(
            [target if kind == TARGET else examples for kind, _ in self.names]
        )

    def statement(self, claim: str, features: np.ndarray) -> Statement:
        """The same statement about other features of the points, [P, K]."""
        sides = []
        for factors in (self.left, self.right):
            used = np.flatnonzero(factors)
            if not len(used):
                sides.append(Combination(np.zeros(features.shape[1]), 0.0))
                continue
            vectors, formation = combine(features[None, used], factors[None, used])
            sides.append(Combination(vectors[0], float(formation[0])))
        return Statement(claim, sides[0], sides[1])


def travel(proof: Proof, steps: np.ndarray) -> np.ndarray:
    """Upper bounds of the natural lengths of computed differences, [B, K] -> [B].

    A difference rounds by U times itself; one that is zero is exactly zero.
    """
    lengths = proof.whiten(steps, U * row_norms(steps)).true_norms
    return np.where(steps.any(axis=1), upward(lengths * proof.stretch), 0.0)


def points_of(statement: Statement) -> Points | None:
    """The distinct points of a statement; None if it does not name them."""
    sides = (statement.u, statement.v)
    if not all(side.terms for side in sides):
        return None
    names: dict[Name, int] = {}
    rows: list[np.ndarray] = []
    terms = []
    for place, side in enumerate(sides):
        kind = EXAMPLE if side.of_examples > 0 else TARGET
        for (factor, index), row in zip(side.terms, _features(side), strict=True):
            number = names.setdefault((kind, index), len(names))
            if number == len(rows):
                rows.append(row)
            terms.append((place, number, factor))
    factors = np.zeros((2, len(rows)))
    for place, number, factor in terms:
        factors[place, number] += factor
    return Points(tuple(names), np.array(rows), factors[0], factors[1])


def _features(side: Combination) -> np.ndarray:
    return np.zeros((0, 0)) if side.features is None else side.features
