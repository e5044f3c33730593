"""Convolutional networks, computed by products of matrices on a CPU and by convolutions elsewhere."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import check_positive
from ..numerics import aligned
from ._layers import dense
from ._net import AbstractNet, InShape

Formulation = Literal["auto", "product", "convolution"]


class ConvNet(AbstractNet):
    """`x -> conv3x3(a(conv1x1(a(conv3x3(x)))))` from `[num_in, h, w]` to `[*out, h, w]`, as in Glow's couplings.

    Pixels beyond the edge are zero. On a CPU each 3x3 convolution is one product with a matrix of the pixels'
    neighbourhoods, because XLA's convolutions inside compiled loops are ten times slower there. Elsewhere it is XLA's
    convolution. The parameters are the same, and the results agree to rounding.

    **Arguments:**

    - `num_in`: channels of the input.
    - `out`: channels of the output, or their shape, such as `(2, 6)`.
    - `width`: channels in between.
    - `activation`: such as `jax.nn.relu`.
    - `last_scale`: factor on the initial weights of the last layer; with 0 the output is zero.
    - `formulation`: `"product"`, `"convolution"`, or `"auto"` to choose by JAX's default backend.
    - `key`: for the initial weights, normal with variance `2 / (number of inputs)`. Biases start at zero.

    Source: Kingma and Dhariwal (2018), section 4 (the architecture of the couplings); arXiv:1807.03039.
    """

    weights: tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]
    biases: tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]
    out: tuple[int, ...] = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    formulation: Formulation = eqx.field(static=True)

    def __init__(
        self,
        num_in: int,
        out: int | tuple[int, ...],
        *,
        key: PRNGKeyArray,
        width: int = 128,
        activation: Callable = jax.nn.relu,
        last_scale: float = 1.0,
        formulation: Formulation = "auto",
    ):
        check_positive(num_in, "ConvNet(num_in=...)")
        check_positive(width, "ConvNet(width=...)")
        if formulation not in ("auto", "product", "convolution"):
            raise ValueError(
                f"`ConvNet(formulation=...)` must be 'auto', 'product' or 'convolution'; got {formulation!r}."
            )
        self.out = (out,) if isinstance(out, int) else tuple(out)
        shapes = (width, num_in, 3, 3), (width, width), (*self.out, width, 3, 3)
        fan_in = 9 * num_in, width, 9 * width
        scales = 1.0, 1.0, last_scale
        self.weights = tuple(
            scale * (2 / num) ** 0.5 * jr.normal(k, shape)
            for k, shape, num, scale in zip(jr.split(key, 3), shapes, fan_in, scales, strict=True)
        )
        self.biases = jnp.zeros(width), jnp.zeros(width), jnp.zeros(self.out)
        self.activation, self.formulation = activation, formulation

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.weights[0].shape[1], None, None),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        first, middle, last = self.weights
        b_first, b_middle, b_last = self.biases
        h = self.activation(self._convolve(first, x, b_first, 1))
        h = self.activation(dense(middle, h, b_middle, 2))
        return self._convolve(last, h, b_last, len(self.out))

    def _convolve(self, W, x, b, num_out):
        """The convolution of `x [in, h, w, *batch]` with `W [*out, in, 3, 3]` and `b [*out]`."""
        auto = "product" if jax.default_backend() == "cpu" else "convolution"
        formulation = auto if self.formulation == "auto" else self.formulation
        if formulation == "product" or W.ndim > num_out + 3:  # weights for each example are products anyway
            W = W.reshape(*W.shape[:num_out], -1, *W.shape[num_out + 3 :])
            return dense(W, _neighbourhoods(x), b, num_out + 1)
        flat, kernels = x.reshape(*x.shape[:3], -1), W.reshape(-1, *W.shape[num_out:])
        y = jax.lax.conv_general_dilated(flat, kernels, (1, 1), "SAME", dimension_numbers=("CHWN", "OIHW", "CHWN"))
        return y.reshape(*W.shape[:num_out], *x.shape[1:]) + aligned(b, num_out, x.ndim - 1)


def _neighbourhoods(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`[9 channels, h, w, *batch]`: for every channel, the nine pixels around each pixel."""
    channels, height, width = x.shape[:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), *((0, 0),) * (x.ndim - 3)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.stack(shifts, axis=1).reshape(9 * channels, *x.shape[1:])
