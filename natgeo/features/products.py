"""Uses of a parameter as a matrix: products with activations, and lookups of rows.

Each hands out, for one example, the factors of the gradient instead of the gradient:
activations and slopes of a product, numbers and slopes of looked-up rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from natgeo.features.seeded import at_least_float32, row_axes
from natgeo.types import Array


@dataclass(frozen=True)
class View:
    """A parameter leaf as a program sees it: transposed, or in another precision.

    Attributes:
        leaf: position among the leaves of the tree.
        shape: shape of the leaf.
        axes: which axis of the leaf each axis of the view is.
    """

    leaf: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def plain(self) -> bool:
        """Whether the axes are those of the leaf."""
        return self.axes == tuple(range(len(self.shape)))

    def through(self, eqn: Any) -> View | None:
        """The view after a transposition or a cast, None after anything else."""
        if eqn.primitive.name == "transpose":
            axes = tuple(self.axes[axis] for axis in eqn.params["permutation"])
            return replace(self, axes=axes)
        if eqn.primitive.name == "convert_element_type":
            floating = jnp.issubdtype(eqn.params["new_dtype"], jnp.floating)
            return self if floating else None
        return None


@dataclass(frozen=True)
class Product:
    """One product of an activation with a parameter leaf, seen as a matrix.

    Attributes:
        leaf: position of the parameter among the leaves of the tree.
        place: which operand the parameter is.
        by_column: whether activations meet the columns (a W^T) and not the rows (a W).
        contracted: axes of the activation, in the order of the leaf's axes.
        shape: shape of the product.
        dtype: dtype of the product.
    """

    leaf: int
    place: int
    by_column: bool
    contracted: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any

    def factors(self, activation: Array, slope: Array) -> tuple[Array, Array]:
        """The activation as [T, a] and the gradient of the product as [T, g]."""
        ends = tuple(range(-len(self.contracted), 0))
        a = jnp.moveaxis(at_least_float32(activation), self.contracted, ends)
        free = a.ndim - len(self.contracted)
        positions = math.prod(a.shape[:free])
        g = at_least_float32(slope)
        if self.place == 0:
            g = jnp.moveaxis(g, tuple(range(g.ndim - free, g.ndim)), tuple(range(free)))
        return a.reshape(positions, -1), g.reshape(positions, -1)

    def add_to(self, sketch: Any, a: Array, g: Array) -> None:
        """Adds the gradients of a batch, a [B, T, a] and g [B, T, g], to its sketch."""
        sketch.add_product(self.leaf, self.by_column, a, g)


@dataclass(frozen=True)
class Lookup:
    """Rows of a parameter matrix, chosen by their numbers: an embedding.

    Attributes:
        leaf: position of the parameter among the leaves of the tree.
        rows: number of rows of the matrix.
        offset: axis of the result that runs along a row.
        clip: whether a number that is out of range stands for the nearest row; such a
            number stands for no row otherwise.
        shape: shape of the result.
        dtype: dtype of the result.
        place: the parameter is the first operand.
    """

    leaf: int
    rows: int
    offset: int
    clip: bool
    shape: tuple[int, ...]
    dtype: Any
    place: int = 0

    def factors(self, numbers: Array, slope: Array) -> tuple[Array, Array]:
        """The numbers of the rows, [T], and their gradients, [T, C]."""
        g = jnp.moveaxis(at_least_float32(slope), self.offset, -1)
        g = g.reshape(-1, g.shape[-1])
        numbers = numbers.reshape(-1)
        inside = jnp.clip(numbers, 0, self.rows - 1)
        if not self.clip:
            g = jnp.where((inside == numbers)[:, None], g, 0)
        return inside.astype(jnp.int32), g

    def add_to(self, sketch: Any, rows: Array, g: Array) -> None:
        """Adds the gradients of a batch, rows [B, T] and g [B, T, C], to its sketch."""
        sketch.add_rows(self.leaf, rows, g)


def as_product(eqn: Any, inputs: Sequence[View | None]) -> Product | None:
    """The product that a `dot_general` is, if one operand is a leaf as a matrix."""
    if (inputs[0] is None) == (inputs[1] is None):
        return None
    place = 0 if inputs[0] is not None else 1
    view = inputs[place]
    assert view is not None
    contracting, batch = eqn.params["dimension_numbers"]
    if any(batch) or len(view.shape) < 2:
        return None
    pairs = sorted(
        (view.axes[mine], theirs)
        for mine, theirs in zip(contracting[place], contracting[1 - place], strict=True)
    )
    met = [axis for axis, _ in pairs]
    free = [axis for axis in view.axes if axis not in met]
    split = row_axes(view.shape)
    rows, columns = list(range(split)), list(range(split, len(view.shape)))
    if met not in (rows, columns) or free != sorted(free):
        return None
    (out,) = eqn.outvars
    return Product(
        leaf=view.leaf,
        place=place,
        by_column=met == columns,
        contracted=tuple(axis for _, axis in pairs),
        shape=tuple(out.aval.shape),
        dtype=out.aval.dtype,
    )


def as_lookup(eqn: Any, inputs: Sequence[View | None]) -> Lookup | None:
    """The lookup that a `gather` is, if it takes whole rows of a parameter matrix."""
    view, options = inputs[0], eqn.params
    if view is None or any(inputs[1:]) or len(view.shape) != 2 or not view.plain:
        return None
    numbers = options["dimension_numbers"]
    (out,) = eqn.outvars
    whole = (
        tuple(options["slice_sizes"]) == (1, view.shape[1])
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and 0 not in out.aval.shape
    )
    if not whole:
        return None
    return Lookup(
        leaf=view.leaf,
        rows=view.shape[0],
        offset=numbers.offset_dims[0],
        clip=options["mode"] == jax.lax.GatherScatterMode.CLIP,
        shape=tuple(out.aval.shape),
        dtype=out.aval.dtype,
    )
