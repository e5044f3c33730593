"""Networks that stretch distances by at most a given factor."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..numerics import aligned, over_batch, softplus
from ._layers import _check_sizes, dense, uniform_layer
from ._net import AbstractNet, InShape

_NUM_SQUARINGS = 6


def spectral_bound(W: Float[Array, "m n"]) -> Float[Array, ""]:
    """An upper bound on the largest singular value of W, never below it except for rounding.

    `(sum_i s_i^p)^(1/p)` over the singular values with p = 128, by repeated squaring of the Gram matrix. It is at most
    `min(m, n)^(1/128)` times too large (4% at 128, when all singular values are equal). Power iteration would bound
    it from below, which guarantees nothing. This bound needs only products, and has a gradient even if singular values
    are equal.

    Source: Delattre, Barthélemy, Araujo and Allauzen (2023), algorithm 1; arXiv:2305.16173.
    """

    def scale_of(size):
        # One if all is zero. The smallest float would fail: the compiler merges two divisions into one by their
        # product, which is zero.
        return jax.lax.stop_gradient(jnp.where(size > jnp.finfo(W.dtype).tiny, size, 1))

    size = scale_of(jnp.max(jnp.abs(W)))
    gram = W / size
    log_scale, power = jnp.log(size), 1.0
    if W.shape[0] < W.shape[1]:
        gram = gram.T
    # Scales are divided out before each squaring. The gradient may treat them as constants: the result is homogeneous.
    for _ in range(_NUM_SQUARINGS):
        norm = scale_of(jnp.sqrt(jnp.sum(jax.lax.stop_gradient(gram) ** 2)))
        log_scale = log_scale + power * jnp.log(norm)
        gram, power = gram / norm, power / 2
        gram = gram.T @ gram
    last = jnp.sum(gram * gram)
    is_zero = last == 0  # a matrix of zeros, where the power has no derivative
    root = jnp.where(is_zero, 0, jnp.exp(log_scale + power / 2 * jnp.log(jnp.where(is_zero, 1, last))))
    return root


class LipschitzMLP(AbstractNet):
    """A multilayer perceptron from `[num]` to `[num]` with `|g(x) - g(x')| <= coefficient |x - x'|`.

    At each use, every weight matrix with a larger spectral norm is scaled down to `coefficient^(1 / (depth + 1))`, by
    an upper bound on that norm (`spectral_bound`). Activations have slopes of at most one. So the product of norms is
    at most `coefficient`, for all parameters, up to rounding. Distances are Euclidean.

    **Arguments:**

    - `num`: length of input and output.
    - `coefficient`: below one for `lnz.bijections.Residual`.
    - `width`, `depth`: units of each hidden layer, and number of hidden layers.
    - `activation`: `"lipswish"`, `x sigmoid(b x) / 1.1` with b > 0 learned for each layer; `"elu"`; or `"tanh"`.
    - `key`: for the initial weights and biases, uniform within `1 / sqrt(units before)`.

    Source: Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen (2019), section 2.1 (arXiv:1811.00995); LipSwish: Chen,
    Behrmann, Duvenaud and Jacobsen (2019), section 3.3; arXiv:1906.02735.
    """

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    raw_slopes: Float[Array, "..."]
    coefficient: float = eqx.field(static=True)
    activation: Literal["lipswish", "elu", "tanh"] = eqx.field(static=True)

    def __init__(
        self,
        num: int,
        *,
        key: PRNGKeyArray,
        coefficient: float = 0.9,
        width: int = 128,
        depth: int = 2,
        activation: Literal["lipswish", "elu", "tanh"] = "lipswish",
    ):
        _check_sizes(num, width, depth, "LipschitzMLP")
        sizes = [num, *[width] * depth, num]
        keys = jr.split(key, depth + 1)
        layers = [uniform_layer(k, (m, n)) for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)]
        self.weights, self.biases = tuple(W for W, _ in layers), tuple(b for _, b in layers)
        self.raw_slopes = jnp.full(depth, 0.5)
        self.coefficient, self.activation = float(coefficient), activation

    def __check_init__(self):
        if not self.coefficient > 0:
            raise ValueError(f"`LipschitzMLP(coefficient=...)` must be positive; got {self.coefficient}.")
        if self.activation not in ("lipswish", "elu", "tanh"):
            raise ValueError(
                f"`LipschitzMLP(activation=...)` must be 'lipswish', 'elu' or 'tanh'; got {self.activation!r}."
            )

    @property
    def lipschitz(self) -> float:
        """The largest factor by which distances can grow."""
        return self.coefficient

    def normalised(self) -> tuple[Float[Array, "..."], ...]:
        """The weights scaled to the bound, as the network uses them."""
        most = self.coefficient ** (1 / len(self.weights))

        def scaled(W):
            bound = over_batch(spectral_bound, W.ndim - 2)(W)
            return W * (most / jnp.maximum(bound, most))[None, None]

        return tuple(scaled(W) for W in self.weights)

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.weights[0].shape[1],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.apply(self.normalised(), x)

    def apply(self, weights: tuple[Float[Array, "..."], ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The network with the given weights, as returned by `normalised`."""
        h = x
        for i, (W, b) in enumerate(zip(weights[:-1], self.biases[:-1], strict=True)):
            h = self._activate(dense(W, h, b, 2), i)
        return dense(weights[-1], h, self.biases[-1], 2)

    def _activate(self, h, layer):
        if self.activation == "elu":
            return jax.nn.elu(h)
        if self.activation == "tanh":
            return jnp.tanh(h)
        slope = softplus(aligned(self.raw_slopes, 1, h.ndim - 1)[layer][None])
        # The slope of x sigmoid(b x) is at most 1.0998, whatever b.
        return h * jax.nn.sigmoid(slope * h) / 1.1
