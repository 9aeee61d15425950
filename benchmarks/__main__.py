"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import (
    certificates,
    coverage,
    digits,
    fidelity,
    flips,
    images,
    label_noise,
    lds,
    pairs,
    paper,
    ridge_gap,
    scan,
    scores,
    soundness,
    table_noise,
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
    coverage,
    label_noise,
    table_noise,
    paper,
    lds,
    flips,
)
for module in MODULES:
    module.main()
