"""Random projections of parameter gradients, regenerated from a seed, never stored.

Randomness is keyed by (seed, parameter path, block of that parameter) alone: not by
device, process, batch, or the other parameters of the model. Widths have no prefix
relation to rely on: the first 256 features of width 512 are not those of width 256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from natgeo import checks
from natgeo.features.countsketch import CountSketch
from natgeo.features.kronecker import Kronecker, random_signs
from natgeo.features.seeded import Seeded, rows_by_path
from natgeo.types import Array, Params

_BLOCK = 2048  # parameters per random block; part of the definition of the dense ones


class _Dense(Seeded):
    """Dense projection on random entries of mean 0 and variance 1, over sqrt(K)."""

    def _entries(self, key: Array) -> Array:
        """The random entries of one block of parameters, [_BLOCK, K]."""
        raise TypeError(f"{type(self).__name__} does not say what its entries are")

    def _leaf(self, key: Array, rows: Array) -> Array:
        count = max(1, -(-rows.shape[1] // _BLOCK))
        padded = jnp.pad(rows, ((0, 0), (0, count * _BLOCK - rows.shape[1])))

        def add(block: int | Array, total: Array | None) -> Array:
            part = jax.lax.dynamic_slice_in_dim(padded, block * _BLOCK, _BLOCK, axis=1)
            entries = self._entries(jax.random.fold_in(key, block)).astype(rows.dtype)
            product = jnp.matmul(part, entries, precision=jax.lax.Precision.HIGHEST)
            return product if total is None else total + product

        # The first block starts the sum, so the loop carries the type (and, under
        # shard_map, the device variance) of a product.
        total = jax.lax.fori_loop(1, count, add, add(0, None))
        return total / jnp.sqrt(jnp.asarray(self.dim, rows.dtype))


@dataclass(frozen=True)
class Rademacher(_Dense):
    """Dense projection on random signs: S_pk = ±1 / sqrt(K), feature = g S.

    Args:
        dim: dimension K of the features.
        seed: a whole number below 2**31.
    """

    dim: int
    seed: int = 0

    def _entries(self, key: Array) -> Array:
        return random_signs(key, _BLOCK, self.dim)


@dataclass(frozen=True)
class Gaussian(_Dense):
    """Dense projection on normal variates: S_pk = N(0, 1) / sqrt(K), feature = g S.

    As faithful as `Rademacher` and slower: its error has the same size, and a normal
    variate costs more than a sign. Choose it where a proof asks for rotation
    invariance, or to compare with work that used it. Variates are drawn in float32
    whatever the gradients are; devices agree on them up to its rounding.

    Args:
        dim: dimension K of the features.
        seed: a whole number below 2**31.
    """

    dim: int
    seed: int = 0

    def _entries(self, key: Array) -> Array:
        return jax.random.normal(key, (_BLOCK, self.dim), jnp.float32)


@dataclass(frozen=True)
class Sparse(Seeded):
    """Sparse projection: each parameter goes to `nonzeros` random coordinates.

    A sparse Johnson-Lindenstrauss transform; `nonzeros=1` is the CountSketch. Each of
    the copies has its own coordinate and sign, scaled by 1 / sqrt(nonzeros). Its cost
    does not grow with K. On gradients that spread over many parameters it is as
    faithful as a dense projection; where one parameter holds most of the norm, use 4.

    Args:
        dim: dimension K of the features.
        seed: a whole number below 2**31.
        nonzeros: copies of each parameter, at least 1.
    """

    dim: int
    seed: int = 0
    nonzeros: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nonzeros", checks.count("nonzeros", self.nonzeros))

    def _leaf(self, key: Array, rows: Array) -> Array:
        bits = jax.random.bits(key, (self.nonzeros, rows.shape[1]), jnp.uint32)
        signs = 1 - 2 * (bits & 1).astype(rows.dtype)
        coordinates = ((bits >> 1) % jnp.uint32(self.dim)).astype(jnp.int32)
        total = sum(
            # Rows last: the sum moves whole batches, which is what memory likes.
            jax.ops.segment_sum((rows * sign[None, :]).T, where, num_segments=self.dim)
            for sign, where in zip(signs, coordinates, strict=True)
        )
        return jnp.asarray(total).T / jnp.sqrt(jnp.asarray(self.nonzeros, rows.dtype))


@dataclass(frozen=True)
class Identity:
    """No projection: the feature is the whole gradient, K = P."""

    def width(self, params: Params) -> int:
        """Number of parameters P."""
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    def describe(self) -> Mapping[str, Any]:
        """The type alone."""
        return {"type": "Identity"}

    def project(self, gradients: Params) -> Array:
        """Concatenates gradients, a pytree of [B, ...], to [B, P], in tree order."""
        return jnp.concatenate([rows for _, rows in rows_by_path(gradients)], axis=1)


# The contract checks run on every projector in this table; add yours here.
PROJECTORS: Mapping[str, Callable[..., Any]] = {
    "countsketch": CountSketch,
    "rademacher": Rademacher,
    "gaussian": Gaussian,
    "sparse": Sparse,
    "kronecker": Kronecker,
    "identity": Identity,
}
