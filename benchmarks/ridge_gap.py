"""With a ridge: what the closed form certifies, what both bounds do, what could be.

The setting of the demo (K = 256, seed 0) with a ridge of a tenth of the mean eigenvalue
of the covariance, and of all of it. A random sample of pairs and targets is certified,
and attacked: a pair that an attack breaks at a radius cannot be certified there, so the
last column is an upper bound of what any theorem could certify.

Run `python -m benchmarks.ridge_gap`; add `--quick` for a small sample, or `--keep` to
replace the stored results and the table of the README.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import natgeo as ng
from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo import demo
from natgeo.display import percent

RADII = (0.003, 0.01, 0.03, 0.1)
SHARES = (0.1, 1.0)  # ridge, as a part of the mean eigenvalue
STEPS = 15
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    train, targets = _features()
    rows = [
        report("ridge_gap", **_row(train, targets, share, 200 if is_quick() else 4000))
        for share in SHARES
    ]
    if "--keep" in sys.argv:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (RESULTS / "ridge_gap.jsonl").write_text(lines)
        replace_in_readme("ridge_gap", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table; shares are rounded down."""
    head = "| ridge / mean eigenvalue | eps | closed form | certified | not broken |"
    lines = [head, "|---|---|---|---|---|"]
    for row in rows:
        for place, eps in enumerate(RADII):
            cells = (
                percent(row[name][place])
                for name in ("closed_form", "certified", "not_broken")
            )
            lines.append(f"| {row['share']:g} | {eps:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _features() -> tuple[Any, np.ndarray]:
    data = demo.load_digits(0)
    apply, params = demo.train_model(data, 0)
    predicted = np.argmax(np.asarray(apply(params, data.x_test)), axis=1)
    task, projector = (
        ng.tasks.classification(apply),
        ng.projectors.Rademacher(dim=demo.DIM, seed=0),
    )
    train = ng.featurize(task, params, (data.x, data.y), projector)
    answers = (data.x_test, predicted.astype(np.int32))
    return train, np.asarray(ng.featurize(task, params, answers, projector), np.float64)


def _row(train: Any, targets: np.ndarray, share: float, size: int) -> dict[str, Any]:
    rows = np.asarray(train, np.float64)
    ridge = share * float(np.square(rows).sum()) / rows.size
    geometry = ng.natural_geometry(train, ridge)
    order = ng.certify_rankings(geometry, targets, ng.threats.Wasserstein2(RADII[0]))
    forms = _sample(geometry, targets, size)
    found = [
        order.verdict(target=int(t), above=int(i), below=int(j))
        for t, i, j in forms.pairs
    ]
    radius = np.array([verdict.radius for verdict in found])
    closed = np.array(
        [ng.threats.Wasserstein2.radius(verdict.cosine) for verdict in found]
    )
    broken = np.array([_attack(forms, eps) < 0 for eps in RADII])
    certified = np.array([radius >= eps for eps in RADII])
    if (broken & certified).any():
        raise SystemExit("an attack broke a certified pair")
    return {
        "share": share,
        "ridge": ridge,
        "effective_dimension": geometry.effective_dimension,
        "eps": RADII,
        "sample": size,
        "closed_form": [float((closed >= eps).mean()) for eps in RADII],
        "certified": certified.mean(axis=1).tolist(),
        "not_broken": (~broken).mean(axis=1).tolist(),
    }


@dataclass(frozen=True, eq=False)
class Forms:
    """u^T N^-1 v of sampled pairs, N = I - A + (B + D)(B + D)^T, B^2 = A diagonal.

    Attributes:
        pairs: target, higher and lower example, [P, 3].
        root: the diagonal of B, [K].
        left: u, [P, K], unit vectors.
        right: v, [P, K], unit vectors.
    """

    pairs: np.ndarray
    root: np.ndarray
    left: np.ndarray
    right: np.ndarray


def _sample(geometry: Any, targets: np.ndarray, size: int) -> Forms:
    """Pairs and targets drawn with seed 0, in the eigenbasis of the covariance."""
    rows = np.asarray(geometry.train, np.float64)
    spectrum, basis = np.linalg.eigh(rows.T @ rows / len(rows))
    scale = basis / np.sqrt(spectrum + geometry.ridge)
    rng = np.random.default_rng(0)
    t = rng.integers(len(targets), size=size)
    i = rng.integers(len(rows), size=size)
    j = (i + rng.integers(1, len(rows), size=size)) % len(rows)
    weighted = rows * geometry.weights[:, None]
    u, v = targets[t] @ scale, (weighted[i] - weighted[j]) @ scale
    swap = np.einsum("pk,pk->p", u, v) < 0
    v[swap] *= -1
    i[swap], j[swap] = j[swap], i[swap]
    return Forms(
        np.stack([t, i, j], axis=1),
        np.sqrt(np.maximum(spectrum, 0) / (spectrum + geometry.ridge)),
        u / np.linalg.norm(u, axis=1)[:, None],
        v / np.linalg.norm(v, axis=1)[:, None],
    )


def _attack(forms: Forms, eps: float) -> np.ndarray:
    """The least u^T N^-1 v found with D = X Y^T of rank two and norm eps, [P].

    Each step is the steepest displacement at the last one, (a b^T + b a^T)(B + D) with
    a = N^-1 u and b = N^-1 v, at its full length. Starting elsewhere (in a direction
    without data, or at the closed form's displacement) ends in the same values.
    """
    root = forms.root[None, :, None]
    sides = np.stack([forms.left, forms.right], axis=2)
    x, y = sides, root * sides[:, :, ::-1]
    least = np.full(len(sides), np.inf)
    for _ in range(STEPS):
        cost = np.einsum("pka,pkb,pla,plb->p", x, x, y, y, optimize=True)
        x = x * (eps / np.sqrt(cost))[:, None, None]
        solved = _solve(root, x, y, sides)
        values = np.einsum("pk,pk->p", forms.left, solved[:, :, 1])
        least = np.minimum(least, values)
        turned = solved[:, :, ::-1]
        y = root * turned + y @ (np.swapaxes(x, 1, 2) @ turned)
        x = solved
    return least


def _solve(
    root: np.ndarray, x: np.ndarray, y: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """N^-1 right by Woodbury, N = I + X (B Y)^T + B Y X^T + X Y^T Y X^T."""
    outer = np.concatenate([x, root * y], axis=2)
    core = np.zeros((len(x), 4, 4))
    core[:, :2, 2:] = core[:, 2:, :2] = np.eye(2)
    core[:, 2:, 2:] = -np.swapaxes(y, 1, 2) @ y
    across = np.swapaxes(outer, 1, 2)
    return right - outer @ np.linalg.solve(core + across @ outer, across @ right)


if __name__ == "__main__":
    main()
