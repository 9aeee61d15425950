"""Checks a value, then times it against a named baseline in the same run.

A wrong answer is not timed. Wall and CPU seconds are both kept, minimum and median,
because machines are shared; a claim is a ratio to the baseline of the same row.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

README = Path(__file__).parent.parent / "README.md"


def measure(
    name: str,
    function: Callable[[], Any],
    want: Any,
    *,
    tolerance: float,
    baseline: Callable[[], Any],
    baseline_name: str,
    axes: dict[str, Any],
    repeats: int = 5,
) -> dict[str, Any]:
    """Prints and returns one row.

    Args:
        name: what is measured.
        function: returns the value; called once to compile, then timed.
        want: the right value, from code that does not share the measured code.
        tolerance: largest error allowed, relative to the largest value.
        baseline: what the time is compared with, timed in turn with `function`.
        baseline_name: what that is, in words.
        axes: sizes of the case.
        repeats: how many times each is timed.

    Raises:
        SystemExit: if the value is wrong.
    """
    start = time.perf_counter()
    got = np.asarray(jax.block_until_ready(function()), np.float64)
    first = time.perf_counter() - start
    scale = max(float(np.abs(want).max()), np.finfo(np.float64).tiny)
    error = float(np.abs(got - want).max()) / scale
    if not error <= tolerance:
        raise SystemExit(f"{name} {axes}: error {error:.2e} is above {tolerance:.1e}")
    jax.block_until_ready(baseline())
    mine, theirs = [], []
    for _ in range(repeats):
        mine.append(_time(function))
        theirs.append(_time(baseline))
    row = {
        "name": name,
        **axes,
        "error": error,
        "first_s": first,
        **_summary("", mine),
        "baseline": baseline_name,
        **_summary("baseline_", theirs),
        "ratio": min(wall for wall, _ in mine) / min(wall for wall, _ in theirs),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }
    print(json.dumps(row), flush=True)
    return row


def report(name: str, **values: Any) -> dict[str, Any]:
    """Prints and returns a row of results that are not times."""
    row = {"name": name, **values}
    print(json.dumps(row), flush=True)
    return row


def stored(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of results, one in each line; none if there is no file."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def replace_in_readme(name: str, text: str) -> None:
    """Puts a generated table between the README's `<!-- name: begin/end -->` marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = README.read_text().partition(begin)
    README.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def is_quick() -> bool:
    """Whether `--quick` was asked for: the same code on toy sizes, as the tests do."""
    return "--quick" in sys.argv


def _time(function: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(function())
    return time.perf_counter() - wall, time.process_time() - cpu


def _summary(prefix: str, times: list[tuple[float, float]]) -> dict[str, float]:
    walls = [wall for wall, _ in times]
    return {
        f"{prefix}min_s": min(walls),
        f"{prefix}median_s": statistics.median(walls),
        f"{prefix}cpu_s": min(cpu for _, cpu in times),
    }
