"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import (
    certificates,
    coverage,
    digits,
    fidelity,
    images,
    label_noise,
    lds,
    pairs,
    paper,
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
    label_noise,
    paper,
    lds,
)
for module in MODULES:
    module.main()
