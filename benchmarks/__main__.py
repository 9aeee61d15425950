"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import (
    certificates,
    coverage,
    digits,
    fidelity,
    images,
    pairs,
    ridge_gap,
    scores,
    soundness,
)

MODULES = (
    scores,
    pairs,
    digits,
    ridge_gap,
    certificates,
    soundness,
    fidelity,
    images,
    coverage,
)
for module in MODULES:
    module.main()
