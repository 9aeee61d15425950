"""The outcome of an attack in values and words; the command has its own tests."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from natgeo.certify import challenge
from natgeo.certify.attacks import DataCounterexample
from natgeo.certify.threats import Delete, Moving, Wasserstein2, WassersteinInfinity
from natgeo.certify.verdict import Verdict
from natgeo.certify.witness import Counterexample
from natgeo.errors import DataError


def moved(**changes):
    base = Counterexample("i beats j", 0.25, 0.2, 1.5, -0.5, True, np.ones((2, 1)))
    return dataclasses.replace(base, **changes)


def edited(**changes):
    base = DataCounterexample(
        "i beats j", "fire", np.ones((2, 1)), np.ones(1), 1.5, -0.5, True, True, 3.0
    )
    return dataclasses.replace(base, **changes)


def verdict(status):
    return Verdict(status, 0.2, 0.3, "i beats j", "fire", "nobody knows", 1e-9)


@pytest.mark.parametrize(
    ("found", "threat", "proven", "status"),
    [
        (moved(), Wasserstein2(0.2), "certified", "certified"),
        (moved(), Wasserstein2(0.2499), "undecided", "undecided"),
        (moved(), Wasserstein2(0.25), "undecided", "refuted"),
        (moved(flips=False), Wasserstein2(0.25), "undecided", "undecided"),
        (edited(), Delete(3), "undecided", "refuted"),
        (edited(inside=False), Delete(2), "undecided", "undecided"),
        (edited(flips=False), Delete(3), "certified", "certified"),
        (moved(), Delete(3), "undecided", "undecided"),
    ],
)
def test_a_status_says_only_what_is_proven(found, threat, proven, status):
    outcome = challenge.values(found, verdict(proven), threat)
    assert outcome["status"] == status
    words = challenge.in_words(outcome)
    assert status.capitalize() in words
    assert ("nobody knows" in words) == (status == "undecided")
    assert ("The flip is proven" in words) == found.flips


@pytest.mark.parametrize(
    ("found", "threat", "words"),
    [
        (moved(), Wasserstein2(0.1), "order-2 natural distance 0.25"),
        (edited(), Delete(3), "3 examples deleted"),
        (edited(), Moving(Delete(3), 0.1, 0.1), "3 examples deleted"),
        (edited(cost=0.1), WassersteinInfinity(0.1), "moves further than 0.1"),
    ],
)
def test_a_cost_is_in_the_units_of_its_threat(found, threat, words):
    outcome = challenge.values(found, verdict("undecided"), threat)
    assert words in challenge.in_words(outcome)


def test_what_cannot_be_answered_is_refused():
    for found in (moved(cost=math.inf), edited(cost=math.nan)):
        with pytest.raises(DataError, match="too ill-conditioned"):
            challenge.values(found, verdict("undecided"), Wasserstein2(0.1))
