"""Writes lds.npz: linear datamodeling scores and leave-one-out correlations by dattri.

Made-up scores and outputs of retrained models, some of them tied. Run `python
tests/data/make_lds.py` where the extra `peers` is installed; the tests read the file
and need neither torch nor dattri.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from dattri.metric import lds, loo_corr

TRAIN, TARGETS, SUBSETS = 40, 7, 30


def main() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(TARGETS, TRAIN))
    indices = np.stack([rng.permutation(TRAIN)[: TRAIN // 2] for _ in range(SUBSETS)])
    sums = np.stack([scores[:, rows].sum(axis=1) for rows in indices])
    outputs = sums + 4 * rng.normal(size=sums.shape)
    outputs[:, 3] = np.round(outputs[:, 3])  # ties
    scores[4] = rng.integers(-1, 2, TRAIN)  # ties on the other side
    without = -scores.T + 3 * rng.normal(size=(TRAIN, TARGETS))
    made, _ = lds(
        torch.tensor(scores.T), (torch.tensor(outputs), torch.tensor(indices))
    )
    left = loo_corr(
        torch.tensor(scores.T), (torch.tensor(without), torch.arange(TRAIN))
    )[0]
    np.savez_compressed(
        Path(__file__).with_name("lds.npz"),
        scores=scores,
        indices=indices.astype(np.int32),
        outputs=outputs,
        without=without,
        lds=made.numpy(),
        loo_corr=left.numpy(),
    )


if __name__ == "__main__":
    main()
