"""How many pairs of real digits are certified, and how many the first-order bound has.

The setting of the demo (17,226 parameters, K = 256, ridge 0) over several seeds of data
order, training and projection.

Run `python -m benchmarks.digits`; add `--quick` for one seed.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import is_quick, report
from natgeo import demo

RADII = (0.001, 0.01, 0.03, 0.1)


def main() -> None:
    for seed in range(1 if is_quick() else 5):
        document = demo.run(seed)
        curve, scan = document["curve"], document["scan"]
        places = [curve["radii"].index(radius) for radius in RADII]
        names = ("certified", "sensitivity_natural", "sensitivity_euclidean")
        report(
            "digits",
            seed=seed,
            N=document["geometry"]["N"],
            M=document["geometry"]["M"],
            K=document["geometry"]["K"],
            condition=document["geometry"]["condition"],
            eps=RADII,
            **{name: [curve[name][place] for place in places] for name in names},
            amplification_median=curve["amplification_median"],
            amplification_max=curve["amplification_max"],
            auroc={row["name"]: row["auroc"] for row in scan["detectors"]},
            recall_at_20={
                row["name"]: row["recall_at_20"] for row in scan["detectors"]
            },
        )
        ours, theirs = (np.array(curve[name]) for name in names[:2])
        if (ours < theirs).any():
            raise SystemExit(
                "the first-order bound has more pairs than the certificate"
            )


if __name__ == "__main__":
    main()
