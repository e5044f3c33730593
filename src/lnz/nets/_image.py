"""Networks from images to vectors and back, by strided convolutions and their transposes."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import check_positive
from ..numerics import aligned, over_batch
from ._conv import Formulation
from ._layers import Shape, dense, uniform_layer
from ._net import AbstractNet, InShape
from ._strided import convolve, convolve_transposed, num_after

_BLOCK_NDIMS = 4, 1, 2, 1  # axes of each array of a `ResidualConv`


class ResidualConv(AbstractNet):
    """`x -> x + conv1x1(a(conv3x3(a(x))))` of images `[channels, h, w]`.

    **Arguments:**

    - `channels`: of the images.
    - `width`: channels between the convolutions, by default as many as the images have.
    - `activation`, `formulation`: as for `ConvEncoder`.
    - `key`: for the initial weights and biases, uniform within `1 / sqrt(number of inputs)`.

    Source: van den Oord, Vinyals and Kavukcuoglu (2017), section 4.1; arXiv:1711.00937.
    """

    near: Float[Array, "..."]
    near_bias: Float[Array, "..."]
    mix: Float[Array, "..."]
    mix_bias: Float[Array, "..."]
    activation: Callable = eqx.field(static=True)
    formulation: Formulation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        width: int | None = None,
        *,
        key: PRNGKeyArray,
        activation: Callable = jax.nn.relu,
        formulation: Formulation = "auto",
    ):
        check_positive(channels, "ResidualConv(channels=...)")
        width = channels if width is None else check_positive(width, "ResidualConv(width=...)")
        _check_formulation(formulation, "ResidualConv")
        key_near, key_mix = jr.split(key)
        near, self.near_bias = uniform_layer(key_near, (width, channels * 9))
        self.near = near.reshape(width, channels, 3, 3)
        self.mix, self.mix_bias = uniform_layer(key_mix, (channels, width))
        self.activation, self.formulation = activation, formulation

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.near.shape[1], None, None),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        if _has_batched(self, _BLOCK_NDIMS):
            return _one_by_one(self, _BLOCK_NDIMS, x, 3)
        h = convolve(self.near, self.activation(x), self.near_bias, 1, self.formulation)
        return x + dense(self.mix, self.activation(h), self.mix_bias, 2)


class ConvEncoder(AbstractNet):
    """Strided convolutions, each followed by an activation, then a dense layer: from an image to `[*out]`.

    With the defaults, an image of `[1, 28, 28]` becomes `[32, 14, 14]`, then `[64, 7, 7]`, then the output.

    **Arguments:**

    - `shape`: of the image, `(channels, h, w)`. Inputs have this shape or are flat, `[channels * h * w]`. For images
      without a channel axis see the field.
    - `out`: shape of the output, or its length.
    - `channels`: output channels of each convolution, which divides h and w by the stride, rounded up.
    - `kernel`: rows and columns of each kernel.
    - `stride`: step between neighbouring outputs. The padding is `(kernel - stride) / 2`, rounded up, and as much as
      needed at the far edge.
    - `num_residual`: number of `ResidualConv` blocks after the convolutions, followed by an activation.
    - `activation`: such as `jax.nn.relu`.
    - `last_scale`: factor on the initial parameters of the dense layer; with 0 the output is zero.
    - `formulation`: `"product"`, `"convolution"` or `"auto"`: see the field.
    - `key`: for the initial weights and biases, uniform within `1 / sqrt(number of inputs)`.

    **Raises:** `ValueError` if the kernel is smaller than the stride, which would skip pixels.
    """

    kernels: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    blocks: tuple[ResidualConv, ...]
    last: Float[Array, "..."]
    last_bias: Float[Array, "..."]
    shape: tuple[int, int, int] = eqx.field(static=True)
    """Shape of the image, `(channels, h, w)`.

    An input has this shape or is flat, as in the spaces of data. With one channel and `w > 1`, it may also be `[h, w]`;
    `[h, 1]` would be a flat image with one batch axis of length 1.
    """
    out: tuple[int, ...] = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    formulation: Formulation = eqx.field(static=True)
    """How convolutions are computed; the parameters are the same, and the results agree to rounding.

    - `"product"`: by products of matrices. On a CPU, XLA's convolutions in compiled loops are ten times slower.
    - `"convolution"`: by XLA's convolutions.
    - `"auto"`: `"product"` if JAX's default backend is a CPU, else `"convolution"`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out: Shape,
        *,
        key: PRNGKeyArray,
        channels: Sequence[int] = (32, 64),
        kernel: int = 4,
        stride: int = 2,
        num_residual: int = 0,
        activation: Callable = jax.nn.relu,
        last_scale: float = 1.0,
        formulation: Formulation = "auto",
    ):
        self.shape = _check("ConvEncoder", shape, channels, kernel, stride, num_residual, formulation)
        key_kernels, key_blocks, key_last = jr.split(key, 3)
        counts = [self.shape[0], *channels]
        starts = [
            uniform_layer(k, (num, before * kernel**2))
            for k, (before, num) in zip(jr.split(key_kernels, len(channels)), itertools.pairwise(counts), strict=True)
        ]
        self.kernels = tuple(
            W.reshape(-1, before, kernel, kernel) for (W, _), before in zip(starts, counts, strict=False)
        )
        self.biases = tuple(b for _, b in starts)
        self.blocks = _blocks(key_blocks, num_residual, counts[-1], activation, formulation)
        self.out = (out,) if isinstance(out, int) else tuple(out)
        num_last = counts[-1] * math.prod(_sizes(self.shape, stride, len(channels))[-1])
        last, bias = uniform_layer(key_last, (*self.out, num_last))
        self.last, self.last_bias = last_scale * last, last_scale * bias
        self.stride, self.activation, self.formulation = stride, activation, formulation

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return tuple(dict.fromkeys(_own_shapes(self.shape)))

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        x = _as_images(x, self.shape)
        if _has_batched(self, self._ndims):
            return _one_by_one(self, self._ndims, x, 3)
        h = x
        for W, b in zip(self.kernels, self.biases, strict=True):
            h = self.activation(convolve(W, h, b, self.stride, self.formulation))
        for block in self.blocks:
            h = block.call_batch_last(h)
        h = self.activation(h) if self.blocks else h
        return dense(self.last, h.reshape(-1, *h.shape[3:]), self.last_bias, len(self.out) + 1)

    @property
    def _ndims(self) -> tuple[int, ...]:
        num, num_out = len(self.kernels), len(self.out)
        return (4,) * num + (1,) * num + _BLOCK_NDIMS * len(self.blocks) + (num_out + 1, num_out)


class ConvDecoder(AbstractNet):
    """A dense layer, then transposed convolutions with activations in between: from `[num_in]` to a flat image.

    It mirrors `ConvEncoder`. With the defaults and an image of `[1, 28, 28]`, the dense layer makes `[64, 7, 7]`, and
    the convolutions make `[32, 14, 14]` and `[1, 28, 28]`. The output is flat, `[channels * h * w]`, as
    `lnz.Conditional` takes it. Several numbers for each pixel, such as location and scale, are several channels.

    **Arguments:**

    - `num_in`: length of the input.
    - `shape`: of the output, `(channels, h, w)`.
    - `channels`: input channels of each convolution, from the last to the first. The same list as for the encoder.
    - `kernel`, `stride`, `activation`, `formulation`, `key`: as for `ConvEncoder`.
    - `num_residual`: number of `ResidualConv` blocks before the first convolution, followed by an activation.
    - `last_scale`: factor on the initial weights and biases of the last convolution; with 0 the output is zero.

    **Raises:** `ValueError` if the kernel is smaller than the stride, so that some pixels would not be reached.
    """

    first: Float[Array, "..."]
    first_bias: Float[Array, "..."]
    blocks: tuple[ResidualConv, ...]
    kernels: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    shape: tuple[int, int, int] = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    formulation: Formulation = eqx.field(static=True)

    def __init__(
        self,
        num_in: int,
        shape: tuple[int, int, int],
        *,
        key: PRNGKeyArray,
        channels: Sequence[int] = (32, 64),
        kernel: int = 4,
        stride: int = 2,
        num_residual: int = 0,
        activation: Callable = jax.nn.relu,
        last_scale: float = 1.0,
        formulation: Formulation = "auto",
    ):
        check_positive(num_in, "ConvDecoder(num_in=...)")
        self.shape = _check("ConvDecoder", shape, channels, kernel, stride, num_residual, formulation)
        key_first, key_blocks, key_kernels = jr.split(key, 3)
        counts = [*reversed(channels), self.shape[0]]
        num_first = counts[0] * math.prod(_sizes(self.shape, stride, len(channels))[-1])
        self.first, self.first_bias = uniform_layer(key_first, (num_first, num_in))
        self.blocks = _blocks(key_blocks, num_residual, counts[0], activation, formulation)
        scales = [*[1.0] * (len(channels) - 1), last_scale]
        kernels, biases = [], []
        for k, (before, num), scale in zip(
            jr.split(key_kernels, len(channels)), itertools.pairwise(counts), scales, strict=True
        ):
            # Each output sees about (kernel / stride)^2 pixels of each input channel.
            bound = scale / math.sqrt(before * max(1, (kernel // stride) ** 2))
            key_W, key_b = jr.split(k)
            kernels.append(bound * jr.uniform(key_W, (before, num, kernel, kernel), minval=-1, maxval=1))
            biases.append(bound * jr.uniform(key_b, (num,), minval=-1, maxval=1))
        self.kernels, self.biases = tuple(kernels), tuple(biases)
        self.stride, self.activation, self.formulation = stride, activation, formulation

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.first.shape[1],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        if _has_batched(self, self._ndims):
            return _one_by_one(self, self._ndims, x, 1)
        *sizes, first = _sizes(self.shape, self.stride, len(self.kernels))
        h = dense(self.first, x, self.first_bias, 2).reshape(-1, *first, *x.shape[1:])
        for block in self.blocks:
            h = block.call_batch_last(h)
        for W, b, size in zip(self.kernels, self.biases, reversed(sizes), strict=True):
            h = convolve_transposed(W, self.activation(h), b, size, self.stride, self.formulation)
        return h.reshape(-1, *x.shape[1:])

    @property
    def _ndims(self) -> tuple[int, ...]:
        num = len(self.kernels)
        return (2, 1) + _BLOCK_NDIMS * len(self.blocks) + (4,) * num + (1,) * num


def _check_formulation(formulation: str, owner: str) -> None:
    if formulation not in ("auto", "product", "convolution"):
        raise ValueError(f"`{owner}(formulation=...)` must be 'auto', 'product' or 'convolution'; got {formulation!r}.")


def _check(
    owner: str, shape: Any, channels: Sequence[int], kernel: int, stride: int, num_residual: int, formulation: str
) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"`{owner}(shape=...)` must be (channels, height, width); got {shape!r}. One channel is 1.")
    for size in shape:
        check_positive(size, f"{owner}(shape=...)")
    if not len(channels):
        raise ValueError(f"`{owner}(channels=...)` needs a number for each convolution; got {channels!r}.")
    for num in channels:
        check_positive(num, f"{owner}(channels=...)")
    check_positive(kernel, f"{owner}(kernel=...)")
    check_positive(stride, f"{owner}(stride=...)")
    if kernel < stride:
        raise ValueError(
            f"`{owner}(kernel={kernel}, stride={stride})` leaves pixels out: the kernel must not be smaller than the "
            "stride."
        )
    if num_residual != 0:
        check_positive(num_residual, f"{owner}(num_residual=...)")
    _check_formulation(formulation, owner)
    return tuple(shape)


def _sizes(shape: tuple[int, int, int], stride: int, num: int) -> list[tuple[int, int]]:
    """Height and width before the first of `num` convolutions, after it, and so on."""
    sizes = [(shape[1], shape[2])]
    for _ in range(num):
        height, width = sizes[-1]
        sizes.append((num_after(height, stride), num_after(width, stride)))
    return sizes


def _blocks(
    key: PRNGKeyArray, num: int, channels: int, activation: Callable, formulation: Formulation
) -> tuple[ResidualConv, ...]:
    return tuple(
        ResidualConv(channels, key=jr.fold_in(key, i), activation=activation, formulation=formulation)
        for i in range(num)
    )


def _as_images(x: Float[Array, "..."], shape: tuple[int, int, int]) -> Float[Array, "..."]:
    """`[*shape, *batch]`, from x of that shape, or flat, or without a channel axis.

    The order decides: `[channels, 1, 1]` is an image of one pixel, not a flat one with two batch axes, and `[h, 1]` is
    a flat image with one batch axis.
    """
    for own in _own_shapes(shape):
        if x.shape[: len(own)] == own:
            return x.reshape(*shape, *x.shape[len(own) :])
    raise ValueError(f"This network takes images of shape {shape}, or flat ones; got an array of shape {x.shape}.")


def _own_shapes(shape: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    return shape, (math.prod(shape),), shape[1:] if shape[0] == 1 else shape


def _has_batched(net: eqx.Module, ndims: tuple[int, ...]) -> bool:
    return any(leaf.ndim > ndim for leaf, ndim in zip(jax.tree.leaves(net), ndims, strict=True))


def _one_by_one(net: Any, ndims: tuple[int, ...], x: Float[Array, "..."], ndim_x: int) -> Float[Array, "..."]:
    """Computes each example by itself, because each has its own parameters."""
    num_batch = x.ndim - ndim_x
    leaves, structure = jax.tree.flatten(net)
    whole = [
        jnp.broadcast_to(aligned(leaf, ndim, num_batch), (*leaf.shape[:ndim], *x.shape[ndim_x:]))
        for leaf, ndim in zip(leaves, ndims, strict=True)
    ]
    return over_batch(lambda net, x: net.call_batch_last(x), num_batch)(jax.tree.unflatten(structure, whole), x)
