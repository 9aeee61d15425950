"""Writes dattri.npz: TRAK scores by dattri, an implementation that is not ours.

Softmax regression on 200 digits, no projection, everything in float64, for one
checkpoint and for the ensemble of two. Run `python tests/data/make_dattri.py` where the
extra `peers` is installed; the tests read the file and need neither torch nor dattri.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from sklearn.datasets import load_digits

TRAIN, TARGETS, CLASSES = 200, 20, 10
REGULARISATION = 1e-3  # added to dattri's sum over examples of its scaled gradients


def main() -> None:
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[: TRAIN + TARGETS], labels[: TRAIN + TARGETS]
    x = pixels / 16
    # Each checkpoint is trained on its own half, every other row.
    kernels, biases = zip(
        *(fit(x[start:TRAIN:2], labels[start:TRAIN:2]) for start in (0, 1)),
        strict=True,
    )
    checkpoints = [as_torch(*pair) for pair in zip(kernels, biases, strict=True)]
    arrays = {
        "pixels": pixels.astype(np.uint8),  # 0 to 16; the inputs are a sixteenth
        "labels": labels.astype(np.int32),
        "kernels": np.stack(kernels),
        "biases": np.stack(biases),
        "regularisation": np.float64(REGULARISATION),
        "one": attribute(checkpoints[:1], x, labels),
        "two": attribute(checkpoints, x, labels),
    }
    np.savez_compressed(Path(__file__).with_name("dattri.npz"), **arrays)


def fit(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """300 steps of gradient descent from zero: kernel [64, 10] and bias [10]."""
    kernel, bias = np.zeros((x.shape[1], CLASSES)), np.zeros(CLASSES)
    for _ in range(300):
        odds = np.exp(x @ kernel + bias)
        slope = odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
        kernel -= 0.3 * x.T @ slope / len(x)
        bias -= 0.3 * slope.mean(axis=0)
    return kernel, bias


def as_torch(kernel: np.ndarray, bias: np.ndarray) -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor(kernel.T), "bias": torch.tensor(bias)}


def attribute(
    checkpoints: list[dict[str, torch.Tensor]], x: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Scores by dattri, [targets, train]."""
    model = torch.nn.Linear(x.shape[1], CLASSES).double()

    def logits(params, image):
        return torch.func.functional_call(model, params, image)

    def margin(params, batch):
        image, label = batch
        made = logits(params, image)
        others = made.masked_fill(torch.arange(CLASSES) == label, -torch.inf)
        return made.gather(0, label[None])[0] - others.logsumexp(0)

    def probability(params, batch):
        image, label = batch
        return logits(params, image).softmax(dim=0).gather(0, label[None])[0]

    def loader(rows):
        data = torch.utils.data.TensorDataset(
            torch.tensor(x[rows]), torch.tensor(labels[rows]).long()
        )
        return torch.utils.data.DataLoader(data, batch_size=50, shuffle=False)

    attributor = TRAKAttributor(
        task=AttributionTask(margin, model, checkpoints),
        correct_probability_func=probability,
        projector_kwargs={"proj_type": "identity", "proj_dim": 1, "device": "cpu"},
        regularization=REGULARISATION,
    )
    with torch.no_grad():
        got = attributor.attribute(
            loader(slice(TRAIN, None)), loader(slice(None, TRAIN))
        )
    return got.numpy().T


if __name__ == "__main__":
    main()
