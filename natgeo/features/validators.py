"""Refusals of bad batches on the host, before a task sees them.

Each function looks at the model and the first batch once a run, and returns a function
of a batch and the index of its first example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo.errors import DataError
from natgeo.types import Params


def _validate_pair(batch: Any) -> None:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(
            f"A batch must be a pair (x, y), not {type(batch).__name__}; for anything "
            f"else write your own task: tasks.Task(name, output)."
        )


def values(apply: Callable, params: Params, batch: Any) -> Callable[[Any, int], None]:
    """Needs one prediction, and one number to predict, for each example."""
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


def labels(apply: Callable, params: Params, batch: Any) -> Callable[[Any, int], None]:
    """Needs logits, and labels that are classes of the model."""
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


def embeddings(
    embed: Callable, params: Params, batch: Any
) -> Callable[[Any, int], None]:
    """Needs embeddings of one shape from both sides of a pair."""
    _validate_pair(batch)
    sides = [jax.eval_shape(embed, params, jnp.asarray(x[:1])).shape for x in batch]
    if sides[0] != sides[1] or len(sides[0]) != 2 or sides[0][0] != 1:
        raise DataError(
            f"The embeddings of the two sides of one example have shapes {sides[0]} "
            f"and {sides[1]}: a similarity needs [1, D] twice."
        )
    return lambda batch, first: None


def tokens(
    apply: Callable, params: Params, batch: Any, per_token: bool
) -> Callable[[Any, int], None]:
    """Needs logits over a vocabulary, and tokens that are in it."""
    tokens, _ = _sequences(batch, per_token, 0)
    one = jnp.asarray(tokens[:1]).astype(jnp.int32)
    logits = jax.eval_shape(apply, params, one)
    if logits.shape[:-1] != one.shape or logits.shape[-1] < 2:
        raise DataError(
            f"The model returns shape {logits.shape} for one sequence of shape "
            f"{one.shape}: a language model returns logits [1, T, vocabulary]."
        )
    vocabulary = logits.shape[-1]
    _check_sequences_are_independent(apply, params, one)

    def validate(batch: Any, first: int) -> None:
        tokens, chosen = _sequences(batch, per_token, first)
        for row, place in np.argwhere((tokens < 0) | (tokens >= vocabulary))[:1]:
            raise DataError(
                f"Token {tokens[row, place]} at position {place} of example "
                f"{first + row} is not in the vocabulary: the model has {vocabulary} "
                f"tokens, numbered 0 to {vocabulary - 1}."
            )
        if chosen is None:
            return
        if per_token:
            bad = (chosen < 1) | (chosen >= tokens.shape[1])
            wrong = f"no position to predict: expected 1 to {tokens.shape[1] - 1}"
        else:
            odd = ((chosen != 0) & (chosen != 1)).any(axis=1)
            bad = odd | ~(chosen[:, 1:] != 0).any(axis=1)
            wrong = "no mask of 0 and 1 that leaves a token to predict"
        for row in np.flatnonzero(bad)[:1]:
            raise DataError(f"Example {first + row} has {wrong}, not {chosen[row]}.")

    return validate


def _check_sequences_are_independent(apply: Callable, params: Params, one: Any) -> None:
    beside = jnp.concatenate([one, jnp.zeros_like(one)])
    alone, together = (
        np.asarray(apply(params, tokens), np.float64)[0] for tokens in (one, beside)
    )
    sound = np.isfinite(alone) & np.isfinite(together)
    scale = np.abs(alone[sound]).max(initial=0)
    if (np.abs(alone - together)[sound] > 1e-3 * scale + 1e-12).any():
        raise DataError(
            "The model gives a sequence a different prediction alone than in a batch, "
            "so its gradient is not defined. Switch off dropout and whatever else lets "
            "sequences of a batch compete, such as a shared capacity of experts."
        )


def _sequences(batch: Any, per_token: bool, first: int) -> tuple[Any, Any]:
    """Tokens [B, T] and their mask [B, T], positions [B], or None."""
    pair = isinstance(batch, (tuple, list))
    tokens, chosen = batch if pair and len(batch) == 2 else (batch, None)
    if (pair or per_token) and chosen is None:
        raise DataError(
            f"A batch from example {first} on is a {type(batch).__name__}: expected "
            f"{'(tokens, position)' if per_token else 'tokens or (tokens, mask)'}."
        )
    tokens = np.asarray(tokens)
    if tokens.dtype.kind not in "iu" or tokens.ndim != 2 or tokens.shape[1] < 2:
        raise DataError(
            f"Tokens have dtype {tokens.dtype} and shape {tokens.shape} from example "
            f"{first} on: expected whole numbers [B, T], at least two for each example."
        )
    if chosen is None:
        return tokens, None
    chosen = np.asarray(chosen)
    kinds, shape = ("iu", tokens.shape[:1]) if per_token else ("iubf", tokens.shape)
    if chosen.dtype.kind not in kinds or chosen.shape != shape:
        raise DataError(
            f"{'Positions' if per_token else 'Masks'} have dtype {chosen.dtype} and "
            f"shape {chosen.shape} from example {first} on: expected "
            f"{'whole numbers' if per_token else '0 and 1'} of shape {shape}."
        )
    return tokens, chosen
