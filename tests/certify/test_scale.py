"""Parts that add up, samples with honest intervals, costs, and metamorphic counts."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from natgeo.certify import guarantee, sample, sweep, workload
from natgeo.certify.rankings import certify_rankings
from natgeo.certify.threats import Delete, Wasserstein2
from natgeo.errors import ArgumentError
from natgeo.geometry import kernels
from natgeo.geometry.natural import natural_geometry
from natgeo.store.memory import MemoryStore
from tests import families

RADII = [0.0, 0.01, 0.1, 0.3]


def rankings(n=60, k=4, ridge=0.0, eps=0.1, seed=0, weighted=False, m=3):
    rng = np.random.default_rng(seed)
    weights = {"weights": rng.uniform(-0.2, 1, n)} if weighted else {}
    store = MemoryStore(rng.normal(size=(n, k)) * np.geomspace(1, 0.1, k), weights)
    targets = rng.normal(size=(m, k))
    return certify_rankings(natural_geometry(store, ridge), targets, Wasserstein2(eps))


def single(found, target):
    """Ordered pairs whose own verdict is certified."""
    n = found.geometry.train.shape[0]
    return {
        (i, j)
        for i, j in itertools.permutations(range(n), 2)
        if found.verdict(target=target, above=i, below=j).status == "certified"
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_ridge_counts_are_those_of_single_verdicts(weighted):
    found = rankings(16, weighted=weighted)
    for t in range(3):
        certified = single(found, t)
        assert found.counts()[t, 0] == len(certified)
        ranks = found.ranks(t)
        for i in range(16):
            above = sum((j, i) in certified for j in range(16))
            below = sum((i, j) in certified for j in range(16))
            assert ranks[i].tolist() == [1 + above, 16 - below]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ridge", [1e-3, 0.05, 1.0])
def test_with_a_ridge_counts_lie_between_single_verdicts(ridge, weighted):
    """Below those of this radius, above those of a slightly larger one."""
    found = rankings(16, ridge=ridge, weighted=weighted)
    wider = rankings(16, ridge=ridge, weighted=weighted, eps=0.115)
    plain = [Wasserstein2(0.1).kappa()]
    for t in range(3):
        certified = single(found, t)
        got = found.counts()[t, 0]
        assert len(single(wider, t)) <= got <= len(certified)
        scored = found._every_pair._scored(np.array([t]))
        assert got >= sweep.count_certified(found.proof, scored, plain)[0, 0]
        ranks, n = found.ranks(t), 16
        above = [sum((j, i) in certified for j in range(n)) for i in range(n)]
        assert (ranks[:, 0] <= 1 + np.array(above)).all()
        assert (ranks[:, 0] - 1).sum() == got == (n - ranks[:, 1]).sum()


def test_the_bound_under_a_ridge_counts_more_pairs():
    found = rankings(200, 8, ridge=0.05)
    scored = found._every_pair._scored(np.arange(3))
    kappas = [Wasserstein2(eps).kappa() for eps in RADII]
    plain = sweep.count_certified(found.proof, scored, kappas)
    counts = found.counts(RADII)
    assert (counts >= plain).all()
    assert (counts[:, 2] > 1.04 * plain[:, 2]).all()


def test_other_threats_do_not_use_the_order_two_bound():
    found = rankings(60, ridge=0.05)
    deleted = certify_rankings(found.geometry, found.targets, Delete(2))
    kappas = [deleted.threat.kappa(found.proof)]
    scored = found._every_pair._scored(np.arange(3))
    want = sweep.count_certified(found.proof, scored, kappas)
    np.testing.assert_array_equal(deleted.counts(), want)


@pytest.mark.parametrize("ridge", [0.0, 0.05])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
def test_parts_add_up(parts, ridge):
    found = rankings(1300, 3, ridge=ridge)
    shares = [found.counts(RADII, part=(p, parts)) for p in range(parts)]
    np.testing.assert_array_equal(sum(shares), found.counts(RADII))
    np.testing.assert_array_equal(found.counts(RADII) / found.pairs, found.curve(RADII))
    assert parts == 1 or (shares[0] < sum(shares)).any()


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0), (0.0, 2), (True, 2)])
def test_parts_that_do_not_exist_are_refused(part):
    with pytest.raises(ArgumentError, match="part"):
        rankings().counts(part=part)


def metamorphic(train, targets, weights, ridge):
    columns = {} if weights is None else {"weights": weights}
    geometry = natural_geometry(MemoryStore(train, columns), ridge)
    return certify_rankings(geometry, targets, Wasserstein2(0.1)).counts(RADII)


@pytest.mark.parametrize("ridge", [0.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_do_not_depend_on_how_the_data_are_written(ridge, weighted):
    rng = np.random.default_rng(11)
    n, k = 300, 4
    train, targets = rng.normal(size=(n, k)), rng.normal(size=(3, k))
    weights = rng.uniform(0.1, 1, n) if weighted else None
    counts = metamorphic(train, targets, weights, ridge)
    order = rng.permutation(n)
    permuted = None if weights is None else weights[order]
    signs, columns = rng.choice([-1.0, 1.0], k), rng.permutation(k)
    changed = {
        "rows": metamorphic(train[order], targets, permuted, ridge),
        "signed columns": metamorphic(
            train[:, columns] * signs, targets[:, columns] * signs, weights, ridge
        ),
        "scale": metamorphic(
            np.ldexp(train, 60), np.ldexp(targets, -40), weights, np.ldexp(ridge, 120)
        ),
    }
    if ridge:
        zeros = np.zeros((n, 2)), np.zeros((3, 2))
        changed["zero columns"] = metamorphic(
            np.hstack([train, zeros[0]]),
            np.hstack([targets, zeros[1]]),
            weights,
            ridge,
        )
    for name, other in changed.items():
        np.testing.assert_array_equal(other, counts, err_msg=name)


@pytest.mark.parametrize("ridge", [0.0, 0.25])
def test_a_duplicated_data_set_has_four_times_the_pairs(ridge):
    """Each pair four times; the copies of an example are ties."""
    rng = np.random.default_rng(12)
    train, targets = rng.normal(size=(80, 4)), rng.normal(size=(3, 4))
    once = metamorphic(train, targets, None, ridge)
    twice = metamorphic(np.concatenate([train, train]), targets, None, ridge)
    np.testing.assert_array_equal(twice, 4 * once)


def test_norms_alone_are_a_lower_bound():
    found = rankings(400, 6)
    assert (found.fraction_by_norms <= found.fraction).all()
    assert (found.fraction_by_norms > 0.3 * found.fraction).all()


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_sampled_pairs_are_decided_as_single_verdicts(ridge):
    found = rankings(20, ridge=ridge, weighted=True)
    pairs = np.array(list(itertools.combinations(range(20), 2)))
    with mock.patch.object(sample, "draw_pairs", return_value=pairs):
        got = found.estimate(len(pairs)).fraction * len(pairs)
    for t in range(3):
        verdicts = single(found, t)
        assert round(got[t]) <= len(verdicts)
        # A sweep pads its distances by a little more.
        assert found.counts()[t, 0] <= round(got[t])


def test_an_estimate_records_what_it_is():
    found = rankings(50)
    first, again = (found.estimate(400, seed=3, level=0.9) for _ in range(2))
    assert (first.pairs, first.seed, first.level) == (400, 3, 0.9)
    np.testing.assert_array_equal(first.fraction, again.fraction)
    assert (first.low <= first.fraction).all()
    assert (first.fraction <= first.high).all()
    assert (found.estimate(400, seed=4).fraction != first.fraction).any()
    curve = found.estimate(400, seed=3, level=0.9, radii=[0.1, 0.3])
    np.testing.assert_array_equal(curve.fraction[:, 0], first.fraction)
    assert (curve.fraction[:, 1] <= curve.fraction[:, 0]).all()
    words = guarantee.estimate_in_words(first)
    for part in ("400 pairs", "seed 3", "90 %", "estimated", "Clopper"):
        assert part in words


def test_intervals_equal_binomial_tails():
    """The definition of Clopper and Pearson: each end leaves half the rest."""
    for count, pairs, level in ((0, 9, 0.95), (9, 9, 0.95), (3, 40, 0.8), (1, 2, 0.99)):
        got = sample.estimate(np.array([count]), pairs, 0, level)
        low, high, rest = got.low[0], got.high[0], (1 - level) / 2
        if count:
            assert stats.binom.sf(count - 1, pairs, low) == pytest.approx(rest)
        else:
            assert low == 0
        if count < pairs:
            assert stats.binom.cdf(count, pairs, high) == pytest.approx(rest)
        else:
            assert high == 1


@pytest.mark.parametrize("eps", [0.01, 0.3, 0.6])
def test_intervals_cover_the_exact_fraction(eps):
    found = rankings(40, eps=eps)
    covered = np.zeros(3)
    for seed in range(200):
        got = found.estimate(60, seed=seed, level=0.9)
        covered += (got.low <= found.fraction) & (found.fraction <= got.high)
    # Four standard errors below the level.
    assert (covered / 200 >= 0.9 - 4 * np.sqrt(0.9 * 0.1 / 200)).all()


def test_pairs_are_drawn_uniformly():
    pairs = np.sort(sample.draw_pairs(5, 50_000, 0), axis=1)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    counts = np.bincount(5 * pairs[:, 0] + pairs[:, 1])
    counts = counts[counts > 0]
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    "options",
    [{"pairs": 0}, {"pairs": 2.5}, {"seed": -1}, {"level": 1.0}, {"level": np.nan}],
)
def test_bad_samples_are_refused(options):
    with pytest.raises(ArgumentError):
        rankings().estimate(**{"pairs": 10, **options})


def test_one_example_has_nothing_to_sample():
    geometry = natural_geometry(np.ones((1, 1)), 0.5)
    one = certify_rankings(geometry, np.ones((1, 1)), Wasserstein2(0.1))
    with pytest.raises(ArgumentError, match="no pairs"):
        one.estimate(10)


def test_the_cost_is_announced():
    work = rankings(1500, 6).workload(RADII)
    assert work.pairs == 1500 * 1499 // 2
    assert 0 < work.seconds < 60
    assert work.bytes > 8 * 1500 * 6
    assert "1,124,250 pairs" in str(work)


def test_too_little_memory_is_refused_before_anything_is_computed():
    found = rankings()
    with (
        mock.patch.object(workload, "free_bytes", return_value=10**6),
        mock.patch.object(sweep, "count_certified") as counted,
    ):
        for ask in (found.counts, lambda: found.fraction, found.workload):
            with pytest.raises(ArgumentError, match=r"--dim.*--sample"):
                ask()
        counted.assert_not_called()
        found.estimate(10)  # needs the rows alone
    with (
        mock.patch.object(workload, "free_bytes", return_value=10),
        pytest.raises(ArgumentError, match="proof"),
    ):
        found.estimate(10)
    with mock.patch.object(workload, "free_bytes", return_value=None):
        found.counts()


def test_free_memory_is_the_smaller_of_system_and_group():
    texts = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4096 kB\n",
        "/sys/fs/cgroup/memory.max": "3000000\n",
        "/sys/fs/cgroup/memory.current": "1000000\n",
    }
    with mock.patch.object(workload, "_text", lambda path: texts.get(path, "")):
        assert workload.free_bytes() == 2_000_000
        texts["/sys/fs/cgroup/memory.max"] = "max\n"
        assert workload.free_bytes() == 4096 * 1024
        texts.clear()
        assert workload.free_bytes() is None


PEAK = """
import json, resource, sys
import numpy as np
import natgeo as ng
n, k, m = 6000, 512, 100
rng = np.random.default_rng(0)
train = rng.standard_normal((n, k), np.float32)
order = ng.certify_rankings(
    ng.natural_geometry(train, 0.1), train[:m], ng.threats.Wasserstein2(0.01)
)
order.proof
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
order.counts(part=(0, 40))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([before, after, order.workload().bytes]))
"""


@pytest.mark.slow
def test_the_peak_is_not_above_the_estimate():
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=root, capture_output=True, check=True
    )
    before, after, estimate = json.loads(found.stdout)
    # The proof's rows are in the estimate and were there before.
    assert after - before <= estimate - 8 * 6000 * 512


def test_little_work_is_not_compiled():
    assert kernels.for_work(1000, 10, 25) is None
    assert kernels.for_work(50_000, 100, 1) is kernels.xla


@pytest.mark.parametrize("name", ["near ties", "one ulp", "duplicates", "random"])
def test_hostile_families_count_as_single_verdicts(name):
    case = families.case(name)
    found = case.rankings(0.05)
    for t in range(len(case.targets)):
        assert found.counts()[t, 0] == len(single(found, t))
