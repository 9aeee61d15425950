"""TRAK by traker and by dattri, on the checkpoints of the digits perceptron.

Weights are carried over to torch; each library is called as its documentation says, in
float32, without a ridge, which is their default.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import models

BATCH = 50


def trak(
    checkpoints: Sequence[Any],
    train: tuple[np.ndarray, np.ndarray],
    targets: tuple[np.ndarray, np.ndarray],
    width: int,
) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """`(library, scores [M, N] or None, CPU seconds)` for each of the two.

    Args:
        checkpoints: parameters of the Flax perceptron.
        train: `(x, y)` of the training examples.
        targets: `(x, y)` of the targets.
        width: projection dimension K.
    """
    for name, module, run in (
        ("traker", "trak", _traker),
        ("dattri", "dattri", _dattri),
    ):
        if importlib.util.find_spec(module) is None:
            yield name, None, 0.0
            continue
        given = [_as_torch(params) for params in checkpoints]
        start = time.process_time()
        scores = run(given, train, targets, width)
        yield name, np.asarray(scores, np.float64), time.process_time() - start


def _as_torch(params: Any) -> dict[str, Any]:
    import torch

    layers = params["params"]
    return {
        f"{2 * place}.{theirs}": torch.tensor(
            np.array(layers[f"Dense_{place}"][ours]).T
        )
        for place in range(3)
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    }


def _loaders(*parts: tuple[np.ndarray, np.ndarray]) -> Iterator[Any]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    for x, y in parts:
        data = TensorDataset(torch.tensor(x), torch.tensor(y).long())
        yield DataLoader(data, batch_size=BATCH, shuffle=False)


def _traker(given: list, train: Any, targets: Any, width: int) -> np.ndarray:
    from trak import TRAKer

    model = models.torch_model("mlp").eval()
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model=model,
            task="image_classification",
            train_set_size=len(train[1]),
            save_dir=folder,
            device="cpu",
            proj_dim=width,
            use_half_precision=False,
            logging_level=40,
        )
        first, then = _loaders(train, targets)
        for place, state in enumerate(given):
            traker.load_checkpoint(state, model_id=place)
            for batch in first:
                traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        for place, state in enumerate(given):
            traker.start_scoring_checkpoint(
                exp_name="digits",
                checkpoint=state,
                model_id=place,
                num_targets=len(targets[1]),
            )
            for batch in then:
                traker.score(batch=batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores(exp_name="digits")).T


def _dattri(given: list, train: Any, targets: Any, width: int) -> np.ndarray:
    import torch
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    model = models.torch_model("mlp").eval()

    def logits(params: Any, image: Any) -> Any:
        return torch.func.functional_call(model, params, (image[None],))[0]

    def margin(params: Any, batch: Any) -> Any:
        image, label = batch
        made = logits(params, image)
        others = made.masked_fill(torch.arange(models.CLASSES) == label, -torch.inf)
        return made.gather(0, label[None])[0] - others.logsumexp(0)

    def probability(params: Any, batch: Any) -> Any:
        image, label = batch
        return logits(params, image).softmax(dim=0).gather(0, label[None])[0]

    attributor = TRAKAttributor(
        task=AttributionTask(margin, model, given),
        correct_probability_func=probability,
        projector_kwargs={
            "proj_type": "rademacher",
            "proj_dim": width,
            "proj_max_batch_size": 32,
            "proj_seed": 0,
            "device": "cpu",
        },
    )
    first, then = _loaders(train, targets)
    with torch.no_grad():
        return attributor.attribute(then, first).numpy().T
