"""Writes certificate folders: statements that natgeo proves, for others to re-check.

What is written is checked before this returns, by the same code that anybody else runs
(`natgeo.proof.checker`), so no file leaves that its own checker would not accept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.pairs import proven_orders
from natgeo.certify.rankings import Rankings
from natgeo.certify.statements import Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.witness import Counterexample
from natgeo.errors import DataError, StoreError
from natgeo.proof import document
from natgeo.proof import folder as folder_files
from natgeo.proof.checker import CheckReport, check_certificate
from natgeo.proof.draft import SPARE, Draft
from natgeo.store.manifest import npy_header, write_atomically
from natgeo.store.memory import little_endian
from natgeo.types import Threat


def write_certificate(
    path: str | os.PathLike,
    rankings: Rankings,
    claims: Sequence[Statement | tuple[Statement, Threat]] = (),
    *,
    refutations: Sequence[tuple[Statement, Counterexample]] = (),
    pairs: Any = None,
    counts: Sequence[int] = (),
    include_features: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> CheckReport:
    """Writes a certificate that `natgeo check` re-checks without JAX.

    Args:
        path: folder to make; it must not exist, or be empty.
        rankings: geometry, targets and threat of what is claimed.
        claims: statements under the threat of `rankings`, or each with its own threat;
            checked in exact arithmetic.
        refutations: statements with a counterexample, as `Rankings.refute` returns it.
        pairs: indices (target, above, below), [P, 3], all certified under the threat of
            `rankings`; checked by the float64 recipe. See `certified_pairs`.
        counts: targets for which the number of certified pairs, of all pairs of
            training examples, is claimed under the threat of `rankings`. Whoever checks
            it counts again in float64 with NumPy: about N^2 (K + 20) steps for each
            target, a few seconds for 4,000 examples.
        include_features: copy the training features into the folder, for people who
            do not have the store.
        provenance: words for people; the checker never uses them.

    Returns:
        What the checker finds in the written folder.

    Raises:
        ArgumentError: if a claim is not certified, nothing is claimed, or a file has
            no words for a threat.
        DataError: if the checker cannot prove what was written; nothing is left.
        StoreError: if the folder is in use or cannot be written.
    """
    folder = Path(path)
    refuse_used(folder)
    draft = Draft(rankings)
    for number, item in enumerate(claims):
        statement, threat = item if isinstance(item, tuple) else (item, rankings.threat)
        draft.claim(f"claims[{number}]", statement, threat)
    for statement, found in refutations:
        draft.refute(statement, found)
    if pairs is not None:
        draft.list_pairs(np.asarray(pairs))
    for target in counts:
        draft.count(target)
    if include_features:
        draft.include_features()
    body = draft.body(provenance or {})
    try:
        _write(folder, body, draft.arrays)
        report = check_certificate(folder, rankings.geometry.train, rankings.targets)
        if report.exit_code != 0:
            raise DataError(
                f"The certificate could not be proven again, so {folder} holds none: "
                f"{report}. Use a larger ridge, or claim less."
            )
    except BaseException:  # an interrupt too: what was not checked is not left
        _take_back(folder, draft.arrays)
        raise
    return report


def certified_pairs(
    rankings: Rankings, target: int, examples: Any, most: int | None = None
) -> np.ndarray:
    """Every certified pair of a target that involves one of some examples.

    Args:
        rankings: geometry, targets and threat.
        target: index of the target.
        examples: indices of training examples.
        most: stop after this many pairs have been looked at.

    Returns:
        Indices (target, above, below), [P, 3], int32.

    Raises:
        ArgumentError: for an index out of range.
    """
    size = rankings.geometry.train.shape[0]
    target = checks.index("target", target, rankings.targets.shape[0])
    seen = np.zeros(size, bool)
    candidates = [np.zeros((0, 2), np.intp)]
    for example in checks.indices("examples", np.asarray(examples), size):
        seen[example] = True
        others = np.flatnonzero(~seen)
        candidates.append(np.stack([np.full(len(others), example), others], axis=1))
    chosen = np.concatenate(candidates)[:most]
    rows = np.asarray(rankings.targets.rows(np.array([target])), np.float64)
    proof = rankings.proof
    threat = rankings.threat
    kappa = threat.kappa(proof) * (1 + SPARE) + 8 * proof.eta
    radius = None
    if isinstance(threat, Wasserstein2):
        radius = threat.eps * (1 + SPARE) + 8 * proof.eta
    order = proven_orders(proof, proof.whiten(rows), chosen, kappa, radius)[0]
    kept, order = chosen[order != 0], order[order != 0]
    kept[order < 0] = kept[order < 0][:, ::-1]
    named = np.full((len(kept), 1), target)
    return np.concatenate([named, kept], axis=1).astype(np.int32)


def refuse_used(folder: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
        StoreError: if it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is in use: name a new folder for the certificate.")


def _take_back(folder: Path, arrays: Iterable[str]) -> None:
    """Removes what `_write` made in a folder that was empty."""
    for name in (document.NAME, *(f"{name}.npy" for name in arrays)):
        (folder / name).unlink(missing_ok=True)


def _write(folder: Path, body: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The arrays first and `certificate.json` last, each completely or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot write {folder}: {error.strerror}.") from None
    listed = {}
    for name, array in arrays.items():
        contents = npy_header(array.dtype.name, array.shape)
        contents += little_endian(array).tobytes()
        write_atomically(folder / f"{name}.npy", contents)
        listed[name] = {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(contents).hexdigest(),
        }
    text = folder_files.canonical({**body, "arrays": listed})
    write_atomically(folder / document.NAME, text)
