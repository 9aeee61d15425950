"""The default projector: one sparse sketch with two routes to the same features.

A CountSketch sends every parameter to one coordinate of K with a random sign. For a
parameter matrix the coordinate and the sign of entry (i, j) are made of two hashes,

    coordinate(i, j) = (shift_i + j) mod K,      sign(i, j) = s_i t_j,

so that two computations give the same numbers. Where the gradient is formed, each row
is a contiguous slice, added at a shifted place. Where it is a sum over T positions of
outer products a (x) g, its sketch is the sum of the circular convolutions of the
CountSketch of a with the signed g (TensorSketch; Pham and Pagh, KDD 2013), and the
gradient is never formed. Here j runs along the longer side of the matrix, so that few
long slices are added, unless that side is longer than K: entries K apart would always
meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from natgeo.features.seeded import Factored, matrix_shape, path_key
from natgeo.types import Array

HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class CountSketch(Factored):
    """Sparse projection with one non-zero per parameter and product hashes.

    As faithful as a dense projection on real gradients, at a cost that hardly grows
    with K. `E[<project(a), project(b)>] = <a, b>` over seeds.

    A model that is one small matrix (softmax regression on few features) has few hashes
    to draw: column signs that agree by chance then cost a dimension, and ridge 0 is
    refused. Use `Identity` or `Sparse` there.

    Args:
        dim: dimension K of the features.
        seed: a whole number below 2**31.
    """

    dim: int
    seed: int = 0

    def sketch(self, shapes: Mapping[str, tuple[int, ...]]) -> Sketch:
        """An empty sketch of a batch of gradients.

        Args:
            shapes: shape of each parameter leaf by its path, in tree order.
        """
        keys = [path_key(self.seed, path) for path in shapes]
        return Sketch(self.dim, keys, list(shapes.values()))


class Sketch:
    """The running sum of the sketches of the leaves of a batch of gradients.

    Args:
        dim: dimension K.
        keys: random key of each leaf.
        shapes: shape of each leaf.
    """

    def __init__(
        self, dim: int, keys: Sequence[Array], shapes: Sequence[tuple[int, ...]]
    ):
        self._dim, self._keys = dim, keys
        matrices = [matrix_shape(shape) for shape in shapes]
        self._turned = [runs_down(rows, columns, dim) for rows, columns in matrices]
        self._shapes = [
            (columns, rows) if turned else (rows, columns)
            for (rows, columns), turned in zip(matrices, self._turned, strict=True)
        ]
        # Rows are added at shifted places without wrapping; what overhangs K is folded
        # back once, at the end.
        self._overhang = min(dim, max(columns for _, columns in self._shapes))
        self._direct: Array | None = None  # [K + overhang, B]
        self._spectrum: Array | None = None  # [B, K // 2 + 1]
        self._scattered: Array | None = None  # [B, K]

    def add_formed(self, leaf: int, gradient: Array) -> None:
        """Adds the formed gradients of a leaf, [B, ...]."""
        if 0 in self._shapes[leaf]:
            if self._direct is None:
                size = (self._dim + self._overhang, gradient.shape[0])
                self._direct = jnp.zeros(size, gradient.dtype)
            return
        rows, columns = self._shapes[leaf]
        if self._turned[leaf]:
            matrix = gradient.reshape(-1, columns, rows)
            return self._add_matrix(leaf, jnp.transpose(matrix, (2, 1, 0)))
        matrix = gradient.reshape(-1, rows, columns)
        return self._add_matrix(leaf, jnp.transpose(matrix, (1, 2, 0)))

    def add_product(self, leaf: int, by_column: bool, a: Array, g: Array) -> None:
        """Adds the gradients sum_t a_t (x) g_t of a leaf, by the cheaper route.

        Args:
            leaf: number of the leaf.
            by_column: whether a goes with its columns and g with its rows.
            a: activations, [B, T, a].
            g: output gradients, [B, T, g].
        """
        if 0 in self._shapes[leaf]:
            return self.add_formed(leaf, a[:, 0, :0])
        left, right = (g, a) if by_column != self._turned[leaf] else (a, g)
        positions = left.shape[1]
        if convolution_is_cheaper(positions, *self._shapes[leaf], self._dim):
            spectrum = self._hashes(leaf, left).convolve(left, right)
            old = self._spectrum
            self._spectrum = spectrum if old is None else old + spectrum
        elif positions == 1:
            hashes = self._hashes(leaf, left)
            factors, signed = hashes.signed(left[:, 0].T, right[:, 0].T)
            self._add_rows(hashes, lambda i: signed * factors[i][None, :], signed)
        else:
            formed = jnp.einsum("btr,btc->rcb", left, right, precision=HIGHEST)
            self._add_matrix(leaf, formed)

    def add_rows(self, leaf: int, rows: Array, g: Array) -> None:
        """Adds gradients that have T of the rows of a leaf and are zero elsewhere.

        Args:
            leaf: number of the leaf.
            rows: which rows, [B, T]; the same row may come several times.
            g: gradients of those rows, [B, T, C].
        """
        batch = g.shape[0]
        places, signed = self._hashes(leaf, g).placed(rows, g, self._turned[leaf])
        # One flat sum: example b owns the places from b * K on.
        own = jnp.arange(batch, dtype=places.dtype) * self._dim
        flat = (places + own[:, None, None]).reshape(-1)
        added = jax.ops.segment_sum(
            signed.reshape(-1), flat, num_segments=batch * self._dim
        ).reshape(batch, self._dim)
        old = self._scattered
        self._scattered = added if old is None else old + added

    def total(self) -> Array:
        """The features, [B, K]."""
        parts = [] if self._scattered is None else [self._scattered]
        if self._direct is not None:
            over = self._direct[self._dim :]
            parts.append(self._direct[: self._dim].at[: self._overhang].add(over).T)
        if self._spectrum is not None:
            parts.append(jnp.fft.irfft(self._spectrum, n=self._dim, axis=1))
        return sum(parts[1:], start=parts[0])

    def _hashes(self, leaf: int, like: Array) -> _Hashes:
        return _Hashes(self._keys[leaf], *self._shapes[leaf], self._dim, like.dtype)

    def _add_matrix(self, leaf: int, matrix: Array) -> None:
        """Adds formed gradients, [R, C, B]."""
        hashes = self._hashes(leaf, matrix)
        rows = hashes.signed_matrix(matrix)
        self._add_rows(hashes, lambda i: rows[i], rows[0])

    def _add_rows(
        self, hashes: _Hashes, row: Callable[[Any], Array], like: Array
    ) -> None:
        """Adds row(i), shaped like [C, B], at place shift_i, for every row i."""
        width, batch = like.shape
        size = self._dim + self._overhang
        count = hashes.shifts.shape[0]

        def loop(total: Array) -> Array:
            def add(i: Any, total: Array) -> Array:
                place = (hashes.shifts[i], jnp.int32(0))
                there = jax.lax.dynamic_slice(total, place, (width, batch))
                return jax.lax.dynamic_update_slice(total, there + row(i), place)

            return jax.lax.fori_loop(0, count, add, total)

        def scatter(total: Array) -> Array:
            # One parallel scatter where a loop of small steps would starve the device.
            rows = jax.vmap(row)(jnp.arange(count)).reshape(-1, batch)
            offsets = jnp.arange(width, dtype=jnp.int32)
            places = (hashes.shifts[:, None] + offsets[None, :]).reshape(-1)
            return total + jax.ops.segment_sum(rows, places, num_segments=size)

        total = self._direct
        if total is None:
            # A zero made from the data shares their variance under shard_map.
            total = jnp.broadcast_to(like[:1] * 0, (size, batch))
        self._direct = jax.lax.platform_dependent(total, cpu=loop, default=scatter)


def runs_down(rows: int, columns: int, dim: int) -> bool:
    """Whether contiguous slices run along the rows' axis of a matrix.

    They run along its longer side, or along the shorter if that is longer than K.
    """
    longer = rows > columns
    return longer if max(rows, columns) <= dim else not longer and rows != columns


def convolution_is_cheaper(positions: int, rows: int, columns: int, dim: int) -> bool:
    """Whether T Fourier transforms beat forming the gradient and adding its rows.

    Counted in operations, a transform of length K as 2.5 K log2 K; a matrix product
    runs about four times faster per operation than the other steps.
    """
    transform = 2.5 * dim * math.log2(max(dim, 2))
    convolve = positions * (2 * transform + 4 * rows + columns)
    form = rows * columns * (1 + (positions / 2 if positions > 1 else 0))
    return convolve < form


class _Hashes:
    """Shifts and signs of one leaf, [R, C]."""

    def __init__(self, key: Array, rows: int, columns: int, dim: int, dtype: Any):
        row_bits = jax.random.bits(jax.random.fold_in(key, 0), (rows,), jnp.uint32)
        bits = jax.random.bits(jax.random.fold_in(key, 1), (columns,), jnp.uint32)
        self._dim = dim
        self.shifts = ((row_bits >> 1) % jnp.uint32(dim)).astype(jnp.int32)
        self._row_signs = 1 - 2 * (row_bits & 1).astype(dtype)
        self._column_signs = 1 - 2 * (bits & 1).astype(dtype)

    def signed_matrix(self, matrix: Array) -> Array:
        """Formed gradients with their signs, columns folded, [R, C, B]."""
        signed = matrix * self._column_signs[None, :, None]
        return _fold(signed, self._dim, axis=1) * self._row_signs[:, None, None]

    def signed(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Factors of outer products with their signs, [R, B] and folded [C, B]."""
        signed = _fold(right * self._column_signs[:, None], self._dim, axis=0)
        return left * self._row_signs[:, None], signed

    def placed(self, rows: Array, g: Array, turned: bool) -> tuple[Array, Array]:
        """Where each entry of some rows goes, [B, T, C], and its signed value.

        Args:
            rows: numbers of the rows of the leaf, [B, T].
            g: their entries, [B, T, C].
            turned: whether the leaf's rows are the columns here.
        """
        if turned:
            places = rows[:, :, None] + self.shifts[None, None, :]
            signs = self._column_signs[rows][:, :, None] * self._row_signs[None, None]
        else:
            columns = jnp.arange(g.shape[2], dtype=jnp.int32)
            places = self.shifts[rows][:, :, None] + columns[None, None, :]
            signs = self._row_signs[rows][:, :, None] * self._column_signs[None, None]
        return places % self._dim, g * signs

    def convolve(self, left: Array, right: Array) -> Array:
        """Spectrum of the sketch of sum_t left_t (x) right_t, [B, K // 2 + 1].

        Args:
            left: [B, T, R].
            right: [B, T, C].
        """
        batch, positions, rows = left.shape
        flat = (left * self._row_signs[None, None, :]).reshape(-1, rows)
        sketched = jax.ops.segment_sum(flat.T, self.shifts, num_segments=self._dim).T
        signed = _fold(right * self._column_signs[None, None, :], self._dim, axis=2)
        one = jnp.fft.rfft(sketched, axis=1).reshape(batch, positions, -1)
        two = jnp.fft.rfft(signed, n=self._dim, axis=2)
        return jnp.sum(one * two, axis=1)


def _fold(array: Array, dim: int, axis: int) -> Array:
    """Adds entries whose places along `axis` agree modulo `dim`."""
    length = array.shape[axis]
    if length <= dim:
        return array
    blocks = -(-length // dim)
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, blocks * dim - length)
    shape = (*array.shape[:axis], blocks, dim, *array.shape[axis + 1 :])
    return jnp.pad(array, padding).reshape(shape).sum(axis=axis)
