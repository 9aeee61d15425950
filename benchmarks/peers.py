"""The torch contenders of the feature benchmark: the other libraries, and torch alone.

All featurize the same torch model, and each is called as its own documentation says.
Needs the extra `peers`.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.contenders import (
    SEEDS,
    Contender,
    grams,
    inner_product_error,
    kronecker_bound,
)


def plain_torch(model: str, width: int, few: Any) -> Contender:
    """Per-example gradients times one stored matrix of random signs."""
    import torch

    size = gradients(model, *few).shape[1]
    signs = torch.randint(0, 2, (size, width), dtype=torch.int8).float().mul_(2).sub_(1)
    return _dense(model, width, few, lambda x, y: gradients(model, x, y) @ signs)


def traker(model: str, width: int, few: Any) -> Contender:
    from trak import TRAKer

    module = _module(model)
    folder = tempfile.TemporaryDirectory()
    traker = TRAKer(
        model=module,
        task=_next_token() if model == "transformer" else "image_classification",
        train_set_size=2 * 10**5,
        save_dir=folder.name,
        device="cpu",
        proj_dim=width,
        use_half_precision=False,
        logging_level=40,
    )
    traker.load_checkpoint(module.state_dict(), model_id=0)
    place = [0, folder]  # the folder lives as long as the contender

    def featurize(x: Any, y: Any) -> np.ndarray:
        traker.featurize(batch=tensors(x, y), num_samples=len(x))
        place[0] += len(x)
        rows = slice(place[0] - len(x), place[0])
        return np.asarray(traker.saver.current_store["grads"][rows])

    return _dense(model, width, few, featurize)


def dattri(model: str, width: int, few: Any) -> Contender:
    from dattri.func.projection import random_project

    def featurize(x: Any, y: Any) -> Any:
        rows = gradients(model, x, y)
        project = random_project(
            rows, len(rows), width, 32, proj_type="rademacher", device="cpu"
        )
        return project(rows)

    return _dense(model, width, few, featurize)


def bergson(model: str, width: int, few: Any) -> Contender:
    """Its dense projection, over the weights and biases of linear layers alone."""
    featurize = _bergson(model, "global", width, 0)
    error = inner_product_error(grams([featurize(*few)]), _linear(model, few))
    return Contender(featurize, error, 6 / math.sqrt(width), width)


def bergson_kronecker(model: str, width: int, few: Any) -> Contender:
    """Its default: p x p coordinates a linear layer, p as large as the width allows."""
    count = len(_linear_names(model))
    side = math.isqrt(width // count)
    made = [_bergson(model, "per_module", side, seed) for seed in range(SEEDS)]
    want = _linear(model, few)
    error = inner_product_error(grams(one(*few) for one in made), want)
    whole = _bergson(model, "per_module", None, 0)(*few)
    exact = inner_product_error(grams([whole]), want)
    if not exact < 1e-4:
        raise SystemExit(f"gradients before projection are off by {exact:.1e}")
    columns = count * side**2
    return Contender(made[0], error, kronecker_bound(columns), columns)


PEERS = {
    "torch": plain_torch,
    "traker": traker,
    "dattri": dattri,
    "bergson": bergson,
    "bergson-kronecker": bergson_kronecker,
}


def gradients(model: str, x: np.ndarray, y: np.ndarray) -> Any:
    """Per-example gradients [B, P] in torch."""
    weights, per_example = _gradient_function(model)
    made = per_example(weights, *tensors(x, y))
    return _flat([made[name] for name in made])


def tensors(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """The tensors of a batch; images become [B, C, H, W]."""
    import torch

    if x.dtype != np.float32:
        return torch.from_numpy(x).long(), torch.from_numpy(y).long()
    x = x if x.ndim == 2 else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(x), torch.from_numpy(y).long()


def _dense(model: str, width: int, few: Any, featurize: Callable) -> Contender:
    want = gradients(model, *few).numpy()
    error = inner_product_error(grams([np.asarray(featurize(*few))]), want)
    return Contender(featurize, error, 6 / math.sqrt(width), width)


@functools.cache
def _module(model: str) -> Any:
    return models.torch_model(model)


@functools.cache
def _gradient_function(model: str) -> tuple[Any, Callable]:
    import torch

    module = _module(model)
    weights = {name: value.detach() for name, value in module.named_parameters()}

    def output(weights: Any, x: Any, y: Any) -> Any:
        made = torch.func.functional_call(module, weights, (x[None],))[0]
        return _scalar(model, made, x, y)

    one = torch.func.grad(output)
    return weights, torch.func.vmap(one, in_dims=(None, 0, 0))


def _scalar(model: str, logits: Any, x: Any, y: Any) -> Any:
    """The margin of one example; the summed next-token loss of one sequence."""
    import torch

    if model == "transformer":
        loss = torch.nn.functional.cross_entropy
        return loss(logits[:-1], x[1:], reduction="sum")
    others = logits.masked_fill(torch.arange(models.CLASSES) == y, -torch.inf)
    return logits.gather(0, y[None])[0] - others.logsumexp(0)


def _next_token() -> Any:
    """The transformer's task in traker's terms."""
    import torch
    from trak.modelout_functions import AbstractModelOutput

    class NextToken(AbstractModelOutput):
        def __init__(self):
            super().__init__()

        @staticmethod
        def get_output(model, weights, buffers, tokens, label):
            logits = torch.func.functional_call(
                model, (weights, buffers), tokens[None]
            )[0]
            return _scalar("transformer", logits, tokens, label)

        def get_out_to_loss_grad(self, model, weights, buffers, batch):
            return torch.ones(len(batch[0]), 1)  # the output is the loss

    return NextToken()


@functools.cache
def _linear_names(model: str) -> list[str]:
    import torch

    module = _module(model)
    found = dict(module.named_modules()).items()
    return [name for name, part in found if isinstance(part, torch.nn.Linear)]


def _linear(model: str, few: Any) -> np.ndarray:
    """Per-example gradients of the linear layers alone, which is all that bergson has.

    The order of the parameters does not matter to inner products.
    """
    weights, per_example = _gradient_function(model)
    made = per_example(weights, *tensors(*few))
    names = [f"{n}.{part}" for n in _linear_names(model) for part in ("weight", "bias")]
    return _flat([made[name] for name in names]).numpy()


def _flat(parts: list[Any]) -> Any:
    import torch

    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _bergson(model: str, target: str, dim: int | None, seed: int) -> Callable:
    """A collector as bergson's own loop over batches uses it, without its disk."""
    import torch
    from bergson import GradientCollector, GradientProcessor, IndexConfig
    from datasets import Dataset

    module = models.torch_model(model)
    module.device = torch.device("cpu")
    collector = GradientCollector(
        model=module,
        processor=GradientProcessor(
            projection_dim=dim,
            projection_target=target,
            projection_seed=seed,
            include_bias=True,
        ),
        data=Dataset.from_dict({"input_ids": [[0]]}),
        cfg=IndexConfig(run_path=""),
        skip_index=True,
    )

    def featurize(x: np.ndarray, y: np.ndarray) -> Any:
        x, y = tensors(x, y)
        collector.mod_grads.clear()
        # What is differentiated only has to lie below the first linear layer.
        below = module.places if model == "transformer" else x.requires_grad_()
        with collector.with_batch():
            logits = module(x if model == "transformer" else x[:, None])
            logits = logits if model == "transformer" else logits[:, 0]
            each = torch.func.vmap(functools.partial(_scalar, model))(logits, x, y)
            torch.autograd.grad(each.sum(), [below])
        collector.finalize_global_projection()
        parts = collector.mod_grads
        return torch.cat([parts[name] for name in sorted(parts)], dim=1)

    return featurize
