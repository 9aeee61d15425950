"""Per-example gradients of convolution kernels, as products of patches and slopes.

Differentiating a batch of single-example convolutions in their shared kernel makes XLA
run one grouped convolution with as many groups as examples, which no backend does well.
The same gradient is a matrix product: with x the padded input and g the gradient of the
output, for every offset (i, j) of the kernel

    dK[i, j, c, o] = sum_t x[t + (i, j), c] g[t, o]

The windows of the last spatial axis are laid side by side, so that one product serves a
whole row of the kernel at a copy of the input for each of its columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from natgeo.features.products import View
from natgeo.features.seeded import at_least_float32
from natgeo.types import Array

HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Convolution:
    """One convolution of an activation with a parameter leaf as its kernel.

    Attributes:
        leaf: position of the parameter among the leaves of the tree.
        kernel: shape of the leaf.
        strides: of the windows, for each spatial axis.
        padding: of the input, (low, high) for each spatial axis.
        input_dilation: of the input, for each spatial axis.
        kernel_dilation: of the kernel, for each spatial axis.
        layout: which axes are batch or channels, as JAX's `ConvDimensionNumbers`.
        shape: shape of the output.
        dtype: dtype of the output.
        place: the parameter is the second operand.
    """

    leaf: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    layout: Any
    shape: tuple[int, ...]
    dtype: Any
    place: int = 1

    def factors(self, activation: Array, slope: Array) -> tuple[Array]:
        """The gradient in the kernel, from the input and the output's gradient."""
        x, g = at_least_float32(activation), at_least_float32(slope)
        g = _channels_last(g, self.layout.out_spec)
        spatial = g.shape[1:-1]
        flat = g.reshape(-1, g.shape[-1])
        *leading, width = (self.kernel[axis] for axis in self.layout.rhs_spec[2:])
        windows = self._side_by_side(self._padded(x), spatial[-1], width)
        rows = [
            jnp.einsum(
                "tr,to->ro",
                self._window(windows, offset, spatial[:-1]).reshape(len(flat), -1),
                flat,
                precision=HIGHEST,
            )
            for offset in itertools.product(*map(range, leading))
        ]
        channels = windows.shape[-1] // width
        made = jnp.stack(rows).reshape(*leading, width, channels, flat.shape[-1])
        return (_as_kernel(made, self.layout.rhs_spec),)

    def add_to(self, sketch: Any, gradient: Array) -> None:
        """Adds the gradients of a batch to its sketch."""
        sketch.add_formed(self.leaf, gradient)

    def _padded(self, activation: Array) -> Array:
        x = _channels_last(activation, self.layout.lhs_spec)
        inner = [
            (low, high, dilation - 1)
            for (low, high), dilation in zip(
                self.padding, self.input_dilation, strict=True
            )
        ]
        zero = jnp.zeros((), x.dtype)
        return jax.lax.pad(x, zero, [(0, 0, 0), *inner, (0, 0, 0)])

    def _side_by_side(self, x: Array, size: int, width: int) -> Array:
        """The windows of the last spatial axis, [N, ..., size, width * channels]."""
        stride, dilation = self.strides[-1], self.kernel_dilation[-1]
        parts = [
            jax.lax.slice_in_dim(
                x,
                j * dilation,
                j * dilation + (size - 1) * stride + 1,
                stride,
                axis=x.ndim - 2,
            )
            for j in range(width)
        ]
        return jnp.concatenate(parts, axis=-1)

    def _window(self, x: Array, offset: Sequence[int], sizes: Sequence[int]) -> Array:
        """What one offset in the other spatial axes meets, [N, ..., channels]."""
        for axis, (place, size) in enumerate(zip(offset, sizes, strict=True)):
            start, stride = place * self.kernel_dilation[axis], self.strides[axis]
            x = jax.lax.slice_in_dim(
                x, start, start + (size - 1) * stride + 1, stride, axis=axis + 1
            )
        return x


def as_convolution(eqn: Any, inputs: Sequence[View | None]) -> Convolution | None:
    """The convolution that an equation is, if its kernel alone is a leaf.

    Grouped convolutions are left to ordinary differentiation: their gradients are small
    and their patches are not.
    """
    options, view = eqn.params, inputs[1]
    out = eqn.outvars[0].aval
    if inputs[0] is not None or view is None or not view.plain or 0 in out.shape:
        return None
    if options["feature_group_count"] != 1 or options["batch_group_count"] != 1:
        return None
    layout = options["dimension_numbers"]
    if len(layout.lhs_spec) < 3:
        return None
    return Convolution(
        leaf=view.leaf,
        kernel=view.shape,
        strides=tuple(options["window_strides"]),
        padding=tuple((low, high) for low, high in options["padding"]),
        input_dilation=tuple(options["lhs_dilation"]),
        kernel_dilation=tuple(options["rhs_dilation"]),
        layout=layout,
        shape=tuple(out.shape),
        dtype=out.dtype,
    )


def _channels_last(array: Array, spec: Sequence[int]) -> Array:
    """Batch first, channels last; `spec` lists batch, channels and spatial axes."""
    return jnp.transpose(array, (spec[0], *spec[2:], spec[1]))


def _as_kernel(made: Array, spec: Sequence[int]) -> Array:
    """From [spatial..., in, out] to the layout of the leaf (out, in and spatial)."""
    rank = made.ndim
    source = (rank - 1, rank - 2, *range(rank - 2))
    order = [0] * rank
    for axis, place in zip(spec, source, strict=True):
        order[axis] = place
    return jnp.transpose(made, order)
