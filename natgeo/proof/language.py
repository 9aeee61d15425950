"""What a certificate may claim: statements and threats as plain values.

A statement is a mapping with a `kind` and indices; from these alone the checker derives
the two vectors u and v, and the words. Whatever a file says beside them is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from natgeo.display import given

# Kind -> the names of its indices, in the order in which the words use them.
KINDS = {
    "pair": ("target", "above", "below"),
    "proponent": ("target", "example"),
    "opponent": ("target", "example"),
    "group": ("target", "above", "below"),
    "target_pair": ("more", "less", "example"),
    "self_influence_pair": ("above", "below"),
}
# Kind -> the names of its numbers; eps and support are floats, points is whole.
THREATS = {
    "w2": ("eps",),
    "w1": ("eps", "support"),
    "delete": ("points",),
    "add": ("points", "support"),
    "replace": ("points", "support"),
    "euclidean2": ("eps",),
    "moving": ("eps", "examples", "target"),
    "winf": ("eps",),
}
# Threats that depend on the statement: for single claims only, not for all pairs.
MOVING = ("moving", "winf")
# Threats whose kappa depends on the natural norms of all training features.
NEED_NORMS = ("w1", "delete", "replace")
_OF_TARGETS = ("target", "more", "less")
_LARGEST = 2**31


class Malformed(Exception):
    """Something in a certificate is not what its format allows."""


class Term(NamedTuple):
    """A feature row with its sign: of a target, or of a training example.

    Attributes:
        sign: 1 or -1.
        target: whether the row is a target's.
        row: its index.
        weighted: whether its residual weight multiplies it.
    """

    sign: int
    target: bool
    row: int
    weighted: bool


def exactly(value: Any, names: tuple[str, ...], where: str) -> Mapping[str, Any]:
    """An object with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(names):
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise Malformed(f"{where} must have exactly the keys {sorted(names)}: {found}")
    return value


def whole(value: Any, where: str, below: int = _LARGEST) -> int:
    """A whole number in [0, below)."""
    if type(value) is not int or not 0 <= value < below:
        raise Malformed(f"{where} is {value!r}: expected 0 to {below - 1}")
    return value


def hexadecimal(value: Any, where: str) -> float:
    """A finite number >= 0 in the one form that `float.hex` gives it."""
    try:
        number = float.fromhex(value)
    except (TypeError, ValueError, OverflowError):
        raise Malformed(f"{where} is {value!r}: expected a hexadecimal float") from None
    positive = math.isfinite(number) and math.copysign(1, number) > 0
    if not (positive and number.hex() == value):
        raise Malformed(f"{where} is {value!r}: not canonical, or not finite and >= 0")
    return number


def statement(value: Any, where: str, rows: int, targets: int) -> Mapping[str, Any]:
    """A statement about `rows` training examples and `targets` targets, checked."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise Malformed(f"{where} has no known kind: {kind!r}")
    exactly(value, ("kind", *KINDS[kind]), where)
    for name in KINDS[kind]:
        size = targets if name in _OF_TARGETS else rows
        if kind == "group" and name != "target":
            if not isinstance(value[name], list):
                raise Malformed(f"{where}.{name} is not a list")
            for index in value[name]:
                whole(index, f"{where}.{name}", size)
            if len(set(value[name])) != len(value[name]):
                raise Malformed(f"{where}.{name} lists an example twice")
        else:
            whole(value[name], f"{where}.{name}", size)
    if kind == "group" and not value["above"] and not value["below"]:
        raise Malformed(f"{where} compares two empty groups")
    return value


def threat(value: Any, where: str) -> Mapping[str, Any]:
    """A threat with its numbers as floats and whole numbers, checked."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in THREATS:
        raise Malformed(f"{where} has no known kind: {kind!r}")
    exactly(value, ("kind", *THREATS[kind]), where)
    read = {
        name: whole(value[name], f"{where}.{name}")
        if name == "points"
        else hexadecimal(value[name], f"{where}.{name}")
        for name in THREATS[kind]
    }
    return {"kind": kind, **read}


def sides(claim: Mapping[str, Any]) -> tuple[list[Term], list[Term]]:
    """The vectors u and v of a statement, as signed rows; it says that u'Mv > 0."""
    kind = claim["kind"]
    if kind == "self_influence_pair":
        i, j = claim["above"], claim["below"]
        return (
            [Term(1, False, i, False), Term(-1, False, j, False)],
            [Term(1, False, i, False), Term(1, False, j, False)],
        )
    if kind == "target_pair":
        u = [Term(1, True, claim["more"], False), Term(-1, True, claim["less"], False)]
        return u, [Term(1, False, claim["example"], True)]
    u = [Term(1, True, claim["target"], False)]
    if kind in ("proponent", "opponent"):
        sign = 1 if kind == "proponent" else -1
        return u, [Term(sign, False, claim["example"], True)]
    above, below = claim["above"], claim["below"]
    if kind == "pair":
        above, below = [above], [below]
    plus = [Term(1, False, i, True) for i in above]
    return u, plus + [Term(-1, False, j, True) for j in below]


def words(claim: Mapping[str, Any]) -> str:
    """The statement in words."""
    texts = {
        "pair": "for target {target}, training example {above} keeps a larger score "
        "than {below}",
        "proponent": "training example {example} keeps a positive score for target "
        "{target}",
        "opponent": "training example {example} keeps a negative score for target "
        "{target}",
        "target_pair": "training example {example} keeps a larger score for target "
        "{more} than for {less}",
        "self_influence_pair": "training example {above} keeps a larger self-influence "
        "than {below}",
        "group": "for target {target}, the {above} examples of the first group keep a "
        "larger total score than the {below} of the second",
    }
    shown = dict(claim)
    if claim["kind"] == "group":
        shown.update(above=len(claim["above"]), below=len(claim["below"]))
    return texts[claim["kind"]].format(**shown)


def count_words(target: int, at_least: int, rows: int) -> str:
    """What a count of certified pairs says."""
    return (
        f"for target {target}, at least {at_least} of all {rows * (rows - 1) // 2} "
        f"pairs of training examples keep their order"
    )


def threat_words(threat: Mapping[str, Any]) -> str:
    """The threat in words."""
    number = {name: given(x) for name, x in threat.items() if isinstance(x, float)}
    points = threat.get("points")
    return {
        "w2": "every distribution of features within order-2 Wasserstein distance "
        "{eps} of the stored ones, measured by the fixed metric Q^-1",
        "w1": "every distribution of features within order-1 Wasserstein distance "
        "{eps} of the stored ones, measured by the fixed metric Q^-1, on the "
        "assumption that no natural norm exceeds {support}",
        "delete": "the deletion of any {points} training examples",
        "add": "the addition of any {points} training examples whose natural norm is "
        "at most {support}",
        "replace": "the replacement of any {points} training examples by others whose "
        "natural norm is at most {support}",
        "euclidean2": "every distribution of features within order-2 Wasserstein "
        "distance {eps} of the stored ones in raw, Euclidean feature space, covered by "
        "the natural ball that is larger by the spectral amplification "
        "1 / sqrt(lambda_min(Q))",
        "moving": "every distribution of features within order-2 Wasserstein distance "
        "{eps} of the stored ones, measured by the fixed metric Q^-1, while every "
        "target may move by natural distance {target} and every training example that "
        "the claim names by {examples}",
        "winf": "every training set in which each example is moved by at most natural "
        "distance {eps} (order-infinity Wasserstein), the examples that the claim "
        "names among them, and the target by as much; distances are measured by the "
        "fixed metric Q^-1",
    }[threat["kind"]].format(points=points, **number)
