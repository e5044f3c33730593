"""Inverts a masked autoregressive map at about the cost of one pass of its network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..nets import MaskedMLP
from ..numerics import aligned

# Variables in a block: the contribution of earlier blocks is one product for the whole block.
_BLOCK = 8


def substitute(net: MaskedMLP, inverse: Callable[[Array, Array], tuple[Array, Array]], y: Array) -> tuple[Array, Array]:
    """`x` and `log dx/dy`, both `[n, *batch]`, with `x_i, log dx_i/dy_i = inverse(net(x)[:, i], y_i)`.

    Hidden units are ordered by degree. Once `x_1, ..., x_k` are known, so are the units of degree k, layer by layer,
    and with them the parameters of variable k + 1. Variables are processed in blocks: products with the variables and
    units of earlier blocks are computed once per block, so that only the block's own columns remain.
    """
    num, batch = y.shape[0], y.shape[1:]
    size = min(_BLOCK, num)
    num_blocks = -(-num // size)
    layout = _Layout(net, size, num_blocks)
    flat = y.reshape(num, -1)
    num_columns = flat.shape[1]
    flat = jnp.pad(flat, ((0, num_blocks * size - num), (0, 0)))

    *inner, last = net.masked()
    inner = [layout.pad_inner(i, W) for i, W in enumerate(inner)]
    last = layout.pad_last(last)
    biases = [_columns(b, 1, batch) for b in net.biases[:-1]]
    biases = [jnp.pad(b, ((0, rows), (0, 0))) for b, rows in zip(biases, layout.extra, strict=True)]
    last_bias = _columns(net.biases[-1], 2, batch)
    last_bias = jnp.pad(last_bias, ((0, 0), (0, num_blocks * size - num), (0, 0)))

    def slab(array, start, length, axis=0):
        return jax.lax.dynamic_slice_in_dim(array, start, length, axis)

    def put(array, part, start):
        return jax.lax.dynamic_update_slice_in_dim(array, part, start, 0)

    def block(carry, inputs):
        x, hidden = carry
        first, starts, ends, offsets, target = inputs
        # 1. The contribution of earlier blocks to all units and variables of this block.
        before = (x, *hidden)
        rows = [slab(W, starts[i], layout.block_rows[i]) for i, W in enumerate(inner)]
        far = [
            W @ below + slab(b, starts[i], layout.block_rows[i])
            for i, (W, below, b) in enumerate(zip(rows, before[:-1], biases, strict=True))
        ]
        last_rows = slab(last, first, size, axis=1)
        far_raw = jnp.tensordot(last_rows, before[-1], 1) + slab(last_bias, first, size, axis=1)
        near = [slab(rows[0], first, size, axis=1)]
        near += [slab(W, starts[i], layout.block_rows[i], axis=1) for i, W in enumerate(rows[1:])]
        near_last = slab(last_rows, starts[-1], layout.block_rows[-1], axis=2)

        # 2. The block's variables one by one, with its own units.
        def variable(carry, inputs):
            x_block, h_block = carry
            j, offset, y_j = inputs
            W_j, far_j = slab(near_last, j, 1, axis=1)[:, 0], slab(far_raw, j, 1, axis=1)
            raw = far_j + (W_j @ h_block[-1])[:, None]
            x_j, log_derivative = inverse(raw, y_j[None])
            x_block = put(x_block, x_j, j)
            below, h_block = x_block, list(h_block)
            for i, W in enumerate(near):
                length = layout.degree_rows[i]
                h = slab(far[i], offset[i], length) + slab(W, offset[i], length) @ below
                h = net.activation(h)
                if net.residual and i:
                    h = h + slab(h_block[i - 1], offset[i], length)
                h_block[i] = put(h_block[i], h, offset[i])
                below = h_block[i]
            return (x_block, tuple(h_block)), log_derivative[0]

        start = (
            jnp.zeros((size, num_columns), y.dtype),
            tuple(jnp.zeros((n, num_columns), y.dtype) for n in layout.block_rows),
        )
        (x_block, h_block), log_derivative = jax.lax.scan(
            variable, start, (jnp.arange(size, dtype=jnp.int32), offsets, target)
        )

        # 3. Keep the block's rows. The rows after them belong to the next block and were computed too early.
        x = put(x, x_block, first)
        kept = [
            jnp.where((jnp.arange(len(h), dtype=jnp.int32) < ends[i] - starts[i])[:, None], h, 0)
            for i, h in enumerate(h_block)
        ]
        hidden = tuple(put(h, part, starts[i]) for i, (h, part) in enumerate(zip(hidden, kept, strict=True)))
        return (x, hidden), log_derivative

    start = (
        jnp.zeros_like(flat),
        tuple(
            jnp.zeros((width + extra, num_columns), y.dtype)
            for width, extra in zip(net.widths, layout.extra, strict=True)
        ),
    )
    targets = flat.reshape(num_blocks, size, num_columns)
    scanned = (size * jnp.arange(num_blocks, dtype=jnp.int32), layout.starts, layout.ends, layout.offsets, targets)
    (x, _), log_derivative = jax.lax.scan(block, start, scanned)
    return x[:num].reshape(y.shape), log_derivative.reshape(-1, num_columns)[:num].reshape(y.shape)


def _columns(b: Array, ndim: int, batch: tuple[int, ...]) -> Array:
    """A bias `[*shape]` or `[*shape, *batch]` as `[*shape, 1 or all]`."""
    if b.ndim == ndim:
        return b[..., None]
    b = aligned(b, ndim, len(batch))
    return jnp.broadcast_to(b, (*b.shape[:ndim], *batch)).reshape(*b.shape[:ndim], -1)


class _Layout:
    """The rows of each hidden layer that belong to each variable and block; all lengths are static."""

    def __init__(self, net: MaskedMLP, size: int, num_blocks: int):
        variables = size * num_blocks
        degrees = [net.degrees(width) for width in net.widths]
        # bounds[l][k]: number of rows of layer l with degree at most k; variable k (from 0) adds those of degree k + 1.
        bounds = np.stack([np.searchsorted(d, np.arange(1, variables + 2)) for d in degrees])
        edges = bounds[:, ::size]
        self.degree_rows = [int(n) for n in np.diff(bounds, axis=1).max(axis=1)]
        self.block_rows = [
            int(n) + one for n, one in zip(np.diff(edges, axis=1).max(axis=1), self.degree_rows, strict=True)
        ]
        self.extra = self.block_rows  # zero rows and columns after each layer, so that no slice is cut off
        self.starts = jnp.asarray(edges[:, :-1].T, jnp.int32)
        self.ends = jnp.asarray(edges[:, 1:].T, jnp.int32)
        offsets = bounds[:, :-1] - np.repeat(edges[:, :-1], size, axis=1)
        self.offsets = jnp.asarray(offsets.T.reshape(num_blocks, size, -1), jnp.int32)
        self.extra_inputs = variables - net.num

    def pad_inner(self, i: int, W: Array) -> Array:
        columns = self.extra[i - 1] if i else self.extra_inputs
        return jnp.pad(W, ((0, self.extra[i]), (0, columns)))

    def pad_last(self, W: Array) -> Array:
        return jnp.pad(W, ((0, 0), (0, self.extra_inputs), (0, self.extra[-1])))
