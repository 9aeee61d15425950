"""Mutations of what attacks claim of themselves, that the exact checks must notice."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.certify import (
    attacks,
    euclidean_attack,
    infinity_attack,
    moving_attack,
    points,
    refutation,
)
from tests.certify import test_moving, test_refutation
from tests.certify.test_mutations import Mutation


def order_infinity():
    test_refutation.check_some("winf")


def raw():
    test_refutation.check_some("euclidean2")


def additions():
    test_refutation.check_some("add")


def unequal():
    test_refutation.check_some("moving", "moving, delete")


def overlapping():
    test_refutation.check_both_groups("winf")


other_moves = test_moving.check_other_moves
overshoot = test_refutation.check_overshoot
wrong_whitener = test_refutation.check_with_a_wrong_whitener
longest = test_refutation.check_longest_move
support = test_refutation.check_support
counted = test_refutation.check_count_of_changes
between = test_refutation.check_between_proof_and_attack

MUTATIONS = [
    Mutation(*entry)
    for entry in [
        (points, "travel", "lengths * proof.stretch", "lengths", wrong_whitener),
        (points, "travel", "steps.any", "steps.all", longest),
        (points, "points_of", "] += factor", "] = factor", overlapping),
        (points, "Points.limits", "target if", "examples if", unequal),
        (infinity_attack, "_cost", "np.maximum(longest, ", "max(0.0, ", longest),
        (infinity_attack, "_cost", "longest, travel", "longest, 0 * travel", longest),
        (
            infinity_attack,
            "_built",
            "moved[named] = rows[points.places[named]]",
            "pass",
            order_infinity,
        ),
        (infinity_attack, "_checked", "cost <= threat.target", "True", overshoot),
        (
            infinity_attack,
            "_checked",
            "gap_is_negative(prove(after), there)",
            "gap_is_negative(prove(after), statement)",
            order_infinity,
        ),
        (moving_attack, "_joined", " and within", "", overshoot),
        (moving_attack, "_joined", "type(threat) is Moving", "True", other_moves),
        (euclidean_attack, "_checked", "cost <= threat.eps", "True", raw),
        (euclidean_attack, "_checked", "np.sqrt(len(travel))", "len(travel)", raw),
        (attacks, "_checked", "inside and cost <= allowed", "inside", counted),
        (attacks, "_checked", "_within(proof, new, threat.support)", "True", overshoot),
        (attacks, "_checked", "upward(moves.sum() / len(rows))", "0.0", overshoot),
        (attacks, "_within", " * proof.stretch", "", support),
        (attacks, "_filled", "ridge / power", "ridge", additions),
        (
            refutation,
            "decide_or_refute",
            "found.flips and found.inside",
            "found.flips",
            overshoot,
        ),
        (
            refutation,
            "decide_or_refute",
            "witness.flips and inside",
            "witness.flips",
            between,
        ),
    ]
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutated_attack_is_noticed(mutation, monkeypatch):
    mutation.apply(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        mutation.check()
