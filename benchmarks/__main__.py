"""Runs every benchmark: `python -m benchmarks`, or `--quick` for toy sizes."""

from benchmarks import digits, fidelity, images, pairs, scores, soundness

for module in (scores, pairs, digits, fidelity, images, soundness):
    module.main()
