"""The outcome of an attack in values and words; the command has its own tests."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from natgeo.certify import challenge
from natgeo.certify.witness import Counterexample
from natgeo.errors import ArgumentError, DataError


def found(**changes):
    base = Counterexample("i beats j", 0.25, 0.2, 1.5, -0.5, True, np.ones((2, 1)))
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "eps", "status"),
    [
        ({}, 0.2, "certified"),  # a printed radius is itself certified
        ({}, 0.2001, "undecided"),
        ({}, 0.25, "refuted"),
        ({"flips": False}, 0.25, "undecided"),
        ({"radius": 0.0, "flips": False}, 0.0, "undecided"),
        ({"radius": 0.0, "cost": 0.1}, 0.1, "refuted"),
    ],
)
def test_a_status_says_only_what_is_proven(changes, eps, status):
    outcome = challenge.values(found(**changes), eps)
    assert outcome["status"] == status
    assert status.capitalize() in challenge.in_words(outcome)


def test_without_a_radius_there_is_no_status():
    outcome = challenge.values(found())
    assert "status" not in outcome
    words = challenge.in_words(outcome)
    assert "Certified up to order-2 radius 0.2." in words
    assert "cost 0.25" in words
    assert "The flip is proven" in words
    words = challenge.in_words(challenge.values(found(flips=False)))
    assert "The flip is not proven" in words


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(DataError, match="too ill-conditioned"):
        challenge.values(found(cost=math.inf))
    with pytest.raises(ArgumentError, match="eps"):
        challenge.values(found(), math.nan)
