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
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo.errors import ArgumentError
from natgeo.features import validators
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
        only: a regular expression; gradients are taken in the parameters whose path
            (as `jax.tree_util.keystr` writes it) it is found in, all others are fixed.
        predicted: `predicted(params, example)` -> the output and what the model
            predicts, from one pass, for `featurize(record=)`; None records nothing.
    """

    name: str
    output: Callable[[Params, Example], Array]
    weight: Callable[[Array, Example], Array] | None = None
    apply: Callable[[Params, Array], Array] | None = None
    validator: Callable[[Params, Any], Callable[[Any, int], None]] | None = None
    only: str | None = None
    predicted: Callable[[Params, Example], tuple[Array, Array]] | None = None


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
    scalar = _scalar_of_logits(output)
    return Task(
        name=f"classification-{output}",
        output=lambda params, example: scalar(_single(apply, params, example), example),
        weight=_one_minus_p if output == "margin" else None,
        apply=apply,
        validator=lambda params, batch: validators.labels(apply, params, batch),
    )


def recorded_loss(apply: Callable[[Params, Array], Array]) -> Task:
    """`classification(apply, output="loss")` that hands out its logits as well."""

    def predicted(params: Params, example: Example) -> tuple[Array, Array]:
        logits = _single(apply, params, example)
        return _cross_entropy(logits, example), logits

    return replace(classification(apply, output="loss"), predicted=predicted)


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
        validator=lambda params, batch: validators.values(apply, params, batch),
    )


def language_model(
    apply: Callable[[Params, Array], Array],
    *,
    output: str = "margin",
    per_token: bool = False,
) -> Task:
    """Next-token prediction on examples that are sequences of T >= 2 tokens.

    An example is `tokens` [T], or `(tokens, mask)` with a mask [T] of 0 and 1: token t
    is predicted from those before it if t >= 1 and mask[t] = 1 (0 for padding, or for a
    prompt). With p_t the softmax probability of token t in the logits at t - 1, sums
    (not means) over the n predicted tokens, in nats:

        output="margin":  f = sum_t log(p_t / (1 - p_t)),  r = sigmoid(-f / n)
        output="loss":    f = sum_t -log p_t,              no weight

    The features of a sequence are the sum of those of its tokens. r is 1 - p at the
    mean log-odds: -dL/df exactly for one token, or if all are predicted equally well.
    With `per_token` an example is `(tokens, position)`, position from 1 to T - 1: that
    token alone is predicted, n = 1 and r = 1 - p.

    Args:
        apply: `apply(params, tokens)` -> logits, [B, T, vocabulary], for int32 tokens
            [B, T]; the logits at t must not depend on later tokens.
        output: "margin" or "loss".
        per_token: attribute single tokens instead of sequences.

    Raises:
        ArgumentError: if `output` is anything else.
    """
    scalar = _scalar_of_logits(output)

    def total(params: Params, example: Example) -> Array:
        tokens, predicted = _predicted(example, per_token)
        logits = apply(params, tokens[None])[0, :-1]
        # Sums over tokens in float32 at least. And not even an infinite logit of a
        # token that is left out reaches the gradient.
        logits = logits.astype(np.promote_types(logits.dtype, np.float32))
        logits = jnp.where(predicted[:, None], logits, 0)
        each = jax.vmap(lambda row, token: scalar(row, (None, token)))
        return jnp.sum(jnp.where(predicted, each(logits, tokens[1:]), 0))

    def weight(f: Array, example: Example) -> Array:
        _, predicted = _predicted(example, per_token)
        return jax.nn.sigmoid(-f / jnp.sum(predicted, dtype=f.dtype))

    return Task(
        name=f"language-model-{output}" + ("-per-token" if per_token else ""),
        output=total,
        weight=weight if output == "margin" else None,
        validator=lambda params, batch: validators.tokens(
            apply, params, batch, per_token
        ),
    )


def contrastive(
    embed: Callable[[Params, Array], Array], *, similarity: str = "cosine"
) -> Task:
    """Similarity of the two sides of examples `(x1, x2)`; no weight.

        similarity="cosine":  f = e1.e2 / (norm(e1) norm(e2)),  e = embed(params, x)
        similarity="dot":     f = e1.e2

    The output of a pair does not depend on other pairs, so it has a gradient of its
    own; the loss it was trained with (InfoNCE, say) compares pairs of a batch, does not
    belong to one example, and gives no residual weight.

    Args:
        embed: `embed(params, x)` -> embeddings, [B, D], for either side, [B, ...].
        similarity: "cosine" or "dot".

    Raises:
        ArgumentError: if `similarity` is anything else.
    """
    if similarity not in ("cosine", "dot"):
        raise ArgumentError(f"similarity={similarity!r}: expected 'cosine' or 'dot'.")

    def output(params: Params, example: Example) -> Array:
        one, two = (embed(params, x[None])[0] for x in example)
        if similarity == "cosine":
            one, two = (e / jnp.linalg.norm(e) for e in (one, two))
        return jnp.sum(one * two)

    return Task(
        name=f"contrastive-{similarity}",
        output=output,
        apply=embed,
        validator=lambda params, batch: validators.embeddings(embed, params, batch),
    )


def from_loss(
    output: Callable[[Params, Example], Array],
    loss: Callable[[Array, Example], Array],
    *,
    name: str | None = None,
) -> Task:
    """A task from f = output(params, example) and L = loss(f, example): r = -dL/df.

    For instance `loss=lambda f, example: jax.nn.softplus(-f)` of a margin gives 1 - p,
    and half the squared error of a prediction gives the residual y - f.

    Args:
        output: the scalar that is attributed.
        loss: the training loss of one example, a scalar function of f.
        name: recorded with the features; default: the names of both functions.

    Raises:
        ArgumentError: if `output` or `loss` is not a function.
    """
    for role, function in (("output", output), ("loss", loss)):
        if not callable(function) or isinstance(function, Task):
            raise ArgumentError(
                f"{role}={function!r} is not a function: from_loss takes "
                f"output(params, example) and loss(f, example), both scalar."
            )
    names = (getattr(f, "__qualname__", "function") for f in (output, loss))
    slope = jax.grad(loss)
    return Task(
        name=name or " with ".join(names),
        output=output,
        weight=lambda f, example: -slope(f, example),
    )


def restricted(task: Task, only: str) -> Task:
    """The task with gradients in some of the parameters alone.

    Last layers, adapters, everything but the embeddings: cheaper, and a different
    attribution. Features of different choices are never compared.

    Args:
        task: any task.
        only: a regular expression, found in the path of each chosen parameter, such as
            `Dense_2`, `lora_` or `^(?!.*embedding)`.
    """
    return replace(task, only=only)


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


def _scalar_of_logits(output: str) -> Callable[[Array, Example], Array]:
    outputs = {"margin": _margin, "loss": _cross_entropy}
    if output not in outputs:
        raise ArgumentError(f"output={output!r}: expected 'margin' or 'loss'.")
    return outputs[output]


def _predicted(example: Example, per_token: bool) -> tuple[Array, Array]:
    """Tokens [T], int32, and which of the last T - 1 are predicted."""
    tokens, chosen = example if isinstance(example, (tuple, list)) else (example, None)
    tokens = jnp.asarray(tokens).astype(jnp.int32)
    if per_token:
        places = jnp.arange(1, tokens.shape[0], dtype=jnp.int32)
        return tokens, places == jnp.asarray(chosen).astype(jnp.int32)
    if chosen is None:
        return tokens, jnp.ones(tokens.shape[0] - 1, bool)
    return tokens, jnp.asarray(chosen)[1:] != 0


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
