"""Paths between densities, along which algorithms anneal."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..spaces import AbstractSpace, same_set
from ._density import AbstractDensity, AbstractDistribution, AbstractPath


def scale_ratio(change: Float[Array, ""] | float, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`change * ratio`, the increment of an annealed log weight; zero if `change` is, even for an infinite ratio."""
    return jnp.where(change == 0, 0, change * ratio)


class Interpolated(AbstractDensity):
    """`p~(x) = start(x)^(1 - beta) target(x)^beta`."""

    start: AbstractDistribution
    target: AbstractDensity
    beta: Float[Array, ""] | float

    @property
    def space(self) -> AbstractSpace:
        return self.target.space

    def log_density(self, x: Array) -> Float[Array, ""]:
        # Neither end of the path may depend on the other end's support: zero times minus infinity is NaN.
        start = jnp.where(self.beta == 1, 0, (1 - self.beta) * self.start.log_prob(x))
        return start + jnp.where(self.beta == 0, 0, self.beta * self.target.log_density(x))

    def own_path(self) -> AbstractPath:
        return GeometricPath(self.start, self)


class GeometricPath(AbstractPath):
    """`log p~_beta = (1 - beta) log start + beta log target`, for any start and target on one space.

    Gibbs sampling needs conditionals at every beta, and this path has none. Densities with conditionals define a path
    of their own.

    Source: Neal (2001), equation 3; arXiv:physics/9803008.
    """

    start: AbstractDistribution
    target: AbstractDensity

    def __check_init__(self):
        if not same_set(self.start.space, self.target.space):
            raise ValueError(
                f"`GeometricPath(start, target)` needs one space; got {self.start.space} and {self.target.space}. For "
                "a start on the space of the target, use `lnz.Transformed(lnz.flows.base_for(space), "
                "lnz.bijections.ToSupport(space))`."
            )

    def at(self, beta: Float[Array, ""] | float) -> AbstractDensity:
        return Interpolated(self.start, self.target, beta)

    def log_ratio(self, beta0: Float[Array, ""] | float, beta1: Float[Array, ""] | float, x: Array) -> Float[Array, ""]:
        target = self.target.log_density(x)
        # A point may be impossible under both. No chain visits it; its weight is set to zero.
        ratio = jnp.where(target == -jnp.inf, target, target - self.start.log_prob(x))
        return scale_ratio(beta1 - beta0, ratio)


class ReversedPath(AbstractPath):
    """`path` with beta reversed: `at(beta)` is `path.at(1 - beta)`. `start` is still the start of `path`."""

    path: AbstractPath

    @property
    def start(self) -> AbstractDistribution:
        return self.path.start

    def at(self, beta: Float[Array, ""] | float) -> AbstractDensity:
        return self.path.at(1 - beta)

    def log_ratio(self, beta0: Float[Array, ""] | float, beta1: Float[Array, ""] | float, x: Array) -> Float[Array, ""]:
        return self.path.log_ratio(1 - beta0, 1 - beta1, x)
