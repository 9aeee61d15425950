"""The census: families of feature sets that are hard for floating point."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from natgeo.certify.rankings import Rankings, certify_rankings
from natgeo.certify.threats import Wasserstein2
from natgeo.geometry.natural import NaturalGeometry, natural_geometry
from natgeo.store.memory import MemoryStore


@dataclass(frozen=True, eq=False)
class Case:
    """One training set with targets.

    Attributes:
        name: family, number and dtype.
        train: stored features, [N, K].
        targets: stored target features, [M, K].
        weights: residual weights, [N], or None.
        ridge: lambda.
        tame: well conditioned, so that natgeo must lose next to nothing.
    """

    name: str
    train: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    ridge: float
    tame: bool

    def geometry(self) -> NaturalGeometry:
        """The natural geometry of the case."""
        columns = {} if self.weights is None else {"weights": self.weights}
        return natural_geometry(MemoryStore(self.train, columns), self.ridge)

    def rankings(self, eps: float = 0.01) -> Rankings:
        """Rankings of the case under an order-2 threat."""
        return certify_rankings(self.geometry(), self.targets, Wasserstein2(eps))


Maker = Callable[[np.random.Generator, type], tuple[np.ndarray, float]]


def _random(rng, dtype):
    n, k = int(rng.integers(7, 13)), int(rng.integers(2, 7))
    return rng.normal(size=(max(n, k + 2), k)), 0.0


def _random_ridge(rng, dtype):
    return _random(rng, dtype)[0], 0.25


def _near_ties(rng, dtype):
    base = rng.normal(size=(5, 4))
    step = 10.0 ** -rng.integers(2, 7 if dtype == np.float32 else 14, size=(5, 1))
    return np.concatenate([base, base + step * rng.normal(size=(5, 4))]), 0.0


def _one_ulp(rng, dtype):
    base = dtype(rng.normal(size=(5, 3)))
    moved = base.copy()
    column = rng.integers(0, 3, size=5)
    moved[np.arange(5), column] = np.nextafter(moved[np.arange(5), column], dtype(9))
    return np.concatenate([base, moved]), 0.0


def _condition(power):
    def make(rng, dtype):
        k = int(rng.integers(3, 6))
        left = np.linalg.qr(rng.normal(size=(10, k)))[0]
        right = np.linalg.qr(rng.normal(size=(k, k)))[0]
        return left * np.geomspace(1, 10.0 ** (-power / 2), k) @ right * 4, 0.0

    return make


def _hilbert(rng, dtype):
    k = int(rng.integers(2, 5))
    i, j = np.arange(9)[:, None], np.arange(k)[None]
    return 1 / (i + j + 1.0), 0.0 if k < 4 else 2.0**-30


def _vandermonde(rng, dtype):
    points = np.sort(rng.uniform(0.1, 1.5, size=9))
    return np.vander(points, 4), 2.0**-20


def _huge(rng, dtype):
    return rng.normal(size=(9, 3)) * 1e20, 0.0


def _tiny(rng, dtype):
    return rng.normal(size=(9, 3)) * 1e-30, 0.0


def _mixed_scales(rng, dtype):
    return rng.normal(size=(9, 4)) * np.array([1e4, 1e-3, 1.0, 30.0]), 0.0


def _rank_deficient(rng, dtype):
    return rng.normal(size=(9, 2)) @ rng.normal(size=(2, 5)), 2.0**-12


def _fewer_than_columns(rng, dtype):
    return rng.normal(size=(4, 6)), 2.0**-7


def _duplicates(rng, dtype):
    base = rng.normal(size=(4, 3))
    return np.concatenate([base, base, rng.normal(size=(2, 3))]), 0.0


def _lattice(rng, dtype):
    rows = rng.integers(-2, 3, size=(10, 3)).astype(np.float64)
    return np.concatenate([rows, np.eye(3)]), 0.0


def _big_integers(rng, dtype):
    base = rng.integers(5000, 6000)
    return base + rng.integers(-1, 2, size=(8, 2)).astype(np.float64), 1 / 16


def _offset(rng, dtype):
    size = 1e3 if dtype == np.float32 else 1e6
    return size + rng.normal(size=(9, 3)), 2.0**-4


def _zero_row(rng, dtype):
    rows = rng.normal(size=(9, 3))
    rows[4] = 0
    return rows, 0.0


def _wild_rows(rng, dtype):
    sizes = rng.integers(-12, 12, size=(9, 1))
    return np.ldexp(rng.normal(size=(9, 3)), sizes), 2.0**-10


FAMILIES: dict[str, tuple[Maker, bool]] = {
    "random": (_random, True),
    "random with ridge": (_random_ridge, True),
    "near ties": (_near_ties, False),
    "one ulp": (_one_ulp, False),
    "condition 1e2": (_condition(2), True),
    "condition 1e4": (_condition(4), True),
    "condition 1e6": (_condition(6), False),
    "condition 1e8": (_condition(8), False),
    "condition 1e10": (_condition(10), False),
    "Hilbert": (_hilbert, False),
    "Vandermonde": (_vandermonde, False),
    "huge": (_huge, True),
    "tiny": (_tiny, True),
    "mixed scales": (_mixed_scales, False),
    "rank deficient with ridge": (_rank_deficient, False),
    "n < k with ridge": (_fewer_than_columns, True),
    "duplicates": (_duplicates, True),
    "lattice": (_lattice, True),
    "big integers": (_big_integers, False),
    "offset": (_offset, False),
    "zero row": (_zero_row, True),
    "wild rows": (_wild_rows, False),
}


def cases(repeats: int) -> Iterator[Case]:
    """`repeats` cases of every family for each dtype, with and without weights."""
    for name, (make, tame) in FAMILIES.items():
        for dtype in (np.float32, np.float64):
            for number in range(repeats):
                for weighted in (False, True):
                    yield _case(name, make, tame, dtype, number, weighted)


def case(name: str, dtype: type = np.float64, number: int = 0, weighted=False) -> Case:
    """One named case."""
    return _case(name, *FAMILIES[name], dtype, number, weighted)


def _case(name, make, tame, dtype, number, weighted) -> Case:
    label = f"{name}/{number}/{np.dtype(dtype).name}{'/weights' if weighted else ''}"
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    rows, ridge = make(rng, dtype)
    train = rows.astype(dtype)
    n, k = train.shape
    size = float(np.abs(train).max())
    first, second = rng.choice(n, size=2, replace=False)
    targets = np.stack(
        [
            rng.normal(size=k) * size,
            # Almost parallel to a difference: a cosine near one.
            (rows[first] - rows[second]) + 1e-3 * size * rng.normal(size=k),
            rows[first],
        ]
    ).astype(dtype)
    weights = None
    if weighted:
        weights = rng.uniform(0, 1, size=n).astype(dtype)
        weights[rng.integers(n)] *= -1
        if number % 2:
            weights[rng.integers(n)] = 0
    return Case(label, train, targets, weights, ridge, tame)
