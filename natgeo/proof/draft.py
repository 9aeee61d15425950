"""The parts of one certificate, collected claim by claim before anything is written.

Witnesses, floors and low-rank moves are guesses that the checker will prove or refuse;
what natgeo itself does not certify is refused here already.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.rankings import Rankings
from natgeo.certify.statements import Statement
from natgeo.certify.threats import (
    Add,
    Delete,
    Euclidean2,
    Moving,
    Replace,
    Wasserstein1,
    Wasserstein2,
    WassersteinInfinity,
)
from natgeo.certify.verdict import CERTIFIED, decide
from natgeo.certify.witness import Counterexample
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.proof import counting, document, language
from natgeo.proof import folder as folder_files
from natgeo.proof.data import Data, weights_digest
from natgeo.proof.recipe import Recipe
from natgeo.store.memory import MemoryStore
from natgeo.types import Threat

_KINDS: dict[type, str] = {
    Wasserstein2: "w2",
    Wasserstein1: "w1",
    Delete: "delete",
    Add: "add",
    Replace: "replace",
    Euclidean2: "euclidean2",
    Moving: "moving",
    WassersteinInfinity: "winf",
}
# The listed pairs are proven with this much to spare, so that a checker whose bounds
# are a little wider proves them too.
SPARE = 1e-6


class Draft:
    """Collects the parts of one certificate."""

    def __init__(self, rankings: Rankings):
        self._rankings, self._geometry = rankings, rankings.geometry
        self._claims: list[dict[str, Any]] = []
        self._counts: list[dict[str, Any]] = []
        self._refutations: list[dict[str, Any]] = []
        self._bulk: dict[str, Any] | None = None
        self._targets: set[int] = set()
        self._known: dict[int, np.ndarray] = {}  # features of targets counted for
        self._sharp = False  # whether a claim depends on the least eigenvalue of Q
        self._witnesses: list[np.ndarray] = []
        self._places: dict[bytes, int] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def claim(self, name: str, statement: Statement, threat: Threat) -> None:
        """Adds a claim that natgeo certifies."""
        verdict = decide(self._rankings.proof, statement, threat)
        if verdict.status != CERTIFIED:
            raise ArgumentError(
                f"{name} is not certified, so no certificate can say that "
                f"{statement.claim} under {threat.describe()}: {verdict.reason}."
            )
        sides = (statement.u.vector, statement.v.vector)
        places = [self._witness(side) for side in sides]
        written = _threat(threat)
        if written["kind"] in language.NEED_NORMS:
            self.arrays["whitener"] = self._geometry.whitener
        self._sharp |= written["kind"] == "euclidean2"
        self._claims.append(
            {**self._said(statement), "threat": written, "witness": places}
        )

    def refute(self, statement: Statement, found: Counterexample) -> None:
        """Adds a displaced training set that breaks a statement."""
        if not found.flips:
            raise ArgumentError(
                f"The counterexample is not proven to break the claim that "
                f"{statement.claim}."
            )
        number, geometry = len(self._refutations), self._geometry
        stored = np.concatenate([np.float64(b) for b in geometry.train.blocks(4096)])
        if np.array_equal(found.displaced, stored):
            raise ArgumentError("The counterexample moves nothing: search for another.")
        moves, directions = _low_rank(found.displaced - stored)
        self.arrays[f"moves-{number}"] = moves
        self.arrays[f"directions-{number}"] = directions
        moved = natural_geometry(
            MemoryStore(stored + moves @ directions), geometry.ridge
        )
        sides = (statement.u.vector, statement.v.vector)
        self._refutations.append(
            {
                **self._said(statement),
                "radius": float(np.nextafter(found.cost * (1 + 2.0**-30), 2)).hex(),
                "floor": _floor(moved).hex(),
                "witness": [self._add(_solve(moved, side)) for side in sides],
                "cost_witness": [self._witness(row) for row in directions],
            }
        )

    def list_pairs(self, pairs: np.ndarray) -> None:
        """Adds pairs that the float64 recipe must prove."""
        if pairs.ndim != 2 or pairs.shape[1:] != (3,) or pairs.dtype.kind not in "iu":
            raise ArgumentError(
                f"pairs has shape {pairs.shape} and dtype {pairs.dtype}: expected "
                f"whole numbers (target, above, below), [P, 3]."
            )
        if not len(pairs):
            raise ArgumentError("pairs is empty: leave it out to list none.")
        self.arrays["pairs"] = pairs.astype(np.int32)
        self.arrays["whitener"] = self._geometry.whitener
        self._targets.update(np.unique(pairs[:, 0]).tolist())
        self._bulk = {"threat": self._of_all_pairs()}

    def count(self, target: int) -> None:
        """Adds the number of all pairs that the float64 recipe proves."""
        rankings, geometry = self._rankings, self._geometry
        target = checks.index("counts", target, rankings.targets.shape[0])
        written, threat = self._of_all_pairs(), rankings.threat
        self._known[target] = rankings.targets.rows(np.array([target]))[0]
        # With some to spare, so that a checker that rounds otherwise finds as many.
        kappa = threat.kappa(rankings.proof) * (1 + SPARE) + 8 * self._recipe.eta
        eps = threat.eps if isinstance(threat, Wasserstein2) else None
        found = counting.proven_pairs(
            self._recipe,
            target,
            Fraction(min(kappa, 1.0)) ** 2,
            None if eps is None else eps * (1 + SPARE),
        )
        self.arrays["whitener"] = geometry.whitener
        self._targets.add(target)
        says = language.count_words(target, found, geometry.train.shape[0])
        self._counts.append(
            {"target": target, "at_least": found, "says": says, "threat": written}
        )

    @cached_property
    def _recipe(self) -> Recipe:
        geometry = self._geometry
        data = Data(geometry.train, self._known)
        return Recipe(data, geometry.whitener, geometry.ridge)

    def _of_all_pairs(self) -> dict[str, Any]:
        """The threat of the rankings, if a file can prove all pairs under it."""
        threat = _threat(self._rankings.threat)
        if threat["kind"] in language.MOVING:
            raise ArgumentError(
                "A certificate file proves single claims under a threat that moves the "
                "evaluated points, not lists or counts of pairs: leave out pairs and "
                "counts, or certify under w2."
            )
        self._sharp |= threat["kind"] == "euclidean2"
        return threat

    def include_features(self) -> None:
        """Adds the training features and their residual weights."""
        train = self._geometry.train
        self.arrays["features"] = np.concatenate(list(train.blocks(4096)))
        if train.column("weights") is not None:
            self.arrays["weights"] = self._geometry.weights

    def body(self, provenance: Mapping[str, str]) -> dict[str, Any]:
        """The contents of `certificate.json`; completes the arrays."""
        parts = self._claims, self._counts, self._refutations, self._bulk
        if not any(parts):
            raise ArgumentError(
                "There is nothing to certify: name claims, pairs or counts."
            )
        geometry = self._geometry
        if self._witnesses:
            self.arrays["witnesses"] = np.stack(self._witnesses)
        return {
            "format": document.FORMAT,
            "version": document.VERSION,
            "data": {
                "features": _identity(geometry.train),
                "weights": weights_digest(geometry.train),
                "targets": self._target_rows(),
                "ridge": geometry.ridge.hex(),
                "floor": _floor(geometry, self._sharp).hex(),
            },
            "claims": self._claims,
            "counts": self._counts,
            "refutations": self._refutations,
            "bulk": self._bulk,
            "provenance": {str(k): str(v) for k, v in provenance.items()},
        }

    def _target_rows(self) -> dict[str, Any] | None:
        if not self._targets:
            return None
        store, indices = self._rankings.targets, sorted(self._targets)
        self.arrays["targets"] = store.rows(np.array(indices))
        named = _identity(store)
        del named["width"]
        return {**named, "indices": indices}

    def _said(self, statement: Statement) -> dict[str, Any]:
        if not statement.about:
            raise ArgumentError(
                f"This statement has no name in a certificate: {statement.claim}. Make "
                f"it with natgeo.statements."
            )
        about = dict(statement.about)
        u, _ = language.sides(about)
        self._targets.update(term.row for term in u if term.target)
        return {"says": statement.claim, "statement": about}

    def _witness(self, vector: np.ndarray) -> int:
        """The row of the witness of a vector in the metric of the stored features."""
        key = vector.tobytes()
        if key not in self._places:
            self._places[key] = self._add(_solve(self._geometry, vector))
        return self._places[key]

    def _add(self, witness: np.ndarray) -> int:
        self._witnesses.append(witness)
        return len(self._witnesses) - 1


def _solve(geometry: NaturalGeometry, vector: np.ndarray) -> np.ndarray:
    """About Q^-1 x, refined twice: a good guess is all that a witness has to be."""
    found = np.zeros_like(vector)
    for _ in range(3):
        rest = vector - geometry.covariance @ found
        found = found + geometry.whitener.T @ (geometry.whitener @ rest)
    return found


def _floor(geometry: NaturalGeometry, sharp: bool = False) -> float:
    """A lower bound of the eigenvalues of Q that a checker can prove.

    The ridge needs no proof, and half the smallest eigenvalue a factorisation; so does
    a sharp one, which fails where Q is too ill-conditioned for it.
    """
    smallest = float(geometry.spectrum[0])
    if sharp:
        return max(float(geometry.ridge), smallest * (1 - 2.0**-10))
    if geometry.ridge > 2.0**-30 * smallest:
        return float(geometry.ridge)
    return smallest / 2


def _low_rank(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves [N, r] and directions [r, K] with the displacement as their product."""
    sketch = moved @ np.random.default_rng(0).standard_normal((moved.shape[1], 4))
    basis = np.linalg.qr(sketch)[0]
    left, sizes, directions = np.linalg.svd(basis.T @ moved, full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    return basis @ (left[:, :rank] * sizes[:rank]), directions[:rank].copy()


def _threat(threat: Threat) -> dict[str, Any]:
    kind = _KINDS.get(type(threat))
    beside = threat.threat if isinstance(threat, Moving) else None
    if kind is None or not (beside is None or isinstance(beside, Wasserstein2)):
        raise ArgumentError(
            f"A certificate has no words for the threat {threat!r}: it knows "
            f"{', '.join(sorted(_KINDS.values()))}, and points that move only beside "
            f"an order-2 ball (w2)."
        )
    values = {
        name: getattr(beside if beside and name == "eps" else threat, name)
        for name in language.THREATS[kind]
    }
    written = {k: v.hex() if isinstance(v, float) else v for k, v in values.items()}
    return {"kind": kind, **written}


def _identity(store: Any) -> dict[str, Any]:
    if store.dtype.name not in folder_files.FLOATS:
        raise DataError(
            f"Features of dtype {store.dtype} cannot be named in a certificate: "
            f"convert them to float32 (exact for bfloat16) and certify those."
        )
    rows, width = store.shape
    digest = store.digest()
    return {"sha256": digest, "rows": rows, "width": width, "dtype": store.dtype.name}
