"""Strided convolutions and their transposes, batch axes last: by products of matrices, or by XLA's convolutions.

A kernel `b` strides wide is a `b x b` kernel over blocks of `stride x stride` pixels, whose pixels count as channels.
So neighbourhoods are copied in whole rows of the batch, and no strided slices need to be differentiated.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import aligned


def num_after(size: int, stride: int) -> int:
    """`ceil(size / stride)`: the length after a convolution."""
    return -(-size // stride)


def is_product(formulation: str) -> bool:
    """Whether this formulation is a product of matrices on JAX's default backend."""
    return formulation == "product" or (formulation == "auto" and jax.default_backend() == "cpu")


def convolve(
    W: Float[Array, "out in_ k k"], x: Float[Array, "..."], b: Float[Array, " out"], stride: int, formulation: str
) -> Float[Array, "..."]:
    """`y[o, i, j] = b[o] + sum W[o, c, u, v] x[c, stride i + u - p, stride j + v - p]`, `[out, h', w', *batch]`.

    `x` is `[in, h, w, *batch]` and zero beyond its edges, `h' = ceil(h / stride)`, `p = ceil((k - stride) / 2)`. If the
    stride divides h and w, it equals PyTorch's `Conv2d(in, out, k, stride, p)`, unless the stride is 1 and `k` even.
    Then, and for some other sizes, PyTorch's output has one row and column more or fewer; the common ones are the same.
    """
    num_out, _, kernel, _ = W.shape
    flat = x.reshape(*x.shape[:3], -1)
    height, width = (num_after(size, stride) for size in x.shape[1:3])
    if is_product(formulation):
        blocks = _to_blocks(flat, stride, kernel)
        num = num_after(kernel, stride)
        near = [blocks[..., i : i + height, j : j + width, :] for i in range(num) for j in range(num)]
        y = _by_blocks(W, stride).reshape(num_out, -1) @ jnp.stack(near).reshape(-1, height * width * flat.shape[-1])
    else:
        low = _low(kernel, stride)
        padding = [(low, (num_after(n, stride) - 1) * stride + kernel - low - n) for n in x.shape[1:3]]
        y = jax.lax.conv_general_dilated(flat, W, (stride, stride), padding, dimension_numbers=("CHWN", "OIHW", "CHWN"))
    return y.reshape(num_out, height, width, *x.shape[3:]) + aligned(b, 1, x.ndim - 1)


def convolve_transposed(
    W: Float[Array, "in_ out k k"],
    x: Float[Array, "..."],
    b: Float[Array, " out"],
    size: tuple[int, int],
    stride: int,
    formulation: str,
) -> Float[Array, "..."]:
    """`y[o, stride i + u - p, stride j + v - p] = b[o] + sum W[c, o, u, v] x[c, i, j]`, `[out, *size, *batch]`.

    The transpose of `convolve` from images of this `size`, with the same `p`, so `h = ceil(size[0] / stride)`. If the
    stride divides both sizes, it equals PyTorch's `ConvTranspose2d(in, out, k, stride, p, output_padding)` with the
    `output_padding` that gives this size, unless the stride is 1 and `k` even. Otherwise PyTorch may have no output of
    this size; this one is then a larger output of PyTorch's, cropped.
    """
    num_in, num_out, kernel, _ = W.shape
    flat = x.reshape(*x.shape[:3], -1)
    if is_product(formulation):
        num = num_after(kernel, stride)
        by_blocks = _by_blocks(W, stride)
        # Copies either the neighbourhood that each output sees, or the contribution of each input to its outputs.
        seen = num_in * num**2 * (x.shape[1] + num - 1) * (x.shape[2] + num - 1)
        added = num_out * (num * stride) ** 2 * x.shape[1] * x.shape[2]
        blocks = (_gathered if seen < added else _scattered)(by_blocks, flat)
        y = _from_blocks(blocks, kernel, size)
    else:
        low = _low(kernel, stride)
        padding = [
            (kernel - 1 - low, n - (before - 1) * stride - 1 + low)
            for n, before in zip(size, x.shape[1:3], strict=True)
        ]
        y = jax.lax.conv_general_dilated(
            flat, W[..., ::-1, ::-1], (1, 1), padding, (stride, stride), dimension_numbers=("CHWN", "IOHW", "CHWN")
        )
    return y.reshape(num_out, *size, *x.shape[3:]) + aligned(b, 1, x.ndim - 1)


def _low(kernel: int, stride: int) -> int:
    """Zeros before the first pixel."""
    return (kernel - stride + 1) // 2


def _by_blocks(W: Float[Array, "a b k k"], stride: int) -> Float[Array, "..."]:
    """`[a, num, num, b, stride, stride]`, the kernel padded with zeros to whole blocks."""
    first, second, kernel, _ = W.shape
    num = num_after(kernel, stride)
    more = num * stride - kernel
    W = jnp.pad(W, ((0, 0), (0, 0), (0, more), (0, more)))
    return W.reshape(first, second, num, stride, num, stride).transpose(0, 2, 4, 1, 3, 5)


def _to_blocks(x: Float[Array, "..."], stride: int, kernel: int) -> Float[Array, "..."]:
    """`[c, stride, stride, h' + num - 1, w' + num - 1, n]` from `[c, h, w, n]`."""
    low, num = _low(kernel, stride), num_after(kernel, stride)
    counts = [num_after(n, stride) + num - 1 for n in x.shape[1:3]]
    padding = [(low, count * stride - low - n) for count, n in zip(counts, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return x.reshape(x.shape[0], counts[0], stride, counts[1], stride, -1).transpose(0, 2, 4, 1, 3, 5)


def _from_blocks(blocks: Float[Array, "..."], kernel: int, size: tuple[int, int]) -> Float[Array, "..."]:
    """The transpose of `_to_blocks`: `[c, *size, n]`."""
    num_channels, stride, _, height, width, _ = blocks.shape
    low = _low(kernel, stride)
    y = blocks.transpose(0, 3, 1, 4, 2, 5).reshape(num_channels, height * stride, width * stride, -1)
    return y[:, low : low + size[0], low : low + size[1]]


def _gathered(W: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Blocks `[out, stride, stride, h + num - 1, w + num - 1, n]`, from one product with all their neighbourhoods."""
    num_in, num, _, num_out, stride, _ = W.shape
    height, width = (n + num - 1 for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (num - 1, num - 1), (num - 1, num - 1), (0, 0)))
    starts = range(num - 1, -1, -1)
    near = [x[:, i : i + height, j : j + width] for i in starts for j in starts]
    W = W.transpose(1, 2, 0, 3, 4, 5).reshape(num**2 * num_in, -1)
    blocks = W.T @ jnp.stack(near).reshape(num**2 * num_in, -1)
    return blocks.reshape(num_out, stride, stride, height, width, -1)


def _scattered(W: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same blocks as `_gathered`, from one product with the pixels, whose parts are shifted and added."""
    num_in, num, _, num_out, stride, _ = W.shape
    parts = W.reshape(num_in, -1).T @ x.reshape(num_in, -1)
    parts = parts.reshape(num, num, num_out, stride, stride, *x.shape[1:])

    def shifted(i, j):
        return jnp.pad(parts[i, j], ((0, 0),) * 3 + ((i, num - 1 - i), (j, num - 1 - j), (0, 0)))

    return sum((shifted(i, j) for i in range(num) for j in range(num)), jnp.zeros((), x.dtype))
