"""The sweep over all pairs: its intervals, its tiles, and its census."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from natgeo.certify import limits as limits_module
from natgeo.certify import pairs as pairs_module
from natgeo.certify import ridge, screen, sweep, tile_counts
from natgeo.certify import tiles as tiles_module
from natgeo.certify.bounds import row_norms
from natgeo.certify.rounding import NaturalRows, prove
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families, oracles
from tests.certify.test_rounding import with_whitener
from tests.certify.test_verdict import Census

RADII = (0.0, 1e-6, 0.01, 0.1, 0.4)
NAMES = sorted(families.FAMILIES)


def scored(proof, targets):
    return tile_counts.score_intervals(proof, np.float64(targets))


def swept_pairs(proof, found, kappa):
    """(winner, loser) of every pair that `count_above_and_below` certifies."""
    seen = []
    honest = sweep._sweep

    def record(*args, **options):
        for winners, losers in honest(*args, **options):
            seen.extend(zip(winners.tolist(), losers.tolist(), strict=True))
            yield winners, losers

    with mock.patch.object(sweep, "_sweep", record):
        above, below = sweep.count_above_and_below(proof, found, kappa)
    n = len(above)
    losers, winners = (np.array([p[k] for p in seen], np.int64) for k in (1, 0))
    np.testing.assert_array_equal(above, np.bincount(losers, minlength=n))
    np.testing.assert_array_equal(below, np.bincount(winners, minlength=n))
    assert len(set(seen)) == len(seen), "a pair was counted twice"
    return set(seen)


def census_of_sweeps(cases, *, thresholds=3) -> Census:
    """Every target of every case at `RADII` and at some exact breaking radii."""
    census = Census()
    for case in cases:
        proof = prove(case.geometry())
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        for target in case.targets:
            truth = exact.pairs(target)
            census.pairs += len(truth)
            plain = oracles.cosines(case.train, target, case.ridge, case.weights)
            tied = {(p.first, p.second) for p in truth if not p.sign}
            found = scored(proof, target[None])
            breaking = [oracles.breaking_radius(pair.square) for pair in truth[::7]]
            radii = (*RADII, *breaking[:thresholds])
            counts = sweep.count_certified(
                proof, found, [Wasserstein2(eps).kappa() for eps in radii]
            )
            for place, eps in enumerate(radii):
                allowed = oracles.certified_pairs(truth, eps)
                claimed = swept_pairs(proof, found, Wasserstein2(eps).kappa())
                wrong = claimed - allowed
                if wrong:
                    census.false.append((case.name, eps, sorted(wrong)))
                if counts[0, place] != len(claimed):
                    census.false.append((case.name, eps, "counts disagree"))
                if case.tame and eps in RADII:
                    upper = np.abs(plain) > oracles.kappa(eps)
                    census.claims += len(claimed)
                    census.plain += sum(
                        bool(upper[i, j]) and (i, j) not in tied
                        for i, j in itertools.combinations(range(len(plain)), 2)
                    )
    return census


def check_census(cases, *, least_pairs, least_yield=0.999):
    census = census_of_sweeps(cases)
    assert census.pairs >= least_pairs
    assert not census.false, census.false[:3]
    assert census.yield_ >= least_yield
    return census


def exact_difference(case, i, j):
    r = np.ones(len(case.train)) if case.weights is None else case.weights
    x, y = oracles.fractions(case.train[i]), oracles.fractions(case.train[j])
    a, b = Fraction(float(r[i])), Fraction(float(r[j]))
    return [a * p - b * q for p, q in zip(x, y, strict=True)]


def check_score_intervals(case):
    """low <= r_i (R t).(R x_i) <= high exactly, and not much wider than gamma."""
    proof = prove(case.geometry())
    found = scored(proof, case.targets)
    whitener = oracles.fractions(proof.geometry.whitener)
    r = np.ones(len(case.train)) if case.weights is None else case.weights
    natural = [oracles.product(whitener, oracles.fractions(x)) for x in case.train]
    for t, target in enumerate(case.targets):
        left = oracles.product(whitener, oracles.fractions(target))
        for i, right in enumerate(natural):
            exact = Fraction(float(r[i])) * oracles.dot(left, right)
            assert Fraction(float(found.low[t, i])) <= exact
            assert exact <= Fraction(float(found.high[t, i]))
            k = len(left)
            gain = np.linalg.norm(proof.geometry.whitener)
            raw = np.linalg.norm(np.float64(target)) * gain
            size = raw * np.linalg.norm(np.float64(case.train[i])) * gain
            width = float(found.high[t, i]) - float(found.low[t, i])
            assert width <= 10 * k * 2.0**-53 * abs(float(r[i])) * size + 1e-200


def check_distances(case, *, tight):
    """Tile distances are never below the exact |R d|^2; every pair appears once."""
    proof = prove(case.geometry())
    whitener = oracles.fractions(proof.geometry.whitener)
    n = len(case.train)
    seen = []
    for make in tiles_module.every_tile(proof):
        tile = make()
        seen += [tuple(int(x) for x in pair) for pair in tile.close]
        for a, b in np.argwhere(np.isfinite(tile.pairs.distance)):
            i, j = int(a) + tile.first.start, int(b) + tile.second.start
            seen.append((i, j))
            d = oracles.product(whitener, exact_difference(case, i, j))
            exact, bound = oracles.dot(d, d), Fraction(float(tile.pairs.distance[a, b]))
            assert bound >= exact
            if tight:
                room = Fraction(2) ** -470  # for two silent examples
                assert bound <= exact * (1 + Fraction(1, 10**5)) + room
    assert sorted(seen) == list(itertools.combinations(range(n), 2))


def check_close_pairs(case):
    """Close pairs: exact distances from below, gaps from above, with the right sign."""
    proof = prove(case.geometry())
    whitener = oracles.fractions(proof.geometry.whitener)
    found = scored(proof, case.targets)
    pairs = np.array(list(itertools.combinations(range(len(case.train)), 2)))
    for chunk, gaps, needed in pairs_module.decided(proof, found.targets, pairs):
        distance = needed.distance
        for p, (i, j) in enumerate(chunk):
            d = oracles.product(whitener, exact_difference(case, i, j))
            assert Fraction(float(distance[p])) >= oracles.dot(d, d)
            for t, target in enumerate(case.targets):
                left = oracles.product(whitener, oracles.fractions(target))
                exact = oracles.dot(left, d)
                gap = Fraction(float(gaps[t, p]))
                assert gap == 0 or (gap > 0) == (exact > 0)
                assert abs(gap) <= abs(exact)


def check_products():
    """Rows without errors: only the rounding of the product itself is left."""
    rng = np.random.default_rng(35)
    for k in (1, 3, 20):
        rows = rng.normal(size=(12, k))
        exact_rows = NaturalRows(rows, row_norms(rows), np.zeros(12))
        products, room = pairs_module.products(exact_rows.take(slice(4)), exact_rows)
        for t, i in itertools.product(range(4), range(12)):
            exact = oracles.dot(oracles.fractions(rows[t]), oracles.fractions(rows[i]))
            off = abs(Fraction(float(products[t, i])) - exact)
            assert off <= Fraction(float(room[t, i]))
            assert room[t, i] <= 1.01 * k * 2.0**-53 * np.prod(
                np.linalg.norm(rows[[t, i]], axis=1)
            )


def check_distances_cover_the_errors_of_their_rows():
    """Large errors, of two sizes: (|w_i - w_j| + e_i + e_j)^2 is still covered."""
    case = families.case("random")
    proof = prove(case.geometry())
    rows = proof.weighted.rows
    rng = np.random.default_rng(36)
    for size in (1e-9, 1e-4, 0.1):
        errors = size * proof.weighted.norms * rng.uniform(0.5, 1, size=len(rows))
        wide = dataclasses.replace(
            proof, weighted=NaturalRows(rows, proof.weighted.norms, errors)
        )
        # The opposite of each row as well, where the error counts most.
        both = NaturalRows(
            *(
                np.concatenate(pair)
                for pair in (
                    (rows, -rows),
                    (wide.weighted.norms,) * 2,
                    (errors, errors),
                )
            )
        )
        for make in tiles_module.every_tile(dataclasses.replace(proof, weighted=both)):
            tile = make()
            for i, j in np.argwhere(np.isfinite(tile.pairs.distance)):
                apart = np.linalg.norm(both.rows[i] - both.rows[j])
                needed = (apart + both.errors[i] + both.errors[j]) ** 2
                assert tile.pairs.distance[i, j] >= needed * (1 - 1e-13)
                assert tile.pairs.distance[i, j] <= needed + 9 * size * (
                    both.norms[i] ** 2 + both.norms[j] ** 2
                )


def check_distances_cover_the_rounding_of_the_gram_matrix():
    """Long exact rows: only the products and sums of the tile itself are rounded."""
    rng = np.random.default_rng(38)
    proof = prove(families.case("random").geometry())
    for _ in range(4):
        rows = rng.uniform(0.5, 1, size=(12, 3000)) * rng.choice([-1, 1], size=(12, 1))
        exact_rows = NaturalRows(rows, row_norms(rows), np.zeros(12))
        whole = oracles.as_integers(rows)[0]
        scale = oracles.as_integers(rows)[1] ** 2
        for make in tiles_module.every_tile(
            dataclasses.replace(proof, weighted=exact_rows)
        ):
            tile = make()
            for i, j in np.argwhere(np.isfinite(tile.pairs.distance)):
                square = sum(
                    (a - b) ** 2 for a, b in zip(whole[i], whole[j], strict=True)
                )
                assert Fraction(float(tile.pairs.distance[i, j])) >= Fraction(
                    square, scale
                )
                assert tile.pairs.distance[i, j] <= square / scale * (1 + 1e-5)


def check_limits():
    """limit >= (norm(R phi_t) needed)^2 with room for two more roundings."""
    for name in ("random", "huge", "condition 1e4"):
        case = families.case(name)
        proof = prove(case.geometry())
        found = scored(proof, case.targets)
        kappas = [0.0, 1e-3, 0.3, 0.9]
        limits = limits_module.asked(proof, found.targets, kappas).limit
        for t, place in itertools.product(range(len(case.targets)), range(4)):
            size = Fraction(float(found.targets.true_norms[t]))
            least = (size * Fraction(proof.needed_cosine(kappas[place]))) ** 2
            limit = Fraction(float(limits[t, place]))
            assert limit >= least * (1 + Fraction(1, 2**40))
            assert limit <= least * (1 + Fraction(1, 2**30)) + Fraction(2) ** -470


def check_ratio():
    """Wide intervals: the gap that counts is the one between them."""
    case = families.case("random")
    proof = prove(case.geometry())
    (make,) = tiles_module.every_tile(proof)
    tile = make()
    limits = limits_module.asked(proof, scored(proof, case.targets).targets, [0.1])
    rng = np.random.default_rng(37)
    middle = rng.normal(size=len(case.train))
    for half in (0.0, 0.1, 0.5):
        low, high = middle - half, middle + half
        ratio = tile_counts.ratios(tile, low, high, limits, (0, 0))
        for i, j in itertools.combinations(range(len(middle)), 2):
            gap = max(abs(middle[i] - middle[j]) - 2 * half, 0.0)
            assert ratio[i, j] == pytest.approx(
                gap**2 / tile.pairs.distance[i, j], rel=1e-9, abs=1e-300
            )
            assert ratio[j, i] == 0


def check_equality_is_not_enough():
    """A ratio that equals its limit is not certified by either count."""
    case = families.case("random")
    proof = prove(case.geometry())
    found = scored(proof, case.targets[:1])

    def same(tile, *_):
        return np.where(np.isfinite(tile.pairs.distance), 0.25, 0.0)

    def no_screen(errors):
        return np.zeros(len(errors), bool)

    for limit, claims in ((0.25, False), (np.nextafter(0.25, 0), True)):
        limits = limits_module.Limits(*np.full((6, 1, 1), limit), 0.0)
        with (
            mock.patch.object(sweep, "ratios", same),
            mock.patch.object(tile_counts, "ratios", same),
            mock.patch.object(sweep, "asked", return_value=limits),
            mock.patch.object(screen, "screenable", no_screen),
        ):
            assert bool(sweep.count_certified(proof, found, [0.1]).any()) is claims
            above, _ = sweep.count_above_and_below(proof, found, 0.1)
            assert bool(above.any()) is claims


def check_recounts():
    """A column counted again in float64 is the column of the ratios; ties lose."""
    for name in ("random", "random with ridge"):
        case = families.case(name)
        proof = prove(case.geometry())
        found = scored(proof, case.targets)
        rows = limits_module.ridge_rows(proof, [0.1])
        limits = limits_module.asked(proof, found.targets, [0.14], [0.1])
        (make,) = tiles_module.every_tile(proof, rows)
        tile = make()
        targets = np.repeat(np.arange(3), len(case.train))
        columns = np.tile(np.arange(len(case.train)), 3)
        ratios = np.stack(
            [
                tile_counts.ratios(tile, found.low[t], found.high[t], limits, (t, 0))
                for t in range(3)
            ]
        )
        for limit in (limits.limit, np.full((3, 1), np.median(ratios[ratios > 0]))):
            some = dataclasses.replace(limits, limit=limit)
            got = tile_counts._recount(tile, found, some, 0, targets, columns)
            want = (ratios > limit[:, :, None]).sum(axis=1).ravel()
            np.testing.assert_array_equal(got, want)
            assert want.any()
        # Exactly at its own ratio a pair is not certified.
        for t, i, j in np.argwhere(ratios > 0):
            own = dataclasses.replace(limits, limit=np.full((3, 1), ratios[t, i, j]))
            one = np.array([t]), np.array([j])
            above = np.count_nonzero(ratios[t, :, j] > ratios[t, i, j])
            assert tile_counts._recount(tile, found, own, 0, *one)[0] == above


def check_lengths():
    """Lengths are what the better of the two bounds asks for, from above, exactly."""
    case = families.case("random with ridge")
    better = 0
    for noise in (0.0, 1e-3):
        geometry = case.geometry()
        rng = np.random.default_rng(4)
        whitener = geometry.whitener * (
            1 + noise * rng.normal(size=geometry.whitener.shape)
        )
        proof = prove(with_whitener(geometry, whitener))
        eta, found = Fraction(proof.eta), scored(proof, case.targets)
        exact = oracles.fractions(proof.geometry.whitener)
        omega = eta * (3 + 2 * eta) / (1 - eta)
        own = [Fraction(float(x)) for x in ridge.shares(proof, found.targets)]
        rows = limits_module.ridge_rows(proof, [0.1])
        kappa = Wasserstein2(0.1).kappa()
        limits = limits_module.asked(proof, found.targets, [kappa], [0.1])
        (make,) = tiles_module.every_tile(proof, rows)
        tile = make()
        for i, j in np.argwhere(np.isfinite(tile.pairs.distance)):
            d = oracles.product(exact, exact_difference(case, i, j))
            z = oracles.product(list(zip(*exact, strict=True)), d)
            whole = oracles.dot(d, d)
            moved = 1 - Fraction(case.ridge) * oracles.dot(z, z) / whole
            share = min((1 + eta) * (moved + omega), Fraction(1))
            assert Fraction(float(tile.pairs.shares[i, j])) >= share
            assert float(tile.pairs.shares[i, j]) <= float(share) * (1 + 1e-6) + 1e-6
            for t in range(3):
                size = Fraction(float(found.targets.true_norms[t])) ** 2 * whole
                curve = oracles.ridge_threshold(0.1, own[t] + share) + eta
                tighter = (curve / (1 - eta)) ** 2
                plain = Fraction(proof.needed_cosine(kappa)) ** 2
                length = limits.lengths(tile.pairs, (t, 0))[i, j]
                got = Fraction(float(length)) * Fraction(float(limits.limit[t, 0]))
                assert got >= size * min(tighter, plain) * (1 - Fraction(1, 2**60))
                assert float(got) <= float(size * min(tighter, plain)) * (1 + 1e-5)
                better += tighter < plain
    assert better > 10


def check_norms_alone():
    """What norms prove is proven: no more than the sweep, and some of it."""
    for name in ("random", "random with ridge", "mixed scales", "near ties"):
        case = families.case(name, weighted=True)
        proof = prove(case.geometry())
        found = scored(proof, case.targets)
        kappas = [Wasserstein2(eps).kappa() for eps in (0.0, 0.1)]
        got = sweep.certified_by_norms(proof, found, kappas)
        assert (got <= sweep.count_certified(proof, found, kappas)).all()
        norms = proof.weighted.true_norms
        for t, place in np.ndindex(*got.shape):
            score = (found.low[t] + found.high[t]) / 2
            size = found.targets.true_norms[t]
            needed = size * kappas[place] * (norms[:, None] + norms)
            plain = np.count_nonzero(np.abs(score[:, None] - score) > needed) // 2
            assert plain - 2 <= got[t, place] <= plain


def check_wrong_whiteners():
    """The sweep with whiteners that are off by a few per cent: no false certificate."""
    claims = 0
    for name in ("random", "random with ridge", "condition 1e2"):
        case = families.case(name)
        geometry = case.geometry()
        truth = oracles.Exact(case.train, case.ridge).pairs(case.targets[0])
        for size in (1e-9, 1e-4, 0.01, 0.03, 0.1, 0.5):
            for seed in range(3):
                rng = np.random.default_rng(seed)
                noise = 1 + size * rng.normal(size=geometry.whitener.shape)
                proof = prove(
                    dataclasses.replace(geometry, whitener=geometry.whitener * noise)
                )
                found = scored(proof, case.targets[:1])
                for eps in (0.0, 0.1, *map(critical, truth[::5])):
                    claimed = swept_pairs(proof, found, Wasserstein2(eps).kappa())
                    assert claimed <= oracles.certified_pairs(truth, eps)
                    claims += len(claimed)
                    assert proof.holds or not claimed
    return claims


def critical(pair):
    return oracles.breaking_radius(pair.square)


def test_no_false_certificate_in_the_census_of_sweeps():
    check_census(families.cases(2), least_pairs=20_000)


@pytest.mark.slow
def test_no_false_certificate_in_a_large_census_of_sweeps():
    check_census(families.cases(5), least_pairs=50_000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_score_intervals_hold_the_exact_score(name, weighted):
    check_score_intervals(families.case(name, weighted=weighted))
    check_score_intervals(families.case(name, np.float32, weighted=weighted))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_distances_are_never_below_the_exact_distance(name, weighted):
    tame = families.FAMILIES[name][1]
    for number, dtype in itertools.product((0, 1), (np.float32, np.float64)):
        check_distances(families.case(name, dtype, number, weighted), tight=tame)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_close_pairs_are_enclosed(name, weighted):
    check_close_pairs(families.case(name, weighted=weighted))


def test_products_of_exact_rows_are_enclosed():
    check_products()


def test_distances_cover_the_errors_of_their_rows():
    check_distances_cover_the_errors_of_their_rows()


def test_distances_cover_the_rounding_of_the_gram_matrix():
    check_distances_cover_the_rounding_of_the_gram_matrix()


def test_limits_are_never_below_the_exact_threshold():
    check_limits()


def test_ratios_use_the_gap_between_the_intervals():
    check_ratio()


def test_recounts_equal_the_ratios():
    check_recounts()


def test_lengths_are_never_below_what_is_asked():
    check_lengths()


def test_norms_alone_prove_no_more_than_the_sweep():
    check_norms_alone()


def test_equality_is_not_enough():
    check_equality_is_not_enough()


def test_wrong_whiteners_never_make_a_false_certificate():
    assert check_wrong_whiteners() > 500


@pytest.mark.parametrize("power", [-60, 0, 80])
@pytest.mark.parametrize("quiet", ["a zero row", "a zero weight", "a tiny row"])
def test_one_silent_example_does_not_weaken_the_others(quiet, power):
    rng = np.random.default_rng(31)
    train = np.ldexp(rng.normal(size=(60, 4)), power)
    weights = rng.uniform(0.2, 1, size=60)
    if quiet == "a zero row":
        train[17] = 0
    elif quiet == "a zero weight":
        weights[17] = 0
    else:
        train[17] *= 2.0**-300
    target = train[:1] + np.ldexp(rng.normal(size=(1, 4)), power)
    geometry = natural_geometry(MemoryStore(train, {"weights": weights}), 0.0)
    proof = prove(geometry)
    c = np.abs(oracles.cosines(train, target[0], 0.0, weights))
    c = c[np.triu_indices(60, 1)]
    for eps in (0.0, 0.05, 0.3):
        kappa = Wasserstein2(eps).kappa()
        got = sweep.count_certified(proof, scored(proof, target), [kappa])[0, 0]
        assert got <= np.count_nonzero(c > kappa * (1 - 1e-9))
        assert got >= np.count_nonzero(c > kappa * (1 + 1e-5) + 1e-9)


@pytest.mark.parametrize(
    ("weight", "scale"),
    [(1.0, 1e150), (1.0, 1e154), (1.0, 3e154), (1e100, 1e100), (1e150, 1e77)],
)
def test_scores_that_overflow_are_never_certified_by_it(weight, scale):
    rng = np.random.default_rng(32)
    train, target = rng.normal(size=(30, 3)), rng.normal(size=(1, 3))
    exact = oracles.Exact(train, 0.0)
    truth = exact.pairs(target[0])
    columns = {"weights": np.full(30, weight)}
    proof = prove(natural_geometry(MemoryStore(train, columns), 0.0))
    with np.errstate(all="ignore"):
        found = scored(proof, target * scale)
        for eps in (0.0, 0.1, 0.3, 0.5):
            kappa = Wasserstein2(eps).kappa()
            allowed = oracles.certified_pairs(truth, eps)
            assert swept_pairs(proof, found, kappa) <= allowed
            counts = sweep.count_certified(proof, found, [kappa])
            assert counts[0, 0] <= len(allowed)


@pytest.mark.parametrize("scale", [1e100, 1e154, 1e200, 1e300])
def test_large_targets_do_not_warn(scale):
    rng = np.random.default_rng(33)
    train, target = rng.normal(size=(10, 3)), rng.normal(size=(1, 3))
    case = families.Case("large", train, target * scale, None, 0.0, False)
    for eps in (0.0, 0.3):
        assert (case.rankings(eps).fraction <= 1).all()


def test_wild_exponents_never_make_a_false_certificate():
    rng = np.random.default_rng(34)
    claims = 0
    for number in range(60):
        power = int(rng.integers(-450, 450))
        train = np.ldexp(rng.normal(size=(7, 2)), power + rng.integers(-20, 20, (7, 2)))
        train[1] = train[0] * (1 + 2.0**-40)
        target = np.ldexp(rng.normal(size=(1, 2)), int(rng.integers(-900, 1000)))
        weights = np.ldexp(
            rng.uniform(size=7), rng.integers(-500, 500, size=7) * (number % 2)
        )
        ridge = 2.0 ** (2 * power - 9)
        with np.errstate(all="ignore"):
            proof = prove(
                natural_geometry(MemoryStore(train, {"weights": weights}), ridge)
            )
            truth = oracles.Exact(train, ridge, weights).pairs(target[0])
            found = scored(proof, target)
            for eps in (0.0, 0.1, *map(critical, truth[::6])):
                claimed = swept_pairs(proof, found, Wasserstein2(eps).kappa())
                assert claimed <= oracles.certified_pairs(truth, eps), (number, eps)
                claims += len(claimed)
    assert claims > 200


def test_nan_is_never_certified():
    case = families.case("random")
    proof = prove(case.geometry())
    found = scored(proof, case.targets[:1])
    for low, high in ((np.nan, 1.0), (np.nan, np.nan), (-np.inf, np.inf)):
        broken = dataclasses.replace(
            found,
            low=np.full_like(found.low, low),
            high=np.full_like(found.high, high),
        )
        assert not sweep.count_certified(proof, broken, [0.0]).any()
        assert not swept_pairs(proof, broken, 0.0)


def test_an_infinite_threshold_certifies_nothing():
    case = families.case("random")
    proof = prove(case.geometry())
    found = scored(proof, case.targets)
    assert sweep.count_certified(proof, found, [0.0]).all()
    assert not sweep.count_certified(proof, found, [np.inf]).any()


def test_the_sweep_and_the_single_verdicts_agree():
    for name in ("random", "near ties", "one ulp", "duplicates", "condition 1e4"):
        case = families.case(name, weighted=True)
        rankings = case.rankings(0.05)
        found = scored(rankings.proof, case.targets[:1])
        claimed = swept_pairs(rankings.proof, found, rankings.threat.kappa())
        single = set()
        for i, j in itertools.permutations(range(len(case.train)), 2):
            statement = rankings.statement(target=0, above=i, below=j)
            if decide(rankings.proof, statement, rankings.threat).status == "certified":
                single.add((i, j))
        assert claimed == single, name


@pytest.mark.parametrize("size", [255, 256, 257, 513])
def test_every_pair_is_visited_once_across_tiles(size):
    rng = np.random.default_rng(size)
    train = rng.normal(size=(size, 2))
    train[size // 2] = train[0]  # an exact duplicate across tiles
    train[-1] = train[1] * (1 + 2.0**-45)  # a near duplicate across tiles
    proof = prove(natural_geometry(train, 0.0))
    visits = np.zeros((size, size), np.int64)
    for make in tiles_module.every_tile(proof):
        tile = make()
        visits[tile.first, tile.second] += np.isfinite(tile.pairs.distance)
        np.add.at(visits, tuple(tile.close.T), 1)
    np.testing.assert_array_equal(visits, np.triu(np.ones((size, size), int), 1))


@pytest.mark.parametrize("decimals", [3, 5, 8, 11])
def test_near_duplicates_keep_their_certificates(decimals):
    """The sweep loses nothing that the single verdict proves about near duplicates."""
    rng = np.random.default_rng(decimals)
    k = 6
    spread = np.linalg.qr(rng.normal(size=(k, k)))[0] * np.geomspace(1, 1e-4, k)
    base = rng.normal(size=(20, k)) @ spread.T
    train = np.concatenate(
        [base, base + 10.0**-decimals * rng.normal(size=(20, k)) @ spread.T]
    )
    target = rng.normal(size=(1, k)) @ spread.T
    case = families.Case("near", train, target, None, 0.0, False)
    rankings = case.rankings(0.1)
    claimed = swept_pairs(
        rankings.proof, scored(rankings.proof, target), rankings.threat.kappa()
    )
    for i in range(20):
        for above, below in ((i, i + 20), (i + 20, i)):
            found = rankings.verdict(target=0, above=above, below=below)
            # 0.1 % of room for the padding of the distances.
            if found.cosine > 1.001 * rankings.threat.kappa():
                assert (above, below) in claimed, (decimals, i)
