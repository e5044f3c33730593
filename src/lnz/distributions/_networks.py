"""Conditional normals and Bernoullis: a network gives the parameters. Any callable that returns a distribution will do.

Each holds its network as a field, so that a network can be exchanged without a new class.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import AbstractDistribution
from ..modules import Part
from ._bernoulli import Bernoulli
from ._normal import MultivariateNormal, Normal


class ConditionalNormal(Part, eqx.Module):
    """`x -> N(net(x), scale^2)` with a learned scale, the same for all x.

    **Arguments:**

    - `net`: from x to the mean `[n]`.
    - `scale`: standard deviations, one number for all dimensions or one for each. The field is `log_scale`.
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


class ConditionalMultivariateNormal(Part, eqx.Module):
    """`x -> N(net(x), L L')` with a learned L, the same for all x; `tril` is L, `[n, n]`."""

    scales_input: ClassVar[bool] = True

    net: Callable
    noise: MultivariateNormal

    def __init__(self, net: Callable, tril):
        tril = jnp.asarray(tril, jnp.result_type(float))
        self.net = net
        self.noise = MultivariateNormal(jnp.zeros(len(tril)), tril)

    def __call__(self, x: Array) -> AbstractDistribution:
        loc = self.net(x)
        if loc.shape != self.noise.loc.shape:
            raise ValueError(
                f"`ConditionalMultivariateNormal(net=...)` needs a mean of the shape of L's rows, "
                f"{self.noise.loc.shape}; got {loc.shape}."
            )
        return MultivariateNormal(loc + self.noise.loc, self.noise.scale_tril)


class ConditionalBernoulli(Part, eqx.Module):
    """`x -> Bernoulli(logits = net(x))`."""

    scales_input: ClassVar[bool] = True

    net: Callable

    def __call__(self, x: Array) -> Bernoulli:
        return Bernoulli(self.net(x))
