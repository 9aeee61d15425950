"""The scores that the LDS benchmark compares, each with its CPU seconds.

Seconds are of what a method computes from given checkpoints, compiled code warm; the
second number has the compilation in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import natgeo as ng
from benchmarks import lds_peers
from benchmarks.lds_problems import EXPLAINED, Problem

OURS = "Natural W-TRAK"
SEED = 0
EQUAL = lds_peers.WIDTH  # K of the comparison with other libraries
RIDGE = 1e-3  # of the comparisons of projectors and sketches
PLAIN = 2048  # K of the products of gradients
BATCH = 50  # divides every N and M, so that a projector is compiled once
PROJECTORS: dict[str, Callable[..., Any]] = {
    "CountSketch": ng.projectors.CountSketch,
    "Rademacher": ng.projectors.Rademacher,
}
Scored = lds_peers.Made


def scored(problem: Problem) -> Iterator[Scored]:
    """`(method, settings, scores [M, N], CPU seconds warm and at first)`.

    Scores are None for a library that is not installed.
    """
    seeds = range(EXPLAINED, EXPLAINED + problem.checkpoints)
    finals = Featured(problem, problem.trained(seeds))
    for setting in problem.grid:
        yield from _natural(finals, "CountSketch", *setting)
    if problem.dense:
        yield from _natural(finals, "Rademacher", EQUAL, RIDGE, (1, 3))
    if problem.sketches:
        yield from _natural(finals, "CountSketch", EQUAL, RIDGE, problem.sketches, True)
    yield _product(finals, 1, "gradient dot")
    yield _product(finals, 1, "gradient cosine")
    if problem.path:
        early = [problem.trained(seeds[:1], epoch)[0] for epoch in problem.path]
        path = Featured(problem, [*early, finals.checkpoints[0]])
        yield _product(path, len(path.checkpoints), "TracIn")
    yield _representations(problem, finals.checkpoints[0])
    rng = np.random.default_rng(SEED)
    random = rng.normal(size=(len(problem.targets[1]), problem.size))
    yield "random", {}, random, (0.0, 0.0)
    if problem.twin:
        energies = [finals.energy(place) for place in range(problem.checkpoints)]
        yield from lds_peers.trak(problem, finals.checkpoints, energies)


Member = tuple[int, int]  # the place of a checkpoint and the seed of a projector


class Featured:
    """Features of some checkpoints, computed once for each projector, with times."""

    def __init__(self, problem: Problem, checkpoints: list[Any]):
        self.problem, self.checkpoints = problem, checkpoints
        self._kept: dict[Any, tuple[Any, Any, float]] = {}
        self._first: dict[Any, float] = {}  # what compiling added

    def of(
        self, kind: str, width: int, members: list[Member]
    ) -> tuple[list, float, float]:
        """Train and target features of some members; seconds warm, at first."""
        made = [self._one(kind, width, *member) for member in members]
        warm = sum(seconds for *_, seconds in made)
        seeds = {seed for _, seed in members}
        more = sum(self._first[kind, width, seed] for seed in seeds)
        return [pair[:2] for pair in made], warm, warm + more

    def energy(self, place: int) -> float:
        """Sum of squared norms of the training features: near that of gradients."""
        (pair,), *_ = self.of("CountSketch", EQUAL, [(place, 0)])
        return float(np.square(np.asarray(pair[0], np.float64)).sum())

    def _one(self, kind: str, width: int, place: int, seed: int) -> Any:
        """Features of one member.

        The first of a projector is computed once more, to tell compiling apart.
        """
        setting = (kind, width, seed)
        if (*setting, place) not in self._kept:
            cold = None if setting in self._first else self._featurize(*setting, place)
            made = self._kept[*setting, place] = self._featurize(*setting, place)
            if cold is not None:
                self._first[setting] = max(0.0, cold[2] - made[2])
        return self._kept[*setting, place]

    def _featurize(self, kind: str, width: int, seed: int, place: int) -> Any:
        projector = PROJECTORS[kind](width, seed=seed)
        start = time.process_time()
        train, targets = (
            ng.featurize(
                self.problem.margin,
                self.checkpoints[place],
                data,
                projector,
                batch_size=BATCH,
            )
            for data in (self.problem.train, self.problem.targets)
        )
        return train, targets, time.process_time() - start


def _natural(
    held: Featured,
    kind: str,
    width: int,
    share: float,
    numbers: tuple[int, ...],
    sketches: bool = False,
) -> Iterator[Scored]:
    """Natural W-TRAK with a ridge of `share` of the trace of each covariance.

    Ensembles are over checkpoints, or over sketches of the first one.
    """
    members = [(0, n) if sketches else (n, 0) for n in range(max(numbers))]
    geometries, spent = [], 0.0
    for number in range(1, len(members) + 1):
        features, warm, first = held.of(kind, width, members[:number])
        start = time.process_time()
        train, targets = features[-1]
        rows = np.asarray(train, np.float64)
        ridge = share * float(np.square(rows).sum(axis=1).mean())
        geometries.append((ng.natural_geometry(train, ridge), targets))
        spent += time.process_time() - start
        if number not in numbers:
            continue
        start = time.process_time()
        scores = ng.ensemble(geometries).scores
        total = spent + time.process_time() - start
        about = {
            "projector": kind,
            "K": width,
            "ridge": share,
            "C": 1 if sketches else number,
            "sketches": number if sketches else 1,
            "effective_dimension": _effective_dimension(train, ridge),
        }
        yield OURS, about, scores, (warm + total, first + total)


def _effective_dimension(train: Any, ridge: float) -> float:
    """sum_k s_k / (s_k + ridge) over the positive eigenvalues s_k of the covariance."""
    rows = np.asarray(train, np.float64)
    short = rows if rows.shape[0] < rows.shape[1] else rows.T
    found = np.linalg.eigvalsh(short @ short.T / len(rows))
    found = found[found > 1e-12 * found[-1]]
    return float(np.sum(found / (found + ridge)))


def _product(held: Featured, number: int, method: str) -> Scored:
    """sum_c r_i^c phi_t^c . phi_i^c: gradient dot, TracIn; or their cosine.

    TracIn with the same step at every checkpoint.
    """
    places = [(place, 0) for place in range(number)]
    members, warm, first = held.of("CountSketch", PLAIN, places)
    start, total = time.process_time(), 0.0
    for train, targets in members:
        left, right = (np.asarray(part, np.float64) for part in (targets, train))
        right = right * train.column("weights")[:, None]
        if method.endswith("cosine"):
            left, right = (
                rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-30)[:, None]
                for rows in (left, right)
            )
        total = total + left @ right.T
    spent = time.process_time() - start
    about = {"K": PLAIN, "C": number}
    return method, about, np.asarray(total), (warm + spent, first + spent)


def _representations(problem: Problem, params: Any) -> Scored:
    """Cosine of what the last layer sees: the gradient of logit 0 in its kernel."""

    def seen(kernel: Any, x: Any) -> Any:
        inner = params["params"]
        layer = {**inner[problem.head], "kernel": kernel}
        return problem.apply({"params": {**inner, problem.head: layer}}, x[None])[0, 0]

    kernel = params["params"][problem.head]["kernel"]
    run = jax.jit(jax.vmap(jax.grad(seen), in_axes=(None, 0)))

    def scores() -> np.ndarray:
        rows = []
        for x, _ in (problem.targets, problem.train):
            parts = [run(kernel, x[i : i + 50]) for i in range(0, len(x), 50)]
            made = np.concatenate([np.asarray(part)[:, :, 0] for part in parts])
            rows.append(made / np.maximum(np.linalg.norm(made, axis=1), 1e-30)[:, None])
        return np.asarray(rows[0] @ rows[1].T, np.float64)

    spent = []
    for _ in range(2):
        start = time.process_time()
        made = scores()
        spent.append(time.process_time() - start)
    return "representation similarity", {"C": 1}, made, (spent[1], spent[0])
