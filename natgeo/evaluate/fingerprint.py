"""What makes two retrainings the same: the traced programs and every number in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from natgeo.features.gradients import params_digest

_ADDRESS = re.compile(r"0x[0-9a-f]+")


def of_program(function: Callable, *arguments: Any) -> str:
    """SHA-256 of a traced function: its operations, and the arrays it closes over.

    The code of a model, its data and its rates are in there; names are not.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    sha = hashlib.sha256(_ADDRESS.sub("", str(traced.jaxpr)).encode())
    for constant in _constants(traced):
        array = np.ascontiguousarray(constant)
        sha.update(f"{array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def of_arrays(arrays: Any) -> str:
    """SHA-256 of a pytree of arrays, with their paths, dtypes and shapes."""
    return params_digest(arrays)


def has_convolutions(function: Callable, *arguments: Any) -> bool:
    """Whether a traced function convolves anything."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    return any(
        equation.primitive.name == "conv_general_dilated"
        for jaxpr in _jaxprs(traced)
        for equation in jaxpr.eqns
    )


def _constants(closed: ClosedJaxpr) -> Iterator[Any]:
    yield from closed.consts
    for jaxpr in _jaxprs(closed.jaxpr):
        for inner in _inner(jaxpr):
            if isinstance(inner, ClosedJaxpr):
                yield from inner.consts


def _jaxprs(jaxpr: Jaxpr) -> Iterator[Jaxpr]:
    """A program and all programs inside it."""
    yield jaxpr
    for inner in _inner(jaxpr):
        yield from _jaxprs(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def _inner(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for one in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(one, (ClosedJaxpr, Jaxpr)):
                    yield one
