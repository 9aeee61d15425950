"""What the seeded projectors share: checks, description and random keys."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError
from natgeo.types import Array, Params


class Seeded:
    """Checks and description shared by the projectors that have a width and a seed."""

    dim: int
    seed: int

    def __post_init__(self) -> None:
        # Plain integers, so that a description is plain JSON.
        object.__setattr__(self, "dim", checks.count("dim", self.dim))
        object.__setattr__(self, "seed", checks.count("seed", self.seed, low=0))
        if self.seed >= 2**31:
            raise ArgumentError(f"seed={self.seed} must be below 2**31.")

    def width(self, params: Params) -> int:
        """Dimension K of the features."""
        del params
        return self.dim

    def describe(self) -> Mapping[str, Any]:
        """Type and fields, as plain values."""
        return {"type": type(self).__name__, **vars(self)}

    def project(self, gradients: Params) -> Array:
        """Maps gradients, a pytree of [B, ...], to features [B, K]."""
        leaves = list(rows_by_path(gradients))
        parts = [self._leaf(path_key(self.seed, path), rows) for path, rows in leaves]
        return sum(parts[1:], start=parts[0])

    def _leaf(self, key: Array, rows: Array) -> Array:
        """Projects the gradients of one parameter, [B, P], to [B, K]."""
        raise TypeError(f"{type(self).__name__} does not say how to project")


class Factored(Seeded):
    """Shared by the projectors that also take gradients as factors, by `sketch`."""

    def sketch(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """An empty sketch of a batch of gradients of these shapes, by path."""
        raise TypeError(f"{type(self).__name__} does not say how to sketch")

    def project(self, gradients: Params) -> Array:
        """Maps formed gradients, a pytree of [B, ...], to features [B, K]."""
        leaves = jax.tree_util.tree_leaves_with_path(gradients)
        sketch = self.sketch(
            {jax.tree_util.keystr(path): leaf.shape[1:] for path, leaf in leaves}
        )
        for number, (_, leaf) in enumerate(leaves):
            sketch.add_formed(number, leaf)
        return sketch.total()


def row_axes(shape: Sequence[int]) -> int:
    """How many leading axes of a leaf are its rows; the others are its columns.

    The split that makes the matrix as square as it can be: the rows of an attention
    projection [features, heads, size] are its features. Vectors are one column, so that
    each entry is a row of its own.
    """
    if len(shape) < 2:
        return len(shape)
    splits = range(len(shape) - 1, 0, -1)
    return min(splits, key=lambda s: max(math.prod(shape[:s]), math.prod(shape[s:])))


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """The rows and columns of a leaf, see `row_axes`."""
    axes = row_axes(shape)
    return math.prod(shape[:axes]), math.prod(shape[axes:])


def rows_by_path(gradients: Params) -> Iterator[tuple[str, Array]]:
    """The path and the gradients, [B, P], of each leaf of a pytree of [B, ...]."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        yield jax.tree_util.keystr(path), jnp.reshape(leaf, (leaf.shape[0], -1))


def path_key(seed: int, path: str) -> Array:
    """The random key of one parameter: of the seed and its path, and nothing else."""
    # The generator is named, so that the user's default cannot change the features.
    word = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "little")
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), word)


def at_least_float32(leaf: Array) -> Array:
    """Half-precision gradients are summed in float32."""
    # NumPy's rule: jnp.promote_types refuses under strict promotion.
    return leaf.astype(np.promote_types(leaf.dtype, np.float32))
