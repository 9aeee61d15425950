"""Checks a certificate folder against a user's own stores: NumPy and nothing heavier.

Three answers: `valid` (every claim holds, about these data), `other data` (the file is
about other features, weights or targets; if it holds its own copy of them, its claims
were checked on that) and `rejected` (a claim that is about these data is not proven).
FORMAT.md says what a file holds and which inequalities decide.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.display import at_least, at_most, given, visible
from natgeo.errors import ArgumentError
from natgeo.proof import counting, document, language, reading
from natgeo.proof.claims import ExactCheck, Rejected
from natgeo.proof.data import Data, weights_digest
from natgeo.proof.document import Certificate
from natgeo.proof.exact import root_above
from natgeo.proof.recipe import Recipe
from natgeo.store.memory import MemoryStore, as_store

VALID, OTHER, REJECTED = "valid", "other data", "rejected"


@dataclass(frozen=True)
class Finding:
    """What was found about one claim.

    Attributes:
        form: `exact`, `refutation`, `pairs` or `count`.
        says: the claim in words.
        holds: whether it is proven.
        reason: why not, or what it rests on.
    """

    form: str
    says: str
    holds: bool
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """The answer about one certificate.

    Attributes:
        status: `valid`, `other data` or `rejected`.
        findings: one for each claim that was checked.
        notes: what a reader must know about the answer.
        about: the data and the ridge that make the Q of every claim, in words.
    """

    status: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())
    about: str = ""

    @property
    def exit_code(self) -> int:
        """0 if it is valid and about these data, else 1."""
        return 0 if self.status == VALID else 1

    def values(self) -> dict[str, Any]:
        """The answer as plain values, inert in a terminal."""
        return {
            "status": self.status,
            "about": visible(self.about),
            "claims": [
                {
                    "form": found.form,
                    "says": visible(found.says),
                    "holds": found.holds,
                    "reason": visible(found.reason),
                }
                for found in self.findings
            ],
            "notes": [visible(note) for note in self.notes],
        }

    def __str__(self) -> str:
        lines = [f"{self.status}: {self.summary}"]
        lines += [f"  {self.about}"] * bool(self.about)
        for found in self.findings:
            mark = "holds" if found.holds else "rejected"
            lines.append(f"  {mark} ({found.form}): {found.says}; {found.reason}")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(visible(line) for line in lines)

    @property
    def summary(self) -> str:
        """How many claims hold, and about which data, in words."""
        good = sum(found.holds for found in self.findings)
        about = f"{good} of {len(self.findings)} claims hold"
        if self.status != OTHER:
            return about
        if not self.findings:
            return "the certificate is not about these data, and was not checked"
        state = "is valid" if good == len(self.findings) else "is not valid"
        return f"the certificate {state}, but about other data; {about} there"


def check_certificate(
    certificate: str | os.PathLike, features: Any, targets: Any = None
) -> CheckReport:
    """Checks every claim of a certificate against stored features.

    Args:
        certificate: its folder.
        features: the user's own store (or array) of training features.
        targets: the user's own store (or array) of target features. Without it the
            claims are about the target features that the certificate holds.

    Raises:
        ArgumentError: if the certificate is malformed.
        StoreError: if a store is damaged.
        UnfitEnvironmentError: if it needs float64 arithmetic that fails its self-test.
    """
    features = as_store("features", features)
    targets = None if targets is None else as_store("targets", targets)
    try:
        read = reading.read(Path(certificate))
        other = _differences(read, features, targets)
        held = _held(read)
    except language.Malformed as problem:
        raise ArgumentError(
            f"The certificate {certificate} is malformed: {problem}. Ask for it again."
        ) from None
    if other and held is None:
        return CheckReport(OTHER, (), tuple(other), _about(read))
    rows = read.arrays.get("targets", np.zeros((0, read.width)))
    indices = read.targets["indices"] if read.targets else []
    store = features if not other else held
    findings = _findings(read, Data(store, dict(zip(indices, rows, strict=True))))
    if other:
        return CheckReport(OTHER, findings, tuple(other), _about(read))
    notes = []
    if indices and targets is None:
        notes.append(
            "the target features are the certificate's own; pass --targets STORE to "
            "compare them with yours"
        )
    status = VALID if all(found.holds for found in findings) else REJECTED
    return CheckReport(status, findings, tuple(notes), _about(read))


def _about(read: Certificate) -> str:
    return (
        f"Q is the covariance of the {read.rows:,} features with SHA-256 "
        f"{read.digest[:12]}..., and ridge {given(read.ridge)}"
    )


def _differences(read: Certificate, features: Any, targets: Any) -> list[str]:
    """How the user's data differ from those of the certificate, in words."""
    found = []
    if features.digest() != read.digest:
        found.append(
            f"it is about features with SHA-256 {read.digest[:12]}..., the store has "
            f"{features.digest()[:12]}..."
        )
    elif (*features.shape, features.dtype.name) != (read.rows, read.width, read.dtype):
        raise language.Malformed("its sizes are not those of the features it names")
    elif weights_digest(features) != read.weights:
        found.append("it is about other residual weights of the training examples")
    if targets is not None and read.targets is not None:
        if targets.digest() != read.targets["sha256"]:
            found.append(
                f"it is about targets with SHA-256 {read.targets['sha256'][:12]}..., "
                f"the store has {targets.digest()[:12]}..."
            )
        else:
            _compare_targets(read, targets)
    return found


def _compare_targets(read: Certificate, targets: Any) -> None:
    """The rows of a certificate must be those of the store with the same hash."""
    known = read.targets or {}
    same = (targets.shape[0], targets.dtype.name) == (known["rows"], known["dtype"])
    if not same or targets.shape[1] != read.width:
        raise language.Malformed("its sizes are not those of the targets it names")
    rows = targets.rows(np.array(known["indices"]))
    if not np.array_equal(rows, read.arrays["targets"]):
        raise language.Malformed("its target features are not those it names")


def _held(read: Certificate) -> MemoryStore | None:
    """The certificate's own copy of the training features, if it has one."""
    if "features" not in read.arrays:
        return None
    weights = read.arrays.get("weights")
    columns = {} if weights is None else {"weights": weights}
    store = MemoryStore(read.arrays["features"], columns)
    if store.digest() != read.digest or weights_digest(store) != read.weights:
        raise language.Malformed("its copy of the features is not what it names")
    return store


def _findings(read: Certificate, data: Data) -> tuple[Finding, ...]:
    recipe = None
    if document.needs_whitener(read):
        recipe = Recipe(data, read.arrays["whitener"], read.ridge)
    norms = recipe.norms() if recipe is not None else ()
    exact = ExactCheck(read, data, norms)
    found = [_claim(exact, claim) for claim in read.claims]
    found += [
        _refutation(exact, number, part) for number, part in enumerate(read.refutations)
    ]
    if recipe is not None:
        if (threat := read.bulk) is not None:
            found.append(_pairs(exact, recipe, read.arrays["pairs"], threat))
        found += [_count(exact, recipe, count, read.rows) for count in read.counts]
    return tuple(found)


def _claim(exact: ExactCheck, claim: document.Claim) -> Finding:
    says = (
        f"{language.words(claim.statement)} under {language.threat_words(claim.threat)}"
    )
    mixed = claim.threat["kind"] in language.NEED_NORMS

    def proven() -> str:
        square = exact.claim(claim)
        below = at_least(float(root_above(square)) * (1 - 2.0**-50))
        ends = ", the threat by float64 with proven bounds" if mixed else ""
        return f"natural cosine above {below}, by exact arithmetic{ends}"

    return _finding("exact", says, proven)


def _refutation(exact: ExactCheck, number: int, part: document.Refutation) -> Finding:
    says = (
        f"it is not true that {language.words(part.statement)} under every "
        f"distribution within order-2 Wasserstein distance {at_most(part.radius)}"
    )

    def proven() -> str:
        exact.refutation(number)
        return "a displaced training set breaks it, by exact arithmetic"

    return _finding("refutation", says, proven)


def _pairs(
    exact: ExactCheck, recipe: Recipe, pairs: np.ndarray, threat: Mapping[str, Any]
) -> Finding:
    says = (
        f"all {len(pairs):,} listed pairs keep their order under "
        f"{language.threat_words(threat)}"
    )

    def proven() -> str:
        proof = recipe.proven(pairs, *exact.limit_of_all(threat))
        wrong = np.flatnonzero(~proof)
        if len(wrong):
            t, i, j = pairs[wrong[0]].tolist()
            raise Rejected(
                f"pair {wrong[0]} is not proven: for target {t}, {i} over {j} "
                f"(eta = {at_most(recipe.eta)})"
            )
        return f"by float64 with proven bounds (eta = {at_most(recipe.eta)})"

    return _finding("pairs", says, proven)


def _count(
    exact: ExactCheck, recipe: Recipe, count: document.Count, rows: int
) -> Finding:
    words = language.count_words(count.target, count.at_least, rows)
    says = f"{words} under {language.threat_words(count.threat)}"

    def proven() -> str:
        limit = exact.limit_of_all(count.threat)
        found = counting.proven_pairs(recipe, count.target, *limit)
        if not found >= count.at_least:
            raise Rejected(f"only {found} are proven (eta = {at_most(recipe.eta)})")
        return f"{found} by float64 with proven bounds (eta = {at_most(recipe.eta)})"

    return _finding("count", says, proven)


def _finding(form: str, says: str, proven: Callable[[], str]) -> Finding:
    """One finding; anything but a finished proof does not hold."""
    try:
        return Finding(form, says, True, proven())
    except Rejected as problem:
        return Finding(form, says, False, str(problem))
