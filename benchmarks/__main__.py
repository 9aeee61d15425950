"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import (
    certificates,
    digits,
    fidelity,
    images,
    lds,
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
    lds,
)
for module in MODULES:
    module.main()
