"""Where a program uses a parameter so that its gradient has a known structure.

If a model multiplies activations a [T, d_in] with a parameter matrix W, the gradient of
its output f in W is a^T g with g = df/d(a W), [T, d_out]. This module finds those
products in the traced program, whichever framework wrote it, and evaluates the program
with a zero *tap* added to each: differentiating in the taps hands out g, and a is
recorded on the way. Lookups of rows (embeddings) hand out the rows' numbers and
gradients, and convolutions a gradient made of patches. Parameters used in any other way
keep their ordinary gradient, and so do the bodies of loops, conditionals and custom
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from natgeo.features.convolutions import Convolution, as_convolution
from natgeo.features.products import Lookup, Product, View, as_lookup, as_product
from natgeo.types import Array, Example, Params

Use = Product | Lookup | Convolution
_INLINED = ("jit", "pjit")  # the call primitive, by its names in the supported JAX
_TAPPED: dict[str, Callable[[Any, Sequence[View | None]], Use | None]] = {
    "dot_general": as_product,
    "gather": as_lookup,
    "conv_general_dilated": as_convolution,
}


@dataclass(frozen=True)
class Tapped:
    """A traced function f(params, example) and the structured uses found in it.

    Attributes:
        uses: order of the use in the program -> use.
        leaves: the leaves all of whose uses are tapped.
    """

    uses: dict[int, Use]
    leaves: frozenset[int]
    _program: Any

    def gradients(
        self, params: Params, example: Example
    ) -> tuple[
        Array, dict[int, Array], dict[int, tuple[Array, ...]], tuple[Array, ...]
    ]:
        """The value of f, its ordinary gradients, and the factors of the others.

        Returns:
            The value; the gradients of the leaves that are not tapped, by leaf; the
            `factors` of each use, by its order; and what f returns beside the value.
        """
        every, inputs = jax.tree.leaves(params), jax.tree.leaves(example)
        formed = {i: leaf for i, leaf in enumerate(every) if i not in self.leaves}
        # Zeros made from a parameter, so that under shard_map they vary over devices
        # as it does: gradients in a replicated tap would be summed over the mesh.
        taps = {
            o: jnp.broadcast_to((every[u.leaf].ravel()[0] * 0).astype(u.dtype), u.shape)
            for o, u in self.uses.items()
        }

        def value(formed: dict[int, Array], taps: dict[int, Array]) -> Any:
            recorded: dict[int, Sequence[Array]] = {}

            def visit(order: int, operands: Sequence[Array], out: Array) -> Array:
                if order not in taps:
                    return out
                recorded[order] = [
                    operand
                    for place, operand in enumerate(operands)
                    if place != self.uses[order].place
                ]
                return out + taps[order]

            arguments = [formed.get(i, leaf) for i, leaf in enumerate(every)] + inputs
            out, *beside = _evaluate(self._program, arguments, _counted(visit))
            return out, (recorded, tuple(beside))

        (out, (recorded, beside)), (gradients, slopes) = jax.value_and_grad(
            value, argnums=(0, 1), has_aux=True
        )(formed, taps)
        factors = {
            o: use.factors(recorded[o][0], slopes[o]) for o, use in self.uses.items()
        }
        return out, gradients, factors, beside


def find_uses(
    function: Callable[[Params, Example], Any], params: Params, example: Example
) -> Tapped:
    """Traces f(params, example) -> scalar and finds the structured uses of parameters.

    Args:
        function: the scalar function; it may return arrays beside the scalar.
        params: pytree of parameters (or of their shapes).
        example: one example (or its shapes), without a batch axis.
    """
    leaves = jax.tree.leaves(params)
    program = jax.make_jaxpr(function)(params, example)
    found: dict[int, Use | None] = {}
    other: set[int] = set()
    views: list[View | None] = [None] * len(program.jaxpr.invars)
    for number, leaf in enumerate(leaves):
        views[number] = View(number, tuple(leaf.shape), tuple(range(len(leaf.shape))))
    outputs = _search(program.jaxpr, views, found, other, iter(range(10**9)))
    other.update(view.leaf for view in outputs if view is not None)
    used = {use.leaf for use in found.values() if use is not None}
    tapped = frozenset(used - other)
    uses = {o: u for o, u in found.items() if u is not None and u.leaf in tapped}
    return Tapped(uses, tapped, program)


def _search(
    jaxpr: Any,
    views: Sequence[View | None],
    found: dict[int, Use | None],
    other: set[int],
    orders: Iterator[int],
) -> list[View | None]:
    """Follows the parameter leaves through a program to its outputs."""
    known = {var: view for var, view in zip(jaxpr.invars, views, strict=True)}

    def view_of(atom: Any) -> View | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        inputs = [view_of(atom) for atom in eqn.invars]
        name = eqn.primitive.name
        if name in _INLINED:
            inner = eqn.params["jaxpr"].jaxpr
            outputs = _search(inner, inputs, found, other, orders)
            known.update(zip(eqn.outvars, outputs, strict=True))
            continue
        if name in _TAPPED:
            order = next(orders)
            found[order] = _TAPPED[name](eqn, inputs)
            if found[order] is not None:
                continue
        seen = inputs[0].through(eqn) if inputs and inputs[0] is not None else None
        if seen is not None:
            known[eqn.outvars[0]] = seen
            continue
        other.update(view.leaf for view in inputs if view is not None)
    return [view_of(atom) for atom in jaxpr.outvars]


def _counted(
    visit: Callable[[int, Any, Array], Array],
) -> Callable[[Any, Array], Array]:
    """`visit` with the order of the use in the program filled in."""
    orders = iter(range(10**9))
    return lambda operands, out: visit(next(orders), operands, out)


def _evaluate(
    program: Any, arguments: Sequence[Array], visit: Callable[[Any, Array], Array]
) -> list[Array]:
    """Runs a closed program, passing what can be tapped through `visit(operands, out)`.

    The order of the visits is that of `_search`: both inline the same calls.
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
        if eqn.primitive.name in _TAPPED:
            out = [visit(operands, out[0])]
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
