"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import certificates, digits, fidelity, pairs, scores

for module in (scores, pairs, digits, certificates, fidelity):
    module.main()
