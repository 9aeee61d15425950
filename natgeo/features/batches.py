"""Any iterable of batches, cut again into batches of one fixed, padded size.

The features of an example then do not depend on how the caller happened to batch: every
compiled step sees the same shape, and rows are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from natgeo.errors import DataError


def as_batches(data: Any) -> Iterable[Any]:
    """Arrays become one batch; any other iterable of batches stays as it is.

    A tuple or mapping whose leaves are all arrays is a data set, `(x, y)` for instance.
    A list is a sequence of batches.
    """
    if _is_arrays(data):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise DataError(
            f"Examples must be arrays such as (x, y), or an iterable of batches; "
            f"this is a {type(data).__name__}."
        )
    return data


def fixed_batches(data: Any, size: int) -> Iterator[tuple[Any, int]]:
    """Yields `(batch, valid)`: exactly `size` rows, the first `valid` of them real.

    Padding repeats the last real row, so that it is as well-behaved as the data.

    Raises:
        DataError: if the leaves of a batch disagree in length, or there are no rows.
    """
    pending: Any = None
    seen = 0
    # Batches are copied: an iterable may fill one buffer again and again, and it runs
    # ahead of what is computed.
    convert = np.asarray if _is_arrays(data) else _copied
    for number, batch in enumerate(as_batches(data)):
        batch = _converted(batch, convert, number)
        seen += _rows(batch, number)
        pending = batch if pending is None else _joined(pending, batch, number)
        while _rows(pending, number) >= size:
            yield jax.tree.map(lambda leaf: leaf[:size], pending), size
            pending = jax.tree.map(lambda leaf: leaf[size:], pending)
    if not seen:
        raise _nothing()
    valid = _rows(pending, number)
    if valid:
        yield jax.tree.map(lambda leaf: _pad(leaf, size), pending), valid


def peek(data: Any, rows: int) -> tuple[Any, Any]:
    """The first examples, at most `rows`, and the data with them still in front.

    Raises:
        DataError: if they are not usable as examples, or there are none.
    """
    if _is_arrays(data):
        batch = _converted(data, np.asarray, 0)
        if not _rows(batch, 0):
            raise _nothing()
        return jax.tree.map(lambda leaf: leaf[:rows], batch), data
    stream, passed = iter(as_batches(data)), []
    for number, given in enumerate(stream):
        # The copy is kept, because what was given may be filled again.
        batch = _converted(given, _copied, number)
        passed.append(batch)
        if _rows(batch, number):
            # A view would keep the whole batch in memory.
            head = jax.tree.map(lambda leaf: leaf[:rows].copy(), batch)
            return head, _in_front(passed, stream)
    raise _nothing()


def total_rows(data: Any) -> int | None:
    """Number of examples if it can be known without consuming anything."""
    if isinstance(data, (tuple, dict)) or hasattr(data, "__array__"):
        leaves = jax.tree.leaves(data)
        if leaves and hasattr(leaves[0], "shape") and leaves[0].shape:
            return int(leaves[0].shape[0])
    return None


def _in_front(passed: list[Any], stream: Iterator[Any]) -> Iterator[Any]:
    """What was passed and then the rest; each batch is let go when it is handed out."""
    while passed:
        yield passed.pop(0)
    yield from stream


def _nothing() -> DataError:
    return DataError("There are no examples: the data are empty.")


def _is_arrays(data: Any) -> bool:
    if not isinstance(data, (tuple, dict)) and not hasattr(data, "__array__"):
        return False
    leaves = jax.tree.leaves(data)
    return bool(leaves) and all(hasattr(leaf, "__array__") for leaf in leaves)


def _copied(leaf: Any) -> np.ndarray:
    # In two steps: a tensor of torch does not know the copy argument of NumPy.
    return np.array(np.asarray(leaf))


def _converted(batch: Any, convert: Callable, number: int) -> Any:
    """A batch of NumPy arrays; tensors of other frameworks hand theirs over."""
    try:
        return jax.tree.map(convert, batch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Batch {number} holds what NumPy cannot read: {error} Hand out arrays; "
            f"of torch: tensor.detach().cpu(), and .float() for bfloat16."
        ) from None


def _rows(batch: Any, number: int) -> int:
    leaves = jax.tree.leaves(batch)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    if len(lengths) != 1 or None in lengths:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "none"
        raise DataError(
            f"Batch {number} holds arrays of shapes {shapes}: all need the same first "
            f"axis, one entry for each example. Convert lists to arrays first."
        )
    for leaf in leaves:
        if leaf.dtype.kind in "OUScmM":
            raise DataError(
                f"Batch {number} holds an array of dtype {leaf.dtype}: a model takes "
                f"numbers. Encode it first."
            )
    return lengths.pop()  # type: ignore[return-value]


def _joined(pending: Any, batch: Any, number: int) -> Any:
    if str(jax.tree.structure(pending)) != str(jax.tree.structure(batch)):
        raise DataError(
            f"Batch {number} is a {type(batch).__name__} of "
            f"{len(jax.tree.leaves(batch))} arrays, the batches before it a "
            f"{type(pending).__name__} of {len(jax.tree.leaves(pending))}."
        )
    return jax.tree.map(_join, pending, batch)


def _join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
        raise DataError(
            f"Batches disagree: {first.dtype} {first.shape[1:]} per example and then "
            f"{second.dtype} {second.shape[1:]}."
        )
    return second if not len(first) else np.concatenate([first, second])


def _pad(leaf: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([leaf, np.repeat(leaf[-1:], size - len(leaf), axis=0)])
