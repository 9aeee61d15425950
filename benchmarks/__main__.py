"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import digits, pairs, scores

for module in (scores, pairs, digits):
    module.main()
