"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import digits, fidelity, pairs, scores

for module in (scores, pairs, digits, fidelity):
    module.main()
