"""What the command line names: `package.module:function`, arrays, checkpoints."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.errors import ArgumentError, DataError, StoreError


def call_named(option: str, name: str) -> Any:
    """Imports `package.module:function` and calls it without arguments.

    The current folder is importable, as it is for `python -m`.

    Raises:
        ArgumentError: if the name is malformed or nothing callable is there.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ArgumentError(
            f"{option}={name!r} must look like package.module:function."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"{option}={name!r}: no module named {error.name!r} here. Run natgeo from "
            f"the folder that holds it, or install its package."
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        there = "is not callable" if function is not None else "does not exist"
        raise ArgumentError(
            f"{option}={name!r}: {attribute!r} {there} in {module_name}."
        )
    return function()


def model(option: str, name: str) -> tuple[Any, Any]:
    """The pair `(apply, params)` that the named function returns."""
    value = call_named(option, name)
    if not isinstance(value, tuple) or len(value) != 2 or not callable(value[0]):
        raise ArgumentError(
            f"{option}={name!r} must return (apply, params): a function and its "
            f"parameters; it returned {type(value).__name__}."
        )
    return value


def checkpoint(path: str | os.PathLike, like: Any) -> Any:
    """Parameters from an Orbax checkpoint, in the tree of `like`.

    Args:
        path: folder that `StandardCheckpointer.save` wrote, or one step of a
            `CheckpointManager`.
        like: parameters of the same model, for their tree, shapes and dtypes.

    Raises:
        StoreError: if there is no checkpoint that can be read.
        DataError: for missing, extra or reshaped parameters, or another dtype; the
            message names them by their paths.
    """
    import jax
    import orbax.checkpoint as ocp

    folder = Path(path).resolve()
    if (folder / "default").is_dir():  # one step of a manager
        folder = folder / "default"
    if not (folder / "_METADATA").is_file():
        raise StoreError(
            f"{path} is not an Orbax checkpoint: it holds no _METADATA. Name the "
            f"folder that was saved, or one step of a CheckpointManager."
        )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like
    )
    try:
        with ocp.StandardCheckpointer() as reader:
            found = reader.metadata(folder).item_metadata
            _compare(path, _leaves(found.tree), _leaves(wanted))
            # On the host: committed to one device, they could not be shared over all.
            return jax.tree.map(np.asarray, reader.restore(folder, wanted))
    except (ValueError, KeyError, OSError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise StoreError(f"{path} cannot be read as a checkpoint: {reason}") from error


def _leaves(tree: Any) -> dict[str, Any]:
    """Everything with a shape in a tree, by its path."""
    import jax

    pairs, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: hasattr(node, "shape")
    )
    return {
        jax.tree_util.keystr(where, simple=True, separator="/"): leaf
        for where, leaf in pairs
    }


def _compare(path: Any, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses a checkpoint whose parameters are not exactly those of the model."""
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not of this model" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        ours, theirs = wanted[name], found[name]
        if tuple(ours.shape) != tuple(theirs.shape):
            problems.append(
                f"{name} has shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"
            )
        elif ours.dtype != theirs.dtype:
            problems.append(f"{name} has dtype {theirs.dtype}, not {ours.dtype}")
    if problems:
        rest = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise DataError(
            f"The checkpoint {path} does not fit the model: "
            f"{'; '.join(sorted(problems)[:4])}{rest}. Save the parameters of the "
            f"model that --model returns, and nothing else."
        )


def share(option: str, text: str) -> tuple[int, int]:
    """The pair `(p, P)` of a text `p/P`.

    Raises:
        ArgumentError: if it is not that.
    """
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if match is None:
        raise ArgumentError(
            f"{option}={text!r} must be P/N: part P, from 0, of N, such as 0/4."
        )
    return int(match[1]), int(match[2])


def flags(path: Path, rows: int) -> np.ndarray:
    """Booleans of a `.npy` file, one for each example.

    Raises:
        DataError: if the file is not a plain array of N booleans (or zeros and ones).
    """
    try:
        # Mapped, so that a header which claims too much allocates nothing; and not an
        # archive, which numpy.load would open as well.
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable .npy array: {error}.") from None
    if array.shape != (rows,):
        raise DataError(
            f"{path} has shape {array.shape}: expected one value for each of {rows} "
            f"examples."
        )
    if array.dtype.kind not in "biu" or not np.isin(array, [0, 1]).all():
        raise DataError(f"{path} must hold booleans, or zeros and ones.")
    return np.asarray(array, bool)
