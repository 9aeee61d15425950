"""The self-test of this machine's arithmetic, and what its failure does."""

from __future__ import annotations

import numpy as np
import pytest

from natgeo.certify import environment, rounding
from natgeo.errors import UnfitEnvironmentError
from tests import families

CHECKS = {
    "_rounds_to_nearest": "round to nearest",
    "_is_plain_double": "extended precision",
    "_dot_products_within_gamma": "dot products",
    "_products_are_honest": "matrix products",
}


def test_this_machine_passes_every_check():
    found = environment.self_test()
    assert len(found) >= 5
    assert all(found.values()), found


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_one_failed_check_stops_every_proof(monkeypatch, check):
    geometry = families.case("random").geometry()
    monkeypatch.setattr(environment, check, lambda: False)
    with pytest.raises(UnfitEnvironmentError, match=CHECKS[check]) as caught:
        rounding.prove(geometry)
    assert "natgeo doctor" in str(caught.value)
    # The failure is not forgotten by asking again.
    with pytest.raises(UnfitEnvironmentError):
        rounding.prove(geometry)


def test_a_failed_check_stops_the_first_question_asked_of_rankings(monkeypatch):
    rankings = families.case("random").rankings()
    monkeypatch.setattr(environment, "_products_are_honest", lambda: False)
    for question in (
        lambda: rankings.verdict(target=0, above=0, below=1),
        lambda: rankings.fraction,
        lambda: rankings.curve([0.1]),
        lambda: rankings.ranks(0),
        lambda: rankings.top_k(0, 3),
        lambda: rankings.refute(target=0, above=0, below=1),
    ):
        with pytest.raises(UnfitEnvironmentError):
            question()


def test_every_proof_tests_the_machine_again(monkeypatch):
    calls = []
    honest = environment.self_test
    monkeypatch.setattr(environment, "self_test", lambda: calls.append(1) or honest())
    geometry = families.case("random").geometry()
    rounding.prove(geometry)
    rounding.prove(geometry)
    assert calls == [1, 1]


def test_the_gamma_probe_notices_single_precision(monkeypatch):
    # A dot product in float32 is off by far more than gamma(777) of float64.
    honest = np.random.default_rng

    class Rounded:
        def __init__(self, seed):
            self._rng = honest(seed)

        def standard_normal(self, shape):
            return self._rng.standard_normal(shape).view(SingleArray)

        def integers(self, *args):
            return self._rng.integers(*args)

    monkeypatch.setattr(environment.np.random, "default_rng", Rounded)
    assert not environment._dot_products_within_gamma()


class SingleArray(np.ndarray):
    """A float64 array whose products are computed in float32."""

    def __matmul__(self, other):
        left, right = np.asarray(self), np.asarray(other)
        return np.float64(np.float32(left) @ np.float32(right))
