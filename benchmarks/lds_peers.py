"""TRAK by traker and by dattri, on the checkpoints of the LDS benchmark.

Weights are carried over to torch, where the logits are checked against those of JAX;
each library is called as its documentation says, in float32. Both project every
checkpoint with another matrix and multiply mean scores by mean weights.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import lds_torch
from benchmarks.lds_problems import Problem

WIDTH = 512  # K of the comparison
BATCH = 50
WARM = 128  # K of a run that is not timed: traker scores with more than 100 only
LIBRARIES = {"traker": "trak", "dattri": "dattri"}
Arrays = tuple[np.ndarray, np.ndarray]
Made = tuple[str, dict[str, Any], np.ndarray | None, tuple[float, float]]


def trak(
    problem: Problem, checkpoints: Sequence[Any], energies: Sequence[float]
) -> Iterator[Made]:
    """`(library, settings, scores [M, N] or None, CPU seconds warm and at first)`.

    None stands for a library that is not installed.

    Args:
        problem: names its twin in torch, and what to compare.
        checkpoints: parameters of the Flax model.
        energies: sum over the training examples of the squared norm of the gradient of
            the margin, for each checkpoint: a ridge is a share of the trace, and the
            libraries take a number.
    """
    for (library, module), run in zip(
        LIBRARIES.items(), (_traker, _dattri), strict=True
    ):
        if importlib.util.find_spec(module) is None:
            for number, share in problem.cases:
                yield library, _settings(number, share), None, (0.0, 0.0)
            continue
        yield from _runs(library, run, problem, checkpoints, energies)


def _settings(number: int, share: float) -> dict[str, Any]:
    return {"K": WIDTH, "ridge": share, "C": number}


def _runs(
    library: str,
    run: Callable[..., np.ndarray],
    problem: Problem,
    checkpoints: Sequence[Any],
    energies: Sequence[float],
) -> Iterator[Made]:
    most = max(number for number, _ in problem.cases)
    given = [_carried(problem, params) for params in checkpoints[:most]]
    states, errors = zip(*given, strict=True)
    few = (problem.train[0][:BATCH], problem.train[1][:BATCH])
    start = time.process_time()
    run(problem.twin, states[:1], few, few, WARM, 1.0)
    cold = time.process_time() - start
    for number, share in problem.cases:
        ridge = share * float(np.mean(energies[:number]))
        start = time.process_time()
        scores = run(
            problem.twin, states[:number], problem.train, problem.targets, WIDTH, ridge
        )
        warm = time.process_time() - start
        about = _settings(number, share) | {"carried_error": max(errors[:number])}
        yield library, about, np.asarray(scores, np.float64), (warm, warm + cold)


def _carried(problem: Problem, params: Any) -> tuple[dict[str, Any], float]:
    """The state for torch, and how far its logits are from those of JAX."""
    x = problem.targets[0]
    want = np.asarray(problem.apply(params, x))
    error = lds_torch.check(problem.twin, params, x, want)
    return lds_torch.state(params), error


def _loaders(*parts: tuple[np.ndarray, np.ndarray]) -> Iterator[Any]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    for x, y in parts:
        data = TensorDataset(torch.tensor(x), torch.tensor(y).long())
        yield DataLoader(data, batch_size=BATCH, shuffle=False)


def _traker(
    twin: str,
    given: Sequence[Any],
    train: Arrays,
    targets: Arrays,
    width: int,
    ridge: float,
) -> np.ndarray:
    """Traker divides gradients by sqrt(P) and does not divide the projection."""
    from trak import TRAKer

    model = lds_torch.model(twin)
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
            lambda_reg=ridge * width / _size(model),
        )
        first, then = _loaders(train, targets)
        for place, state in enumerate(given):
            traker.load_checkpoint(state, model_id=place)
            for batch in first:
                traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        for place, state in enumerate(given):
            traker.start_scoring_checkpoint(
                exp_name="lds",
                checkpoint=state,
                model_id=place,
                num_targets=len(targets[1]),
            )
            for batch in then:
                traker.score(batch=batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores(exp_name="lds")).T


def _dattri(
    twin: str,
    given: Sequence[Any],
    train: Arrays,
    targets: Arrays,
    width: int,
    ridge: float,
) -> np.ndarray:
    """Dattri divides gradients by sqrt(P) and the projection by sqrt(K)."""
    import torch
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    model = lds_torch.model(twin)

    def logits(params: Any, image: Any) -> Any:
        return torch.func.functional_call(model, params, (image[None],))[0]

    def margin(params: Any, batch: Any) -> Any:
        image, label = batch
        made = logits(params, image)
        others = made.masked_fill(torch.arange(len(made)) == label, -torch.inf)
        return made.gather(0, label[None])[0] - others.logsumexp(0)

    def probability(params: Any, batch: Any) -> Any:
        image, label = batch
        return logits(params, image).softmax(dim=0).gather(0, label[None])[0]

    attributor = TRAKAttributor(
        task=AttributionTask(margin, model, list(given)),
        correct_probability_func=probability,
        projector_kwargs={
            "proj_type": "rademacher",
            "proj_dim": width,
            "proj_max_batch_size": 32,
            "proj_seed": 0,
            "device": "cpu",
        },
        regularization=ridge / _size(model),
    )
    first, then = _loaders(train, targets)
    with torch.no_grad():
        return attributor.attribute(then, first).numpy().T


def _size(model: Any) -> int:
    """Number of parameters P."""
    return sum(part.numel() for part in model.parameters())
