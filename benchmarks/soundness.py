"""The scoreboard: certificates issued, re-checked in exact rationals, and false ones.

Every pair of training examples of the census (near ties, one-ulp duplicates, condition
up to 1e10, Hilbert, Vandermonde, extreme scales, rank-deficient) is judged by natgeo
and by three arithmetics without error terms: Gram matrix, Cholesky, whitening,
differences and inner products, in that order. A claim is an order with a positive
radius; it is checked against the exact order and the exact radius of the stored floats.
Ties have no order, so any claim about one is wrong.

Run `python -m benchmarks.soundness`; `--quick` for a few cases, `--keep` keeps the row
and the table of the README.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg

from benchmarks.harness import is_quick, replace_in_readme, report
from natgeo.certify.rankings import Rankings
from tests import families, oracles

RESULTS = Path(__file__).parent / "results"
RADII = (1e-6, 0.01, 0.1, 0.4)  # where the sweep over all pairs is checked as well
LABELS = {
    "tf32": "TF32 products (emulated)",
    "float32": "float32",
    "float64": "float64, no error terms",
    "natgeo": "**natgeo**",
}


@dataclass
class Board:
    """What one arithmetic claimed about all pairs of the census."""

    claims: int = 0
    wrong_order: int = 0
    too_far: int = 0

    def judge(
        self, pair: oracles.Pair, sign: int, radius: float, proven: Callable
    ) -> None:
        """Counts one claim: that the pair has this order up to this radius.

        `proven(pair, radius)` says in exact rationals whether that is a theorem.
        """
        if not radius > 0:
            return
        self.claims += 1
        if sign != pair.sign:
            self.wrong_order += 1
        elif not proven(pair, radius):
            self.too_far += 1


def main() -> None:
    start = time.process_time()
    # Every fifth of the quick cases: both dtypes, with and without weights.
    cases = itertools.islice(families.cases(1), 0, None, 5)
    boards, swept, pairs, ties = {name: Board() for name in LABELS}, [0, 0], 0, 0
    for case in cases if is_quick() else families.cases(5):
        exact = oracles.Exact(case.train, case.ridge, case.weights)
        truth = [exact.pairs(target) for target in case.targets]
        pairs += sum(map(len, truth))
        ties += sum(not pair.sign for found in truth for pair in found)
        rankings = case.rankings()
        _judge_plain(boards, case, truth)
        _judge_ours(boards["natgeo"], case, rankings, exact, truth)
        for place, count in enumerate(_sweep(case, rankings, exact)):
            swept[place] += count
    row = report(
        "soundness",
        pairs=pairs,
        ties=ties,
        arithmetic={name: asdict(board) for name, board in boards.items()},
        # Who re-checked the certificates, how many, and how many were false; a checker
        # that shares no code with natgeo adds its own line here.
        checked={"exact rationals": _checked(boards["natgeo"])},
        swept={"certified": swept[0], "beyond the exact count": swept[1]},
        yield_against_float64=_yield(boards),
        cpu_s=time.process_time() - start,
    )
    if row["checked"]["exact rationals"]["false"] or swept[1]:
        raise SystemExit("a false certificate was issued")
    if "--keep" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "soundness.jsonl").write_text(json.dumps(row) + "\n")
        replace_in_readme("soundness", table(row))


def table(row: dict[str, Any]) -> str:
    """The README's table."""
    lines = [
        f"| arithmetic, {row['pairs']:,} pairs | claims | wrong order, positive radius "
        "| radius too large |",
        "|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        board = row["arithmetic"][name]
        cells = (f"{board[key]:,}" for key in ("claims", "wrong_order", "too_far"))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for checker, seen in row["checked"].items():
        lines.append("")
        lines.append(
            f"Certificates issued {seen['issued']:,}, re-checked in {checker} "
            f"{seen['checked']:,}, **false = {seen['false']:,}**."
        )
    return "\n".join(lines)


def _judge_plain(boards: dict[str, Board], case: families.Case, truth: list) -> None:
    """Every pair of every target by every arithmetic without error terms."""
    for name, dtype, products in (
        ("tf32", np.float32, _ten_bits),
        ("float32", np.float32, _as_they_are),
        ("float64", np.float64, _as_they_are),
    ):
        with np.errstate(all="ignore"):
            cosines = _plain(case, dtype, products)
        for found, pairs in zip(cosines, truth, strict=True):
            for pair in pairs:
                c = float(found[pair.first, pair.second])
                radius = oracles.radius(min(abs(c), 1.0)) if math.isfinite(c) else 0.0
                boards[name].judge(pair, 1 if c > 0 else -1, radius, _closed_form)


def _judge_ours(
    board: Board,
    case: families.Case,
    rankings: Rankings,
    exact: oracles.Exact,
    truth: list,
) -> None:
    """Both directions of every pair by natgeo's single verdicts."""
    for t, pairs in enumerate(truth):

        def proven(pair: oracles.Pair, radius: float, t: int = t) -> bool:
            return exact.proves(case.targets[t], pair, radius)

        for pair in pairs:
            i, j = pair.first, pair.second
            for above, below, sign in ((i, j, 1), (j, i, -1)):
                radius = rankings.radius(target=t, above=above, below=below)
                board.judge(pair, sign, radius, proven)


def _closed_form(pair: oracles.Pair, radius: float) -> bool:
    return oracles.holds_at(radius, pair.square)


def _sweep(
    case: families.Case, rankings: Rankings, exact: oracles.Exact
) -> tuple[int, int]:
    """Certified by the sweep at `RADII`, and how many more than hold exactly."""
    counts = rankings.counts(RADII)
    holding = np.array(
        [[len(exact.certified(t, eps)) for eps in RADII] for t in case.targets]
    )
    return int(counts.sum()), int(np.maximum(counts - holding, 0).sum())


def _plain(case: families.Case, dtype: type, products: Callable) -> np.ndarray:
    """Cosines of all pairs of each target, [M, N, N]; NaN where it breaks down.

    `products` rounds what enters a matrix product.
    """
    phi, targets = case.train.astype(dtype), case.targets.astype(dtype)
    n, m = len(phi), len(targets)
    narrow = products(phi)
    ridge = dtype(case.ridge) * np.eye(phi.shape[1], dtype=dtype)
    q = narrow.T @ narrow / dtype(n) + ridge
    try:
        # LinAlgError where it is not positive definite, ValueError where not finite.
        factor = scipy.linalg.cholesky(q, lower=True)
    except (np.linalg.LinAlgError, ValueError):
        return np.full((m, n, n), np.nan)
    w, u = (
        scipy.linalg.solve_triangular(factor, rows.T, lower=True, check_finite=False).T
        for rows in (phi, targets)
    )
    if case.weights is not None:
        w = w * case.weights.astype(dtype)[:, None]
    v = w[:, None] - w[None]
    length = np.linalg.norm(u, axis=1)[:, None, None] * np.linalg.norm(v, axis=2)
    inner = products(v.reshape(n * n, -1)) @ products(u).T
    return inner.T.reshape(m, n, n) / length


def _as_they_are(array: np.ndarray) -> np.ndarray:
    return array


def _ten_bits(array: np.ndarray) -> np.ndarray:
    """float32 rounded to the ten stored bits of TF32, to nearest, ties away."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def _checked(board: Board) -> dict[str, int]:
    false = board.wrong_order + board.too_far
    return {"issued": board.claims, "checked": board.claims, "false": false}


def _yield(boards: dict[str, Board]) -> float:
    """Certificates of natgeo for each right order that plain float64 finds."""
    plain = boards["float64"]
    return boards["natgeo"].claims / max(plain.claims - plain.wrong_order, 1)


if __name__ == "__main__":
    main()
