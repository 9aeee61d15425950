"""The nouns that the rooms hand to each other, as protocols.

Axes have one letter each, here and in every docstring: `N` train, `M` targets, `K`
projected dimension, `P` parameters, `B` batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

Array = Any  # a jax.Array or numpy.ndarray; shapes are stated in docstrings
Params = Any  # any pytree of floating-point arrays
Example = Any  # one training example: any pytree of arrays, without a batch axis


@runtime_checkable
class Projector(Protocol):
    """A random linear map from the parameter gradient, [P], to a feature, [K].

    It is regenerated from its seed and the path of each parameter, never from a
    device, a process or the order of calls. `project` must treat rows independently
    and be linear, and `E[<project(a), project(b)>] = <a, b>` over seeds. It must be
    hashable by its fields (a frozen dataclass), so that its compiled step is reused.
    """

    def width(self, params: Params) -> int:
        """Dimension K of the features it makes for `params`."""

    def project(self, gradients: Params) -> Array:
        """Maps a pytree of [B, ...] gradients to [B, K]. Traced by JAX."""

    def describe(self) -> Mapping[str, Any]:
        """Everything that changes a number, as plain values for the manifest."""


@runtime_checkable
class Store(Protocol):
    """Features at rest, [N, K], with one value per example in named columns."""

    shape: tuple[int, int]
    dtype: np.dtype
    metadata: Mapping[str, Any]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the features in order, at most `rows` at a time, in their dtype."""

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The features of the given examples, [len(indices), K]."""

    def column(self, name: str) -> np.ndarray | None:
        """A per-example column ([N]; `outputs`, `weights`), or None if absent."""

    def digest(self) -> str:
        """SHA-256 of shape, dtype and feature bytes: the identity of the data."""


@runtime_checkable
class Threat(Protocol):
    """What may happen to the training distribution, reduced to one number.

    A statement with natural cosine `c` holds under the threat if `c > kappa`
    (certificates.md: u^T M v keeps its sign for every reachable M).
    """

    def kappa(self, proof: Any) -> float:
        """A proven upper bound of the threat's kappa for the data of a `Proof`."""

    def describe(self) -> str:
        """The threat in words, with its assumptions, for the guarantee."""
