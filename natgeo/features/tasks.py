"""What is attributed: a scalar output f of the model, and its residual weight r.

A task is one function `output(params, example) -> scalar`; its parameter gradient is
the feature of the example. The optional weight is r = -dL/df, the part of the loss
gradient that TRAK (2303.14186, section 3) keeps outside the feature: 1 - p for the
margin.

Margin and loss features answer different questions and are never mixed: the margin is
for attribution, the loss for label noise (its gradient carries the residual).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo.errors import ArgumentError, DataError
from natgeo.types import Array, Example, Params


@dataclass(frozen=True)
class Task:
    """A scalar output of a model on one example, and how training weighs it.

    Attributes:
        name: recorded with the features; part of what makes two runs the same.
        output: f(params, example) -> scalar; `example` has no batch axis.
        weight: r(f, example) -> scalar, or None for r = 1 and no stored weight.
        apply: the batched model behind `output`, if there is one; used once, to check
            that a prediction does not depend on the rest of its batch.
        validator: `validator(params, first_batch)` -> a function of a batch and the
            index of its first example that refuses bad batches on the host; called
            once a run, its result once a batch.
    """

    name: str
    output: Callable[[Params, Example], Array]
    weight: Callable[[Array, Example], Array] | None = None
    apply: Callable[[Params, Array], Array] | None = None
    validator: Callable[[Params, Any], Callable[[Any, int], None]] | None = None


def classification(
    apply: Callable[[Params, Array], Array], *, output: str = "margin"
) -> Task:
    """Classification of examples `(x, y)` with whole-number labels y.

    With p the softmax probability of the given label:

        output="margin":  f = log(p / (1 - p)),  r = 1 - p     (TRAK, section 3)
        output="loss":    f = -log p,            no weight     (label-noise scans)

    Args:
        apply: `apply(params, x)` -> logits, [B, classes], for inputs [B, ...].
        output: "margin" or "loss".

    Raises:
        ArgumentError: if `output` is anything else.
    """
    outputs = {"margin": _margin, "loss": _cross_entropy}
    if output not in outputs:
        raise ArgumentError(f"output={output!r}: expected 'margin' or 'loss'.")
    scalar = outputs[output]
    return Task(
        name=f"classification-{output}",
        output=lambda params, example: scalar(_single(apply, params, example), example),
        weight=_one_minus_p if output == "margin" else None,
        apply=apply,
        validator=lambda params, batch: _label_validator(apply, params, batch),
    )


def regression(apply: Callable[[Params, Array], Array]) -> Task:
    """Regression on examples `(x, y)`: f = prediction, r = y - f (squared loss / 2).

    Args:
        apply: `apply(params, x)` -> predictions, [B] or [B, 1], for inputs [B, ...].
    """
    return Task(
        name="regression",
        output=lambda params, example: jnp.reshape(_single(apply, params, example), ()),
        weight=lambda f, example: jnp.reshape(example[1], ()).astype(f.dtype) - f,
        apply=apply,
        validator=lambda params, batch: _value_validator(apply, params, batch),
    )


def as_task(task: Any) -> Task:
    """A `Task` as it is; a plain function f(params, example) becomes one."""
    if isinstance(task, Task):
        return task
    if callable(task):
        return Task(name=getattr(task, "__qualname__", "function"), output=task)
    raise ArgumentError(
        f"task={task!r} is neither a Task nor a function f(params, example) -> scalar."
    )


def _single(apply: Callable, params: Params, example: Example) -> Array:
    return apply(params, example[0][None])[0]


def _behind(logits: Array, example: Example) -> tuple[Array, Array]:
    """Which logit is the label's, and all logits minus it (small where it matters)."""
    label = jnp.asarray(example[1]).astype(jnp.int32)
    given = jnp.arange(logits.shape[-1], dtype=jnp.int32) == label
    return given, logits - jnp.sum(jnp.where(given, logits, 0))


def _margin(logits: Array, example: Example) -> Array:
    given, behind = _behind(logits, example)
    return -jax.nn.logsumexp(jnp.where(given, -jnp.inf, behind))


def _cross_entropy(logits: Array, example: Example) -> Array:
    return jax.nn.logsumexp(_behind(logits, example)[1])


def _one_minus_p(margin: Array, example: Example) -> Array:
    del example
    return jax.nn.sigmoid(-margin)


def _validate_pair(batch: Any) -> None:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(
            f"A batch must be a pair (x, y), not {type(batch).__name__}; for anything "
            f"else write your own task: tasks.Task(name, output)."
        )


def _value_validator(
    apply: Callable, params: Params, batch: Any
) -> Callable[[Any, int], None]:
    _validate_pair(batch)
    x = jnp.asarray(batch[0][:1])
    prediction = jax.eval_shape(apply, params, x)
    if prediction.shape not in ((1,), (1, 1)):
        raise DataError(
            f"The model returns shape {prediction.shape} for one input of shape "
            f"{x.shape}: regression needs one prediction, [1] or [1, 1]."
        )

    def validate(batch: Any, first: int) -> None:
        y = np.asarray(batch[1])
        if y.dtype.kind not in "iuf" or y.shape not in ((len(y),), (len(y), 1)):
            raise DataError(
                f"Values to predict have dtype {y.dtype} and shape {y.shape} from "
                f"example {first} on: expected one number for each example."
            )

    return validate


def _label_validator(
    apply: Callable, params: Params, batch: Any
) -> Callable[[Any, int], None]:
    _validate_pair(batch)
    x = jnp.asarray(batch[0][:1])
    logits = jax.eval_shape(apply, params, x)
    if logits.ndim != 2 or logits.shape[0] != 1 or logits.shape[1] < 2:
        raise DataError(
            f"The model returns shape {logits.shape} for one input of shape {x.shape}: "
            f"classification needs logits [1, classes] with at least two classes."
        )
    classes = logits.shape[1]

    def validate(batch: Any, first: int) -> None:
        y = np.asarray(batch[1])
        if y.dtype.kind not in "iu" or y.ndim != 1:
            raise DataError(
                f"Labels have dtype {y.dtype} and shape {y.shape}: expected whole "
                f"numbers, one for each example."
            )
        bad = np.flatnonzero((y < 0) | (y >= classes))
        if len(bad):
            raise DataError(
                f"Label {y[bad[0]]} at row {first + bad[0]} is not a class: the model "
                f"has {classes} classes, numbered 0 to {classes - 1}."
            )

    return validate
