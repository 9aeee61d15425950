"""A second checker, written from FORMAT.md alone, with `fractions` and no library code.

It factorises nothing and rounds nothing: Q is exact, and where the format leaves the
proof open (the floor, natural norms, listed pairs) the exact value is computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

Vector = list[Fraction]


def accepts(folder: Path, train: np.ndarray, weights, targets: np.ndarray) -> bool:
    """Whether every claim of a well-formed certificate holds for these data."""
    body = json.loads((folder / "certificate.json").read_bytes())
    arrays = {name: np.load(folder / f"{name}.npy") for name in body["arrays"]}
    data, named = body["data"], body["data"]["targets"]
    if digest(train) != data["features"]["sha256"] or number(data["floor"]) <= 0:
        return False
    found = None if weights is None else hashlib.sha256(weights.astype("<f8").tobytes())
    if data["weights"] != (found and found.hexdigest()):
        return False
    if named is not None and (
        digest(targets) != named["sha256"]
        or not np.array_equal(targets[named["indices"]], arrays["targets"])
    ):
        return False
    r = [Fraction(1)] * len(train) if weights is None else vector(weights)
    facts = Facts(matrix(train), matrix(targets), r, number(data["ridge"]))
    floor = number(data["floor"])
    witnesses = matrix(arrays.get("witnesses", np.zeros((0, 1))))
    return (
        (floor <= facts.ridge or at_least(facts.q, floor))
        and all(claim_holds(facts, c, floor, witnesses, arrays) for c in body["claims"])
        and all(
            refutation_holds(facts, part, floor, witnesses, arrays, number_of)
            for number_of, part in enumerate(body["refutations"])
        )
        and (body["bulk"] is None or pairs_hold(facts, body["bulk"], arrays, floor))
        and all(count_holds(facts, part, arrays, floor) for part in body["counts"])
    )


class Facts:
    """The data as rational numbers."""

    def __init__(self, train, targets, weights, ridge):
        self.train, self.targets, self.weights = train, targets, weights
        self.ridge = ridge
        self.q = covariance(train, ridge)

    def sides(self, s) -> tuple[Vector, Vector]:
        phi, r, kind = self.train, self.weights, s["kind"]

        def weighted(i):
            return [r[i] * x for x in phi[i]]

        if kind == "self_influence_pair":
            i, j = phi[s["above"]], phi[s["below"]]
            return subtract(i, j), add(i, j)
        if kind == "target_pair":
            t = subtract(self.targets[s["more"]], self.targets[s["less"]])
            return t, weighted(s["example"])
        t = self.targets[s["target"]]
        if kind == "proponent":
            return t, weighted(s["example"])
        if kind == "opponent":
            return t, [-x for x in weighted(s["example"])]
        above = [s["above"]] if kind == "pair" else s["above"]
        below = [s["below"]] if kind == "pair" else s["below"]
        v = [Fraction(0)] * len(t)
        for i in above:
            v = add(v, weighted(i))
        for j in below:
            v = subtract(v, weighted(j))
        return t, v

    @cached_property
    def largest_norms(self) -> list[Fraction]:
        squares = [dot(x, solve(self.q, x)) for x in self.train]
        return sorted(squares, reverse=True)

    def kappa_square(self, threat, floor) -> Fraction | None:
        n, kind = len(self.train), threat["kind"]
        if kind in ("w2", "euclidean2", "moving", "winf"):
            e = number(threat["eps"]) ** 2 / (floor if kind == "euclidean2" else 1)
            return e * (2 - e) if e < 1 else None
        if kind == "w1":
            bound = number(threat["support"])
            reach = bound * number(threat["eps"])
            if 2 * reach >= 1 or self.largest_norms[0] > bound**2:
                return None
            return (reach / (1 - reach)) ** 2
        points, h, a = threat["points"], Fraction(0), Fraction(0)
        if kind != "add":
            h = sum(self.largest_norms[:points], Fraction(0)) / n
            if h >= 1 or points >= n:
                return None
        if kind != "delete":
            a = points * number(threat["support"]) ** 2 / n
        return ((a + h) / (2 + a - h)) ** 2

    def moves(self, statement, threat) -> tuple[Fraction, Fraction]:
        """How far the points of both sides move together."""
        far = number(threat["target" if threat["kind"] == "moving" else "eps"])
        near = number(threat["examples" if threat["kind"] == "moving" else "eps"])
        kind, r = statement["kind"], [abs(x) for x in self.weights]
        if kind == "self_influence_pair":
            return 2 * near, 2 * near
        if kind == "target_pair":
            return 2 * far, r[statement["example"]] * near
        if kind in ("proponent", "opponent"):
            return far, r[statement["example"]] * near
        named = [statement["above"], statement["below"]]
        if kind == "group":
            named = statement["above"] + statement["below"]
        return far, sum((r[i] for i in named), Fraction(0)) * near


def claim_holds(facts, claim, floor, witnesses, arrays) -> bool:
    threat = claim["threat"]
    limit = facts.kappa_square(threat, floor)
    if limit is None:
        return False
    if threat["kind"] in ("w1", "delete", "replace") and not (
        eta_of(facts, arrays["whitener"]) < 1
    ):
        return False
    sides = facts.sides(claim["statement"])
    u, v = zip(sides, (witnesses[row] for row in claim["witness"]), strict=True)
    low = enclosure(facts.q, floor, u, v)[0]
    middles, highs = zip(
        *(enclosed_square(facts.q, floor, side) for side in (u, v)), strict=True
    )
    if low <= 0:
        return False
    if threat["kind"] == "w2":
        shares = [
            1 - facts.ridge * lowest_inverse(facts.q, floor, side) / high
            for side, high in zip((u, v), highs, strict=True)
        ]
        if low**2 > second_limit(number(threat["eps"]), sum(shares)) * math.prod(highs):
            return True
    if threat["kind"] in ("moving", "winf"):
        for far, middle in zip(
            facts.moves(claim["statement"], threat), middles, strict=True
        ):
            if middle <= far**2:
                return False
            turn = far**2 / middle
            if limit + turn >= 1:
                return False
            limit = (
                root_above(limit * (1 - turn)) + root_above(turn * (1 - limit))
            ) ** 2
    return low**2 > limit * math.prod(highs)


def enclosed_square(q, floor, side) -> tuple[Fraction, Fraction]:
    """<x, x> without its last term, which is not negative, and from above."""
    middle = sum(enclosure(q, floor, side, side)) / 2
    rest = subtract(side[0], times(q, side[1]))
    return middle, middle + dot(rest, rest) / floor


def lowest_inverse(q, floor, side) -> Fraction:
    """|Q^-1 x|^2 from below."""
    x, z = side
    rest = subtract(x, times(q, z))
    square = dot(z, z)
    return max(
        square - 2 * root_above(square * dot(rest, rest) / floor**2), Fraction(0)
    )


def second_limit(eps, share) -> Fraction:
    """The square of T."""
    h = (1 + root_above(eps**2 * (2 - eps**2))) / 2
    t = 1 / (1 - eps)
    g = t**2 - Fraction(1, 2)
    return (eps * root_above(share) + eps**2 * (h * t + g * share)) ** 2


def refutation_holds(facts, part, floor, witnesses, arrays, place) -> bool:
    a, b = matrix(arrays[f"moves-{place}"]), matrix(arrays[f"directions-{place}"])
    n, rank = len(facts.train), len(b)
    cost = trace = Fraction(0)
    pairs = list(zip(b, (witnesses[row] for row in part["cost_witness"]), strict=True))
    for k in range(rank):
        for m in range(rank):
            weight = sum((row[k] * row[m] for row in a), Fraction(0))
            cost += weight * sum(enclosure(facts.q, floor, pairs[k], pairs[m])) / 2
        trace += sum((row[k] ** 2 for row in a), Fraction(0))
    for side in pairs:
        middle, high = enclosed_square(facts.q, floor, side)
        cost += trace * (high - middle)
    if cost > n * number(part["radius"]) ** 2:
        return False
    moved = [
        add(x, [dot(row, [b[k][c] for k in range(rank)]) for c in range(len(x))])
        for x, row in zip(facts.train, a, strict=True)
    ]
    q, lowest = covariance(moved, facts.ridge), number(part["floor"])
    if lowest <= 0 or not at_least(q, lowest):
        return False
    u, v = facts.sides(part["statement"])
    zu, zv = (witnesses[row] for row in part["witness"])
    return enclosure(q, lowest, (u, zu), (v, zv))[1] < 0


def pairs_hold(facts, bulk, arrays, floor) -> bool:
    proven = whitened_proof(facts, bulk["threat"], arrays, floor)
    return all(
        proven({"kind": "pair", "target": t, "above": i, "below": j})
        for t, i, j in arrays["pairs"].tolist()
    )


def count_holds(facts, part, arrays, floor) -> bool:
    proven = whitened_proof(facts, part["threat"], arrays, floor)
    orders = [
        {"kind": "pair", "target": part["target"], "above": i, "below": j}
        for i in range(len(facts.train))
        for j in range(len(facts.train))
        if i != j
    ]
    return sum(map(proven, orders)) >= part["at_least"]


def whitened_proof(facts, threat, arrays, floor):
    """Whether a pair is proven by the whitener, as a function of its statement."""
    limit, eta = facts.kappa_square(threat, floor), eta_of(facts, arrays["whitener"])
    if limit is None or eta >= 1:
        return lambda statement: False
    whitener = matrix(arrays["whitener"])
    omega = eta * (3 + 2 * eta) / (1 - eta)

    def share(x):
        turned = [dot(column, x) for column in zip(*whitener, strict=True)]
        part = facts.ridge * dot(turned, turned) / dot(x, x)
        return min(Fraction(1), (1 + eta) * (1 - part + omega))

    def proven(statement):
        u, v = ([dot(row, x) for row in whitener] for x in facts.sides(statement))
        product, sizes = dot(u, v), dot(u, u) * dot(v, v)
        if not product > 0:
            return False
        limits = [limit]
        if threat["kind"] == "w2":
            limits.append(second_limit(number(threat["eps"]), share(u) + share(v)))
        return any(
            product**2 > ((root_above(x) + eta) / (1 - eta)) ** 2 * sizes
            for x in limits
        )

    return proven


def enclosure(q, floor, left, right) -> tuple[Fraction, Fraction]:
    """Ends of <x, y>, by the formula of the claims."""
    (x, zx), (y, zy) = left, right
    rx, ry = subtract(x, times(q, zx)), subtract(y, times(q, zy))
    middle = dot(x, zy) + dot(zx, ry)
    room = root_above(dot(rx, rx) * dot(ry, ry) / floor**2)
    return middle - room, middle + room


def eta_of(facts, whitener) -> Fraction:
    """Frobenius norm of R Q R' - I, from above."""
    r = matrix(whitener)
    rq = [times(facts.q, row) for row in r]
    total = Fraction(0)
    for i, row in enumerate(rq):
        for j, other in enumerate(r):
            total += (dot(row, other) - (i == j)) ** 2
    return root_above(total)


def at_least(q, floor) -> bool:
    """Whether Q - floor I has no negative pivot (is positive semidefinite)."""
    rows = [
        [x - floor * (i == j) for j, x in enumerate(row)] for i, row in enumerate(q)
    ]
    for p in range(len(rows)):
        if rows[p][p] <= 0:
            return False
        for i in range(p + 1, len(rows)):
            factor = rows[i][p] / rows[p][p]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[p], strict=True)]
    return True


def solve(q, x) -> Vector:
    rows = [[*row, value] for row, value in zip(q, x, strict=True)]
    size = len(rows)
    for p in range(size):
        rows[p] = [value / rows[p][p] for value in rows[p]]
        for i in range(size):
            if i != p:
                factor = rows[i][p]
                rows[i] = [
                    a - factor * b for a, b in zip(rows[i], rows[p], strict=True)
                ]
    return [row[-1] for row in rows]


def covariance(train, ridge):
    n, k = len(train), len(train[0])
    return [
        [
            sum((row[a] * row[b] for row in train), Fraction(0)) / n + ridge * (a == b)
            for b in range(k)
        ]
        for a in range(k)
    ]


def root_above(square: Fraction) -> Fraction:
    scale = 1 << 400
    return Fraction(
        math.isqrt(square.numerator * scale**2 // square.denominator) + 1
    ) / (scale)


def digest(array: np.ndarray) -> str:
    rows, width = array.shape
    tail = f"{rows} {width} {array.dtype.name}\n".encode()
    return hashlib.sha256(array.tobytes() + tail).hexdigest()


def number(text: str) -> Fraction:
    return Fraction(float.fromhex(text))


def vector(array) -> Vector:
    return [Fraction(float(x)) for x in array]


def matrix(array) -> list[Vector]:
    return [vector(row) for row in array]


def dot(x, y) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def times(q, x) -> Vector:
    return [dot(row, x) for row in q]


def add(x, y) -> Vector:
    return [a + b for a, b in zip(x, y, strict=True)]


def subtract(x, y) -> Vector:
    return [a - b for a, b in zip(x, y, strict=True)]
