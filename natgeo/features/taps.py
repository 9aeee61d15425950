"""Products with a parameter, where a per-example gradient need not be formed.

If a model multiplies activations a [T, d_in] with a parameter matrix W, the gradient of
its output f in W is a^T g with g = df/d(a W), [T, d_out]. This module finds those
products in the traced program, whichever framework wrote it, and evaluates the program
with a zero *tap* added to each product: differentiating in the taps hands out g, and a
is recorded on the way. Parameters used in any other way keep their ordinary gradient,
and so do the bodies of loops, conditionals and custom derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from natgeo.types import Array, Example, Params

_INLINED = ("jit", "pjit")  # the call primitive, by its names in the supported JAX


@dataclass(frozen=True)
class Product:
    """One product of an activation with a parameter leaf, seen as a matrix.

    All axes of the leaf but the last are its rows, the last is its columns.

    Attributes:
        leaf: position of the parameter among the leaves of the tree.
        by_column: whether activations meet the columns (a W^T) and not the rows (a W).
        contracted: axes of the activation, in the order of the leaf's axes.
        leaf_first: whether the parameter is the left operand.
        shape: shape of the product.
        dtype: dtype of the product.
    """

    leaf: int
    by_column: bool
    contracted: tuple[int, ...]
    leaf_first: bool
    shape: tuple[int, ...]
    dtype: Any

    def matrices(self, activation: Array, gradient: Array) -> tuple[Array, Array]:
        """The activation as [T, a] and the gradient of the product as [T, g]."""
        ends = tuple(range(-len(self.contracted), 0))
        a = jnp.moveaxis(activation, self.contracted, ends)
        free = a.ndim - len(self.contracted)
        positions = math.prod(a.shape[:free])
        g = gradient
        if self.leaf_first:
            g = jnp.moveaxis(g, tuple(range(g.ndim - free, g.ndim)), tuple(range(free)))
        return a.reshape(positions, -1), g.reshape(positions, -1)


@dataclass(frozen=True)
class Tapped:
    """A traced scalar function f(params, example) and the products found in it.

    Attributes:
        products: order of the product in the program -> product.
        leaves: the leaves all of whose uses are products.
    """

    products: dict[int, Product]
    leaves: frozenset[int]
    _program: Any

    def gradients(
        self, params: Params, example: Example
    ) -> tuple[Array, dict[int, Array], dict[int, tuple[Array, Array]]]:
        """The value of f, its ordinary gradients, and the factors of the others.

        Returns:
            The value; the gradients of the leaves that are not tapped, by leaf; and the
            factors `(a [T, .], g [T, .])` of each product, by its order.
        """
        every, inputs = jax.tree.leaves(params), jax.tree.leaves(example)
        formed = {i: leaf for i, leaf in enumerate(every) if i not in self.leaves}
        # Zeros made from a parameter, so that under shard_map they vary over devices
        # as it does: gradients in a replicated tap would be summed over the mesh.
        taps = {
            o: jnp.broadcast_to((every[p.leaf].ravel()[0] * 0).astype(p.dtype), p.shape)
            for o, p in self.products.items()
        }

        def value(formed: dict[int, Array], taps: dict[int, Array]) -> Any:
            activations: dict[int, Array] = {}

            def visit(order: int, operands: Sequence[Array], out: Array) -> Array:
                if order not in taps:
                    return out
                activations[order] = operands[
                    1 if self.products[order].leaf_first else 0
                ]
                return out + taps[order]

            arguments = [formed.get(i, leaf) for i, leaf in enumerate(every)] + inputs
            (out,) = _evaluate(self._program, arguments, _counted(visit))
            return out, activations

        (out, activations), (gradients, slopes) = jax.value_and_grad(
            value, argnums=(0, 1), has_aux=True
        )(formed, taps)
        factors = {
            o: p.matrices(activations[o], slopes[o]) for o, p in self.products.items()
        }
        return out, gradients, factors


def find_products(
    function: Callable[[Params, Example], Array], params: Params, example: Example
) -> Tapped:
    """Traces f(params, example) -> scalar and finds its products with parameters.

    Args:
        function: the scalar function.
        params: pytree of parameters (or of their shapes).
        example: one example (or its shapes), without a batch axis.
    """
    count = len(jax.tree.leaves(params))
    program = jax.make_jaxpr(function)(params, example)
    found: dict[int, Product | None] = {}
    other: set[int] = set()
    names = [i if i < count else None for i in range(len(program.jaxpr.invars))]
    outputs = _search(program.jaxpr, names, found, other, iter(range(10**9)))
    other.update(name for name in outputs if name is not None)
    used = {product.leaf for product in found.values() if product is not None}
    leaves = frozenset(used - other)
    products = {o: p for o, p in found.items() if p is not None and p.leaf in leaves}
    return Tapped(products, leaves, program)


def _search(
    jaxpr: Any,
    names: Sequence[int | None],
    found: dict[int, Product | None],
    other: set[int],
    orders: Iterator[int],
) -> list[int | None]:
    """Follows parameter leaves by name through a program to its outputs."""
    known = {var: name for var, name in zip(jaxpr.invars, names, strict=True)}

    def name_of(atom: Any) -> int | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        inputs = [name_of(atom) for atom in eqn.invars]
        if eqn.primitive.name in _INLINED:
            inner = eqn.params["jaxpr"].jaxpr
            outputs = _search(inner, inputs, found, other, orders)
            known.update(zip(eqn.outvars, outputs, strict=True))
            continue
        if eqn.primitive.name == "dot_general":
            order = next(orders)
            found[order] = _as_product(eqn, inputs)
            if found[order] is not None:
                continue
        other.update(name for name in inputs if name is not None)
    return [name_of(atom) for atom in jaxpr.outvars]


def _as_product(eqn: Any, inputs: Sequence[int | None]) -> Product | None:
    """The product that a `dot_general` is, if one operand is a leaf as a matrix."""
    if (inputs[0] is None) == (inputs[1] is None):
        return None
    place = 0 if inputs[0] is not None else 1
    contracting, batch = eqn.params["dimension_numbers"]
    rank = len(eqn.invars[place].aval.shape)
    if any(batch) or rank < 2:
        return None
    pairs = sorted(zip(contracting[place], contracting[1 - place], strict=True))
    axes = [axis for axis, _ in pairs]
    rows, columns = list(range(rank - 1)), [rank - 1]
    if axes not in (rows, columns):
        return None
    leaf = inputs[place]
    assert leaf is not None
    (out,) = eqn.outvars
    return Product(
        leaf=leaf,
        by_column=axes == columns,
        contracted=tuple(axis for _, axis in pairs),
        leaf_first=place == 0,
        shape=tuple(out.aval.shape),
        dtype=out.aval.dtype,
    )


def _counted(
    visit: Callable[[int, Any, Array], Array],
) -> Callable[[Any, Array], Array]:
    """`visit` with the order of the product in the program filled in."""
    orders = iter(range(10**9))
    return lambda operands, out: visit(next(orders), operands, out)


def _evaluate(
    program: Any, arguments: Sequence[Array], visit: Callable[[Any, Array], Array]
) -> list[Array]:
    """Runs a closed program, passing every product through `visit(operands, out)`.

    The order of the products is that of `_search`: both inline the same calls.
    """
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in _INLINED:
            out = _evaluate(eqn.params["jaxpr"], operands, visit)
        else:
            options = eqn.primitive.get_bind_params(eqn.params)
            functions, options = ((), options) if type(options) is dict else options
            out = eqn.primitive.bind(*functions, *operands, **options)
            out = list(out) if eqn.primitive.multiple_results else [out]
        if eqn.primitive.name == "dot_general":
            out = [visit(operands, out[0])]
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
