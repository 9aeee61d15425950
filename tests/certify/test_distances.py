"""How far known changes are: against dense roots, exact transport and by hand."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import natgeo as ng
from natgeo.certify import distances, guarantee
from natgeo.certify.threats import Wasserstein2
from natgeo.errors import ArgumentError, DataError
from natgeo.store.writer import DiskWriter
from tests import oracles

SHAPES = [(12, 3, 0.0), (9, 4, 0.3), (5, 7, 0.1)]  # N, K, ridge


def bures(first, second):
    """sqrt(tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2), as printed."""
    root = scipy.linalg.sqrtm(first).real
    middle = scipy.linalg.sqrtm(root @ second @ root).real
    square = np.trace(first) + np.trace(second) - 2 * np.trace(middle)
    return float(np.sqrt(max(square, 0)))


def natural_bures(train, moved, ridge, weights=None):
    """Between I and R Q' R^T, with an explicit symmetric root of Q."""
    q = oracles.covariance(train, ridge)
    root = np.linalg.inv(scipy.linalg.sqrtm(q).real)
    w = np.ones(len(moved)) if weights is None else weights
    new = (moved * w[:, None]).T @ moved / w.sum() + ridge * np.eye(len(q))
    return bures(np.eye(len(q)), root @ new @ root.T)


def transport(train, moved, ridge, weights=None):
    """Exact order-2 natural distance of two weighted samples, as a linear program."""
    inverse = np.linalg.inv(oracles.covariance(train, ridge))
    n, m = len(train), len(moved)
    w = np.ones(m) / m if weights is None else weights / weights.sum()
    cost = np.array([[(a - b) @ inverse @ (a - b) for b in moved] for a in train])
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = scipy.optimize.linprog(
        cost.ravel(),
        A_eq=np.concatenate([rows, columns]),
        b_eq=np.concatenate([np.ones(n) / n, w]),
        method="highs",
    )
    assert found.success
    return float(np.sqrt(max(found.fun, 0.0)))


def problem(n, k, ridge, size=0.3):
    rng = np.random.default_rng(n)
    train = rng.normal(size=(n, k)) @ rng.normal(size=(k, k))
    return train, train + size * rng.normal(size=(n, k)), ridge


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("size", [1e-6, 0.3, 20.0])
def test_one_changed_example_moves_the_covariance_as_the_dense_root_says(case, size):
    train, after, ridge = problem(*case, size=size)
    found = ng.distances.change(ng.natural_geometry(train, ridge), train, after)
    inverse = np.linalg.inv(oracles.covariance(train, ridge))
    for i in range(len(train)):
        moved = train.copy()
        moved[i] = after[i]
        move = after[i] - train[i]
        assert found.moved[i] == pytest.approx(np.sqrt(move @ inverse @ move), rel=1e-9)
        # The dense formula loses half its digits where the distance is small.
        want = natural_bures(train, moved, ridge)
        assert found.alone[i] == pytest.approx(want, rel=1e-6, abs=2e-7)
        best = transport(train, moved, ridge)
        assert found.alone[i] <= best * (1 + 1e-6) + 1e-9
        assert best <= found.moved[i] / np.sqrt(len(train)) * (1 + 1e-6) + 1e-9


def test_one_changed_example_by_hand():
    # Q = I: the first of two unit rows (scaled by sqrt 2) is stretched to twice that.
    train = np.sqrt(2) * np.eye(2)
    after = train.copy()
    after[0] *= 2
    found = ng.distances.change(ng.natural_geometry(train, 0.0), train, after)
    np.testing.assert_allclose(found.moved, [np.sqrt(2), 0])
    # The covariance becomes diag(4, 1), its root diag(2, 1).
    np.testing.assert_allclose(found.alone, [1.0, 0.0])
    assert found.share(1.0).covariance == pytest.approx(1.0)
    assert found.share(1.0).moved == pytest.approx(1.0)
    # A quarter: diag(1.75, 1).
    assert found.share(0.25).covariance == pytest.approx(np.sqrt(1.75) - 1)
    assert found.share(0.25).moved == pytest.approx(0.5)
    assert found.covered(np.sqrt(1.75) - 1) == pytest.approx(0.25)
    assert found.covered(0.0) == 0.0
    assert found.covered(1.5) == 1.0
    assert found.one(1.0).moved == pytest.approx(1.0)
    assert found.one(0.0).covariance == 0.0


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_every_example_is_a_mixture(case, share):
    train, after, ridge = problem(*case)
    found = ng.distances.change(ng.natural_geometry(train, ridge), train, after)
    both = np.concatenate([train, after])
    weights = np.repeat([1 - share, share], len(train))
    mixed = found.share(share)
    want = natural_bures(train, both, ridge, weights)
    assert mixed.covariance == pytest.approx(want, rel=1e-6, abs=2e-7)
    best = transport(train, both, ridge, weights)
    assert mixed.covariance <= best + 1e-7
    assert best <= mixed.moved + 1e-7
    if share:
        assert found.covered(mixed.covariance) == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("case", SHAPES)
def test_a_resample_lies_between_its_two_numbers(case):
    train, _, ridge = problem(*case)
    n = len(train)
    rng = np.random.default_rng(4)  # the resamples of seed 4, drawn the same way
    copies = np.bincount(rng.integers(0, n, n), minlength=n)
    (found,) = ng.distances.resample(ng.natural_geometry(train, ridge), draws=1, seed=4)
    drawn = np.repeat(train, copies, axis=0)
    want = natural_bures(train, drawn, ridge)
    assert found.covariance == pytest.approx(want, rel=1e-6)
    best = transport(train, drawn, ridge)
    assert found.covariance <= best <= found.moved * (1 + 1e-9)
    assert _cheapest_matching(train, copies, ridge) == pytest.approx(found.moved)


def _cheapest_matching(train, copies, ridge):
    """Every way to match further copies with missing examples, tried."""
    inverse = np.linalg.inv(oracles.covariance(train, ridge))
    spare = [i for i, c in enumerate(copies) for _ in range(c - 1)]
    missing = [i for i, c in enumerate(copies) if c == 0]
    moves = train[:, None] - train[None]
    cost = np.einsum("ijk,kl,ijl->ij", moves, inverse, moves)
    tried = (
        sum(cost[a, b] for a, b in zip(order, missing, strict=True))
        for order in itertools.permutations(spare)
    )
    return np.sqrt(min(tried) / len(train))


def test_matching_in_blocks_costs_more_and_is_still_a_coupling(monkeypatch):
    train, _, ridge = problem(40, 3, 0.0)
    geometry = ng.natural_geometry(train, ridge)
    (whole,) = ng.distances.resample(geometry, draws=1, seed=1)
    monkeypatch.setattr(distances, "_MATCHED", 4)
    (parts,) = ng.distances.resample(geometry, draws=1, seed=1)
    assert parts.covariance == whole.covariance
    assert parts.moved > whole.moved


def test_certificates_cover_every_change_whose_covariance_stays_inside():
    """The promise of `covariance`: far-moving examples, and no certified pair swaps."""
    checked = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        train = rng.normal(size=(40, 3))
        # Halves swap places pairwise: far for every example, near for the covariance.
        after = -train + 0.02 * rng.normal(size=train.shape)
        geometry = ng.natural_geometry(train, 0.0)
        found = ng.distances.change(geometry, train, after).share(1.0)
        assert found.moved > 50 * found.covariance
        targets = rng.normal(size=(3, 3))
        eps = found.covariance * (1 + 1e-9)
        rankings = ng.certify_rankings(geometry, targets, Wasserstein2(eps))
        moved = np.linalg.inv(oracles.covariance(after, 0.0))
        for t, (i, j) in itertools.product(
            range(3), itertools.permutations(range(12), 2)
        ):
            if rankings.radius(target=t, above=i, below=j) > eps:
                checked += 1
                assert targets[t] @ moved @ (train[i] - train[j]) > 0
    assert checked > 1000


def test_under_a_ridge_the_covariance_covers_only_the_closed_form():
    """Data that hardly fill a direction: the ridge bound allows no such mass there."""
    angle = np.arccos(0.01)
    target = np.array([[1.0, 0.0]])
    train = 1e-3 * np.array([[np.cos(angle), np.sin(angle)], [0.0, 0.0]])
    bisector = np.array([np.cos(angle / 2), np.sin(angle / 2)])
    after = train + 0.44 * bisector  # far in the data, near with the ridge
    geometry = ng.natural_geometry(train, 1.0)
    found = ng.distances.change(geometry, train, after)
    whole, eps = found.share(1.0), 0.1
    assert whole.covariance < eps < whole.moved
    rankings = ng.certify_rankings(geometry, target, Wasserstein2(eps))
    verdict = rankings.verdict(target=0, above=0, below=1)
    assert verdict.status == "certified"
    moved = np.linalg.inv(oracles.covariance(after, 1.0))
    assert target[0] @ moved @ (train[0] - train[1]) < 0
    # Both promises are kept: of the closed form, and of everything below `moved`.
    assert Wasserstein2.radius(verdict.cosine) < whole.covariance
    assert verdict.radius < whole.moved
    for words in (
        guarantee.change_in_words(eps, "moved like this", found),
        guarantee.change_in_words(0.02, "moved like this", found),
        guarantee.resample_in_words(eps, [whole]),
    ):
        assert words.endswith("for what the closed form certifies.")


def test_some_pair_swaps_when_the_covariance_moves_further():
    """The number is not merely large: beyond it, orders that it does not cover swap."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(40, 3))
    after = train * np.array([1.3, 1.0, 0.8])
    geometry = ng.natural_geometry(train, 0.0)
    eps = ng.distances.change(geometry, train, after).share(1.0).covariance
    targets = rng.normal(size=(6, 3))
    rankings = ng.certify_rankings(geometry, targets, Wasserstein2(eps))
    moved = np.linalg.inv(oracles.covariance(after, 0.0))
    radii = [
        rankings.radius(target=t, above=i, below=j)
        for t, (i, j) in itertools.product(
            range(6), itertools.permutations(range(40), 2)
        )
        if targets[t] @ moved @ (train[i] - train[j]) < 0
    ]
    broken = np.array(radii)
    assert (broken <= eps).all()
    assert broken.max() > 0.5 * eps


def test_a_part_of_the_training_set_knows_single_changes_only():
    train, after, ridge = problem(12, 3, 0.0)
    geometry = ng.natural_geometry(train, ridge)
    part = ng.distances.change(geometry, train[:5], after[:5])
    whole = ng.distances.change(geometry, train, after)
    np.testing.assert_allclose(part.alone, whole.alone[:5], rtol=1e-12)
    assert np.isnan(part.share(0.5).covariance)
    assert np.isnan(part.covered(0.1))
    assert part.share(1.0).moved > 0
    assert np.isfinite(whole.covered(0.1))


def test_features_of_another_length_or_share_are_refused():
    train, after, ridge = problem(12, 3, 0.0)
    geometry = ng.natural_geometry(train, ridge)
    with pytest.raises(DataError, match="before has 12 examples and after has 5"):
        ng.distances.change(geometry, train, after[:5])
    with pytest.raises(DataError, match="2 features per example"):
        ng.distances.change(geometry, train, after[:, :2])
    found = ng.distances.change(geometry, train, after)
    for share in (1.5, -0.1, float("nan"), "half"):
        with pytest.raises(ArgumentError, match="share"):
            found.share(share)
    with pytest.raises(ArgumentError, match="draws"):
        ng.distances.resample(geometry, draws=0)


def test_stores_may_be_cut_into_other_shards(tmp_path):
    train, after, ridge = problem(12, 3, 0.0)
    want = ng.distances.change(ng.natural_geometry(train, ridge), train, after)
    stores = []
    for name, rows, shard in (("a", train, 12), ("b", after, 1)):
        with DiskWriter(tmp_path / name, shard_rows=shard) as writer:
            writer.append(rows)
            stores.append(writer.close())
    geometry = ng.natural_geometry(stores[0], ridge)
    for before, changed in (stores, (train, stores[1]), (stores[0], after)):
        found = ng.distances.change(geometry, before, changed)
        np.testing.assert_allclose(found.moved, want.moved, rtol=1e-9)
        np.testing.assert_allclose(found.spectrum, want.spectrum, atol=1e-12)


def test_blocks_of_a_store_do_not_change_the_result(monkeypatch):
    train, after, ridge = problem(12, 3, 0.0)
    geometry = ng.natural_geometry(train, ridge)
    whole = ng.distances.change(geometry, train, after)
    monkeypatch.setattr(distances, "BLOCK_ROWS", 5)
    parts = ng.distances.change(geometry, train, after)
    for field in dataclasses.fields(whole):
        np.testing.assert_allclose(
            getattr(parts, field.name), getattr(whole, field.name), rtol=1e-9
        )
    (a,), (b,) = (ng.distances.resample(geometry, draws=1) for _ in range(2))
    assert a == b
