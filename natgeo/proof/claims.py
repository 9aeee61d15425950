"""Checks claims and refutations in exact rationals (`forms.py`), with no tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from natgeo.display import at_least
from natgeo.proof import language, thresholds
from natgeo.proof.data import Data
from natgeo.proof.document import Certificate, Claim, Refutation
from natgeo.proof.exact import Integers, integers, limbs, root_above
from natgeo.proof.forms import Solved, is_floor, solved
from natgeo.proof.thresholds import Facts

_BLOCK = 512


class Rejected(Exception):
    """A claim is well formed and its proof does not hold."""


class ExactCheck:
    """Checks the exact claims of one certificate against one set of data."""

    def __init__(
        self,
        certificate: Certificate,
        data: Data,
        norms: tuple[Fraction, ...] = (),
    ):
        self._certificate, self._data, self._norms = certificate, data, norms
        self._count = certificate.rows
        self._ridge = integers(np.array([certificate.ridge]))
        self._floor = Fraction(certificate.floor)

    def claim(self, claim: Claim) -> Fraction:
        """A proven lower bound of the squared cosine of a claim that holds.

        Raises:
            Rejected: if it is not proven.
        """
        self._need_floor()
        u, v = (
            self._solved(x, place)
            for x, place in zip(
                self._sides(claim.statement), claim.witness, strict=True
            )
        )
        lowest = u.form(v) - u.room(v)
        if not lowest > 0:
            raise Rejected("it is not proven of the stored data themselves")
        limit = self._needed(claim, u, v)
        if limit is None:
            raise Rejected("its threat is beyond what the theorem can certify")
        square = lowest * lowest / (u.longest() * v.longest())
        if not square > limit:
            raise Rejected(
                f"its cosine is proven above {_root(square)} only; the threat needs "
                f"more than {_root(limit)}"
            )
        return square

    def limit_of_all(self, threat: Mapping[str, Any]) -> tuple[Fraction, float | None]:
        """The square that every cosine must exceed, and the radius if of order 2.

        Raises:
            Rejected: if nothing can hold under the threat.
        """
        if threat["kind"] == "euclidean2":
            self._need_floor()
        closed = self._closed(threat)
        if closed is None:
            raise Rejected("its threat is beyond what the theorem can certify")
        return closed, threat["eps"] if threat["kind"] == "w2" else None

    def _closed(self, threat: Mapping[str, Any]) -> Fraction | None:
        facts = Facts(self._count, self._floor, self._norms)
        return thresholds.kappa_square(threat, facts)

    def _needed(self, claim: Claim, u: Solved, v: Solved) -> Fraction | None:
        """The square that the cosine must exceed; None if nothing can hold."""
        threat, closed = claim.threat, self._closed(claim.threat)
        if closed is None:
            return None
        if threat["kind"] in language.MOVING:
            turns = self._turns(claim, u, v)
            return thresholds.added_square([closed, *turns])
        ridge = self._ridge.entry(0)
        if threat["kind"] != "w2" or not ridge:
            return closed
        share = u.share(ridge, self._floor) + v.share(ridge, self._floor)
        return min(closed, thresholds.ridge_square(Fraction(threat["eps"]), share))

    def _turns(self, claim: Claim, u: Solved, v: Solved) -> list[Fraction]:
        """sin^2 of the angles by which the points of both sides can turn them."""
        target, example = thresholds.distances(claim.threat)
        found = []
        for side, terms in zip((u, v), language.sides(claim.statement), strict=True):
            moved = (
                target if term.target else example * abs(self._weight(term))
                for term in terms
            )
            found.append(side.turn_square(sum(moved, Fraction(0))))
        return found

    def _weight(self, term: language.Term) -> Fraction:
        return Fraction(self._data.weights[term.row]) if term.weighted else Fraction(1)

    def refutation(self, number: int) -> Fraction:
        """The negative gap of the displaced data, at most, as an exact number.

        Raises:
            Rejected: if the move costs more than it says, or does not break the claim.
        """
        refuted = self._certificate.refutations[number]
        self._need_floor()
        self._check_cost(number, refuted)
        moved = _Moved(self, number, refuted)
        u, v = moved.solved()
        highest = u.form(v) + u.room(v)
        if not highest < 0:
            raise Rejected("the displaced data are not proven to break it")
        return highest

    def _check_cost(self, number: int, refuted: Refutation) -> None:
        """N cost^2 = sum_kl (A'A)_kl b_k'Q^-1 b_l <= N radius^2, for moves A."""
        directions = integers(refuted.directions)
        solved = [
            self._solved(directions[k], place)
            for k, place in enumerate(refuted.cost_witness)
        ]
        weight, total = self._weights[number], Fraction(0)
        for k, left in enumerate(solved):
            for m, right in enumerate(solved):
                total += weight.entry(k, m) * left.form(right)
        # tr(A'A rest) <= tr(A'A) tr(rest), both positive semidefinite.
        trace = self._moves[number].squared()
        total += trace * sum((part.slack for part in solved), Fraction(0))
        if not total <= self._count * Fraction(refuted.radius) ** 2:
            raise Rejected("its displacement is not proven to cost what it states")

    @cached_property
    def _weights(self) -> list[Integers]:
        """A'A for all moves A."""
        return [moves.transposed @ moves for moves in self._moves]

    @cached_property
    def _moves(self) -> list[Integers]:
        return [integers(part.moves) for part in self._certificate.refutations]

    @cached_property
    def _witnesses(self) -> Integers:
        return integers(self._certificate.arrays["witnesses"])

    @cached_property
    def _products(self) -> tuple[Integers, list[Integers]]:
        """Phi'Phi Z' for all witnesses Z, [K, V], and Phi'A for all moves A, [K, r]."""
        z = limbs(self._certificate.arrays["witnesses"].T)
        width, start = self._certificate.width, 0
        applied = _zeros(width, z.limbs.shape[2])
        moves = [part.moves for part in self._certificate.refutations]
        crossed = [_zeros(width, part.shape[1]) for part in moves]
        for block in self._data.blocks(_BLOCK):
            x = limbs(block)
            applied += (x.transposed @ (x @ z)).integers()
            for k, part in enumerate(moves):
                rows = limbs(part[start : start + len(block)])
                crossed[k] += (x.transposed @ rows).integers()
            start += len(block)
        return applied, crossed

    @cached_property
    def _gram(self) -> Integers:
        """Phi'Phi, [K, K]."""
        total = _zeros(self._certificate.width, self._certificate.width)
        for block in self._data.blocks(_BLOCK):
            total += limbs(block).gram.integers()
        return total

    @cached_property
    def _floor_is_proven(self) -> bool:
        return is_floor(lambda: self._gram, self._count, self._ridge, self._floor)

    def _need_floor(self) -> None:
        if not self._floor_is_proven:
            raise Rejected("its lower bound of the covariance is not proven")

    def _solved(self, x: Integers, place: int) -> Solved:
        z = self._witnesses[place]
        applied = self._products[0].transposed[place]
        return solved(x, z, applied, self._count, self._ridge, self._floor)

    def _sides(self, statement: Mapping) -> tuple[Integers, Integers]:
        u, v = language.sides(statement)
        return self._combined(u), self._combined(v)

    def _combined(self, terms: list[language.Term]) -> Integers:
        total = integers(np.zeros(self._certificate.width))
        for term in terms:
            row = integers(self._data.row(term)) * term.sign
            if term.weighted:
                row = row * integers(self._data.weights[term.row : term.row + 1])
            total += row
        return total


class _Moved:
    """The covariance of displaced features Phi + A B, for A [N, r] and B [r, K].

    N Q' = N Q + C B + (C B)' + B'(A'A) B with C = Phi'A: nothing of size N x K.
    """

    def __init__(self, check: ExactCheck, number: int, refuted: Refutation):
        self._check, self._refuted = check, refuted
        self._directions = integers(refuted.directions)
        self._crossed = check._products[1][number]
        self._weight = check._weights[number]

    def solved(self) -> tuple[Solved, Solved]:
        """The two sides of the statement under the displaced covariance."""
        check, floor = self._check, Fraction(self._refuted.floor)
        if not is_floor(lambda: self._gram, check._count, check._ridge, floor):
            raise Rejected("the floor of its displaced covariance is not proven")
        sides = check._sides(self._refuted.statement)
        left, right = (
            self._one(x, place, floor)
            for x, place in zip(sides, self._refuted.witness, strict=True)
        )
        return left, right

    def _one(self, x: Integers, place: int, floor: Fraction) -> Solved:
        z = self._check._witnesses[place]
        b, c = self._directions, self._crossed
        turned = b @ z
        applied = self._check._products[0].transposed[place]
        applied = applied + c @ turned
        applied = applied + b.transposed @ (c.transposed @ z + self._weight @ turned)
        return solved(x, z, applied, self._check._count, self._check._ridge, floor)

    @property
    def _gram(self) -> Integers:
        b = self._directions
        cross = self._crossed @ b
        square = b.transposed @ (self._weight @ b)
        return self._check._gram + cross + cross.transposed + square


def _zeros(rows: int, columns: int) -> Integers:
    return Integers(np.zeros((rows, columns), object), 0)


def _root(square: Fraction) -> str:
    return at_least(float(root_above(square)))
