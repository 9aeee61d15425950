"""The Euclidean ball: a proven amplification, and attacks in raw feature space."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import natgeo as ng
from natgeo.certify import spectral
from natgeo.certify.bounds import norm, norm_from_below
from natgeo.certify.rounding import prove
from natgeo.certify.threats import Euclidean2, Wasserstein2
from tests import oracles
from tests.certify import test_rounding


def check_spectral_norm():
    rng = np.random.default_rng(6)
    for size in (1, 2, 7, 60):
        for power in (0, 3, 8):
            left = np.linalg.qr(rng.normal(size=(size, size)))[0]
            right = np.linalg.qr(rng.normal(size=(size, size)))[0]
            matrix = left * np.geomspace(1, 10.0**-power, size) @ right
            for scale in (1.0, 1e120, 1e-120):
                exact = np.linalg.norm(matrix, 2) * scale
                found = spectral.spectral_norm(matrix * scale)
                assert exact * (1 - 1e-13) <= found <= exact * 1.01
                assert found <= norm(matrix * scale) * (1 + 1e-9)


def test_the_spectral_norm_is_bounded_closely():
    check_spectral_norm()


def test_the_spectral_norm_counts_the_rounding_of_its_products(monkeypatch):
    """With exact products lost by gamma, the bound must still cover the truth."""
    matrix = np.random.default_rng(0).normal(size=(40, 40))
    exact = np.linalg.norm(matrix, 2)
    plain = spectral.spectral_norm(matrix)
    monkeypatch.setattr(spectral, "gamma", lambda count: 1e-3)
    assert spectral.spectral_norm(matrix) > plain > exact


def test_hostile_matrices():
    assert spectral.spectral_norm(np.zeros((3, 3))) <= 1e-250
    assert not np.isfinite(spectral.spectral_norm(np.full((2, 2), np.inf)))
    assert np.isnan(spectral.spectral_norm(np.full((2, 2), np.nan)))


def check_norm_from_below():
    rng = np.random.default_rng(2)
    for _ in range(200):
        row = rng.normal(size=9) * 10.0 ** rng.integers(-160, 150)
        exact = sum(Fraction(x) ** 2 for x in row.tolist())
        found = Fraction(norm_from_below(row))
        assert found**2 <= exact
        assert found**2 >= exact * (1 - Fraction(1, 10**11))
    for bad in ([np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]):
        assert norm_from_below(np.array(bad)) == 0


def test_norms_from_below():
    check_norm_from_below()


def check_amplification():
    """Never below the exact one, whatever the whitener; close for a good one."""
    rng = np.random.default_rng(3)
    train = rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6))
    for ridge in (0.0, 0.2):
        geometry = ng.natural_geometry(train, ridge)
        exact = 1 / np.sqrt(np.linalg.eigvalsh(oracles.covariance(train, ridge))[0])
        found = Euclidean2.amplification(prove(geometry))
        assert exact * (1 - 1e-12) <= found <= 1.005 * exact
        assert found == pytest.approx(geometry.spectral_amplification, rel=5e-3)
        for factor in (0.97, 1.03):
            wrong = test_rounding.with_whitener(geometry, factor * geometry.whitener)
            assert Euclidean2.amplification(prove(wrong)) >= exact * (1 - 1e-12)


def test_the_amplification_is_proven():
    check_amplification()


def raw_attack(train, ridge, u, v, eps, rng):
    """The least form over raw displacements of Euclidean order-2 cost eps."""
    n, k = train.shape
    low = np.inf
    for start in range(6):
        moves = rng.normal(size=(n, k))
        if start % 2:  # where the covariance is weakest
            weak = np.linalg.eigh(oracles.covariance(train, ridge))[1][:, 0]
            moves = np.outer(train @ weak, weak) * rng.choice([-1, 1])
        for _ in range(60):
            moves *= eps / np.sqrt((moves**2).sum() / n)
            moved = train + moves
            q = moved.T @ moved / n + ridge * np.eye(k)
            a, b = np.linalg.solve(q, np.stack([u, v], 1)).T
            low = min(low, u @ b)
            slope = np.outer(moved @ b, a) + np.outer(moved @ a, b)
            length = np.sqrt((slope**2).sum() / n)
            moves = moves + 0.3 * eps * slope / max(length, 1e-300)
    return low


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_no_raw_displacement_breaks_a_certified_pair(ridge, rng):
    train = rng.normal(size=(14, 3)) @ np.diag([3.0, 1.0, 0.5])
    targets = rng.normal(size=(3, 3))
    geometry = ng.natural_geometry(train, ridge)
    eps, certified, broken = 0.04, 0, 0
    order = ng.certify_rankings(geometry, targets, Euclidean2(eps))
    for t in range(3):
        for i in range(0, 14, 2):
            for j in range(1, 14, 4):
                verdict = order.verdict(target=t, above=i, below=j)
                low = raw_attack(
                    train, ridge, targets[t], train[i] - train[j], eps, rng
                )
                if verdict.status == "certified":
                    certified += 1
                    assert low > 0
                elif verdict.cosine > 0:
                    broken += low < 0
    assert certified > 10
    if ridge == 0:
        assert broken > 0
    ends = order.score_ranges(1)
    assert np.isfinite(ends).all()
    assert 0 < order.fraction.mean() < 1


def test_it_is_the_natural_ball_of_the_amplified_radius(rng):
    geometry = ng.natural_geometry(rng.normal(size=(20, 4)), 0.1)
    proof = prove(geometry)
    threat = Euclidean2(0.05)
    natural = threat.natural(proof)
    assert natural.eps >= 0.05 * Euclidean2.amplification(proof)
    assert threat.kappa(proof) == natural.kappa()
    assert natural.eps == pytest.approx(
        0.05 * geometry.spectral_amplification, rel=0.01
    )
    assert Euclidean2(0.0).kappa(proof) == 0
    assert Euclidean2(1e6).kappa(proof) == np.inf
    assert isinstance(natural, Wasserstein2)
    assert "spectral amplification" in threat.describe()
    assert "0.05" in threat.describe()
