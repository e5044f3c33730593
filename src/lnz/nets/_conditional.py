"""Conditional distributions: any callable that returns a distribution will do; here are the plainest.

A conditional distribution is a map to the parameters of one. `Conditional` joins the two, so that a
network can be exchanged without a new class.
"""

import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._check import as_floats, check_key, check_positive, kind_of
from .._density import AbstractDistribution
from .._module import build
from .._register import register
from ..distributions import Bernoulli, MultivariateNormal, Normal
from ._layers import _start
from ._net import InShape, one_input


@register
class Linear(eqx.Module):
    """`x -> W x + b`, with `W [num_out, num_in]`: `lnz.nets.Linear(784, 20, key=key)`.

    **Arguments:**

    - `num_in`, `num_out`: lengths of x and of the result.
    - `key`: for weights and biases that are uniform within `1 / sqrt(num_in)`, as those of `MLP`.

    With weights of your own: `Linear.from_parameters(W, b)`.
    """

    W: Float[Array, "out in_"]
    b: Float[Array, " out"]

    def __init__(self, num_in: int, num_out: int, *, key: PRNGKeyArray):
        for name, value in (("num_in", num_in), ("num_out", num_out)):
            if not isinstance(value, numbers.Integral):
                raise TypeError(
                    f"`Linear({name}=...)` must be a whole number; got {kind_of(value)}. For weights of your own use "
                    "`Linear.from_parameters(W, b)`."
                )
            check_positive(value, f"Linear({name}=...)")
        self.W, self.b = _start(check_key(key), (int(num_out), int(num_in)))

    @classmethod
    def from_parameters(cls, W, b) -> "Linear":
        """The map with these `W [num_out, num_in]` and `b [num_out]`.

        **Raises:** `ValueError` if the shapes do not fit together.
        """
        W, b = as_floats(W), as_floats(b)
        if W.ndim != 2 or b.shape != W.shape[:1]:
            raise ValueError(
                f"`Linear.from_parameters(W, b)` needs shapes [num_out, num_in] and [num_out]; got {W.shape} and "
                f"{b.shape}." + (" Try `W.T`." if W.ndim == 2 and b.shape == W.shape[1:] else "")
            )
        return build(cls, {"W": W, "b": b})

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.W.shape[-1],),)

    def __call__(self, x: Any) -> Float[Array, " out"]:
        return self.W @ one_input(self, x, "x", "network").astype(self.W.dtype) + self.b


@register
class ConditionalNormal(eqx.Module):
    """`x -> N(net(x), scale^2)` with a learned scale that does not depend on x.

    **Arguments:**

    - `net`: from x to the mean `[n]`.
    - `scale`: standard deviations, a number for all or one for each dimension. The field is `log_scale`.
    """

    scales_input: ClassVar[bool] = True

    net: Callable
    log_scale: Float[Array, "..."]

    def __init__(self, net: Callable, scale):
        self.net = net
        self.log_scale = jnp.log(jnp.asarray(scale, jnp.result_type(float)))

    def __call__(self, x: Array) -> Normal:
        loc = self.net(x)
        return Normal(loc, jnp.broadcast_to(jnp.exp(self.log_scale), loc.shape))


@register
class ConditionalMultivariateNormal(eqx.Module):
    """`x -> N(net(x), L L')` with a learned L that does not depend on x; `tril` is L, `[n, n]`."""

    scales_input: ClassVar[bool] = True

    net: Callable
    noise: MultivariateNormal

    def __init__(self, net: Callable, tril):
        tril = jnp.asarray(tril, jnp.result_type(float))
        self.net = net
        self.noise = MultivariateNormal(jnp.zeros(len(tril)), tril)

    def __call__(self, x: Array) -> AbstractDistribution:
        return MultivariateNormal(self.net(x) + self.noise.loc, self.noise.scale_tril)


@register
class ConditionalBernoulli(eqx.Module):
    """`x -> Bernoulli(logits = net(x))`."""

    scales_input: ClassVar[bool] = True

    net: Callable

    def __call__(self, x: Array) -> Bernoulli:
        return Bernoulli(self.net(x))
