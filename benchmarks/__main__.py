"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import (
    certificates,
    digits,
    fidelity,
    images,
    pairs,
    ridge_gap,
    scan,
    scores,
    soundness,
)

MODULES = (
    scores,
    pairs,
    digits,
    ridge_gap,
    scan,
    certificates,
    soundness,
    fidelity,
    images,
)
for module in MODULES:
    module.main()
