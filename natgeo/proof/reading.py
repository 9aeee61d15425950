"""Reads a certificate folder and checks its form, not yet its truth.

Every key set is exact, every index in range, every array has the one shape and dtype
that the claims give it (FORMAT.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.proof import language
from natgeo.proof.document import (
    FORMAT,
    NAME,
    VERSION,
    Certificate,
    Claim,
    Count,
    Refutation,
    needs_whitener,
)
from natgeo.proof.folder import FLOATS, read_json, read_listed, sha256
from natgeo.proof.language import Malformed, exactly, hexadecimal, whole

_WIDEST_MOVE = 8
_TOP = (
    "arrays",
    "bulk",
    "claims",
    "counts",
    "data",
    "format",
    "provenance",
    "refutations",
    "version",
)


def read(folder: Path) -> Certificate:
    """Reads a certificate.

    Raises:
        Malformed: if anything is not what FORMAT.md allows.
    """
    body = read_json(folder / NAME)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise Malformed(f"{NAME} is not a natgeo certificate")
    if type(body.get("version")) is not int or body["version"] != VERSION:
        raise Malformed(
            f"it has format version {body.get('version')!r}, and this natgeo reads "
            f"version {VERSION}"
        )
    exactly(body, _TOP, NAME)
    return _certificate(body, folder)


def _certificate(body: Mapping[str, Any], folder: Path) -> Certificate:
    data = exactly(
        body["data"], ("features", "floor", "ridge", "targets", "weights"), "data"
    )
    features = exactly(
        data["features"], ("dtype", "rows", "sha256", "width"), "data.features"
    )
    rows = whole(features["rows"], "data.features.rows")
    width = whole(features["width"], "data.features.width")
    if rows == 0 or width == 0 or features["dtype"] not in FLOATS:
        raise Malformed("data.features are empty or of an unknown dtype")
    if data["weights"] is not None:
        sha256(data["weights"], "data.weights")
    targets = _targets(data["targets"])
    _provenance(body["provenance"])
    bulk = body["bulk"]
    if bulk is not None:
        bulk = _of_all_pairs(exactly(bulk, ("threat",), "bulk")["threat"], "bulk")
    sizes = (rows, targets["rows"] if targets else 0)
    claims = [_claim(x, n, sizes) for n, x in enumerate(_list(body, "claims"))]
    counts = [_count(x, n, sizes) for n, x in enumerate(_list(body, "counts"))]
    refuted = [_refuted(x, n, sizes) for n, x in enumerate(_list(body, "refutations"))]
    arrays = _arrays(body["arrays"], folder)
    found = Certificate(
        digest=sha256(features["sha256"], "data.features"),
        rows=rows,
        width=width,
        dtype=features["dtype"],
        weights=data["weights"],
        targets=targets,
        ridge=hexadecimal(data["ridge"], "data.ridge"),
        floor=hexadecimal(data["floor"], "data.floor"),
        arrays=arrays,
        claims=tuple(claims),
        counts=tuple(counts),
        refutations=tuple(
            Refutation(
                **part,
                moves=_array(arrays, f"moves-{n}"),
                directions=_array(arrays, f"directions-{n}"),
            )
            for n, part in enumerate(refuted)
        ),
        bulk=bulk,
    )
    _check_arrays(found)
    return found


def _claim(value: Any, number: int, sizes: tuple[int, int]) -> Claim:
    where = f"claims[{number}]"
    exactly(value, ("says", "statement", "threat", "witness"), where)
    statement = language.statement(value["statement"], where, *sizes)
    _same_words(value["says"], statement, where)
    witness = _places(value["witness"], where)
    if len(witness) != 2:
        raise Malformed(f"{where} needs two witnesses")
    threat = language.threat(value["threat"], where)
    return Claim(statement, threat, (witness[0], witness[1]))


def _count(value: Any, number: int, sizes: tuple[int, int]) -> Count:
    where, (rows, targets) = f"counts[{number}]", sizes
    exactly(value, ("at_least", "says", "target", "threat"), where)
    target = whole(value["target"], f"{where}.target", targets)
    pairs = rows * (rows - 1) // 2
    at_least = whole(value["at_least"], f"{where}.at_least", pairs + 1)
    if value["says"] != language.count_words(target, at_least, rows):
        raise Malformed(f"{where} says {value['says']!r}, which is not what it claims")
    return Count(target, at_least, _of_all_pairs(value["threat"], where))


def _of_all_pairs(value: Any, where: str) -> Mapping[str, Any]:
    threat = language.threat(value, where)
    if threat["kind"] in language.MOVING:
        raise Malformed(f"{where} has a threat that is for single claims only")
    return threat


def _refuted(value: Any, number: int, sizes: tuple[int, int]) -> dict[str, Any]:
    where = f"refutations[{number}]"
    keys = ("cost_witness", "floor", "radius", "says", "statement", "witness")
    exactly(value, keys, where)
    statement = language.statement(value["statement"], where, *sizes)
    _same_words(value["says"], statement, where)
    witness = _places(value["witness"], where)
    cost = _places(value["cost_witness"], where)
    if len(witness) != 2:
        raise Malformed(f"{where} needs two witnesses")
    return {
        "statement": statement,
        "radius": hexadecimal(value["radius"], f"{where}.radius"),
        "floor": hexadecimal(value["floor"], f"{where}.floor"),
        "witness": (witness[0], witness[1]),
        "cost_witness": tuple(cost),
    }


def _same_words(says: Any, statement: Mapping[str, Any], where: str) -> None:
    if says != language.words(statement):
        raise Malformed(f"{where} says {says!r}, which is not what it claims")


def _targets(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    exactly(value, ("dtype", "indices", "rows", "sha256"), "data.targets")
    sha256(value["sha256"], "data.targets")
    rows = whole(value["rows"], "data.targets.rows")
    indices = _list(value, "indices")
    for index in indices:
        whole(index, "data.targets.indices", rows)
    if value["dtype"] not in FLOATS or indices != sorted(set(indices)) or not indices:
        raise Malformed("data.targets must list rising indices and a known dtype")
    return value


def _arrays(value: Any, folder: Path) -> dict[str, np.ndarray]:
    if not isinstance(value, dict):
        raise Malformed("arrays is not an object")
    return {name: read_listed(folder, name, entry) for name, entry in value.items()}


def _check_arrays(found: Certificate) -> None:
    """Exactly the arrays that the claims need, with the shapes they must have."""
    n, k = found.rows, found.width
    parts = (found.claims, found.counts, found.refutations, found.bulk)
    if all(part in ((), None) for part in parts):
        raise Malformed("it claims nothing")
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    if found.claims or found.refutations:
        count = len(_array(found.arrays, "witnesses"))
        shapes["witnesses"] = ((count, k), "float64")
    if needs_whitener(found):
        shapes["whitener"] = ((k, k), "float64")
    if found.bulk is not None:
        shapes["pairs"] = ((len(_array(found.arrays, "pairs")), 3), "int32")
    if found.targets is not None:
        size = len(found.targets["indices"])
        shapes["targets"] = ((size, k), found.targets["dtype"])
    for number, refuted in enumerate(found.refutations):
        rank = len(refuted.directions)
        if rank > _WIDEST_MOVE or len(refuted.cost_witness) != rank:
            raise Malformed(f"refutations[{number}] has {rank} directions")
        shapes[f"moves-{number}"] = ((n, rank), "float64")
        shapes[f"directions-{number}"] = ((rank, k), "float64")
    if "features" in found.arrays:
        shapes["features"] = ((n, k), found.dtype)
        if found.weights is not None:
            shapes["weights"] = ((n,), "float64")
    exactly(dict(found.arrays), tuple(shapes), "arrays")
    for name, (shape, dtype) in shapes.items():
        array = found.arrays[name]
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise Malformed(
                f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}"
            )
    _check_places(found)


def _check_places(found: Certificate) -> None:
    count = len(found.arrays.get("witnesses", ()))
    used = [place for claim in found.claims for place in claim.witness]
    for refuted in found.refutations:
        used += [*refuted.witness, *refuted.cost_witness]
    for place in used:
        whole(place, "a row of the witnesses", count)
    known = set(found.targets["indices"]) if found.targets else set()
    statements = [claim.statement for claim in found.claims]
    statements += [refuted.statement for refuted in found.refutations]
    terms = (term for one in statements for term in language.sides(one)[0])
    named = {term.row for term in terms if term.target}
    named |= {count.target for count in found.counts}
    if named - known:
        raise Malformed(f"target {min(named - known)} is not among the targets listed")
    if found.bulk is not None:
        pairs, size = found.arrays["pairs"], len(found.arrays.get("targets", ()))
        top = np.array([found.targets["rows"] if found.targets else 0, found.rows])
        if (pairs < 0).any() or (pairs >= top[[0, 1, 1]]).any():
            raise Malformed("pairs holds an index out of range")
        if size == 0 or not np.isin(pairs[:, 0], list(known)).all():
            raise Malformed("pairs holds a target that is not among those listed")


def _array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays or arrays[name].ndim != 2 or not len(arrays[name]):
        raise Malformed(f"the array {name} is missing, empty or not a matrix")
    return arrays[name]


def _places(value: Any, where: str) -> list[int]:
    if not isinstance(value, list):
        raise Malformed(f"{where} is not a list of whole numbers")
    return [whole(item, where) for item in value]


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(body[name], list):
        raise Malformed(f"{name} is not a list")
    return body[name]


def _provenance(value: Any) -> None:
    """Read by people alone; it must only be an object of texts."""
    if not isinstance(value, dict) or not all(
        isinstance(x, str) for x in value.values()
    ):
        raise Malformed("provenance is not an object of texts")
