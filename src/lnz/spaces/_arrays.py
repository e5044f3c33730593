"""Spaces of arrays whose numbers all come from the same set, discrete or real."""

import math
from abc import abstractmethod

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._measure import COUNTING, LEBESGUE
from ._space import AbstractSpace


class AbstractDiscreteArray(AbstractSpace):
    """Arrays of whole numbers with counting measure. `propose_value(key, old)` proposes a new value for one number."""

    measure = COUNTING

    @property
    def dimension(self) -> int:
        return self.size

    @property
    def unbounded(self) -> None:
        return None

    def from_unbounded(self, u: Array) -> tuple[Array, Float[Array, "..."]]:
        raise TypeError(f"{self} is discrete: it has no unbounded coordinates.")

    def to_unbounded(self, x: Array) -> tuple[Array, Float[Array, "..."]]:
        raise TypeError(f"{self} is discrete: it has no unbounded coordinates.")

    def tangent_basis(self, x: Array) -> Array:
        raise TypeError(f"{self} is discrete: it has no tangent space.")

    @abstractmethod
    def propose_value(self, key: PRNGKeyArray, old: Array) -> tuple[Array, Bool[Array, ""]]:
        """Propose a new value of one number, with a symmetric probability.

        Returns the value and whether it is allowed. If it is not, the value is `old`.
        """

    def propose(self, key: PRNGKeyArray, x: Array) -> tuple[Array, Bool[Array, ""]]:
        """Change one number of `x`, picked at random, by `propose_value`."""
        key_site, key_value = jr.split(key)
        site = jr.randint(key_site, (), 0, self.size)
        flat = x.reshape(-1)
        value, is_allowed = self.propose_value(key_value, flat[site])
        return flat.at[site].set(value).reshape(x.shape), is_allowed


class AbstractRealArray(AbstractSpace):
    """Arrays of real numbers with Lebesgue measure. Each number is mapped to the line or the circle on its own."""

    measure = LEBESGUE
    kind = "float"

    @property
    def num_points(self) -> None:
        return None

    @property
    def dimension(self) -> int:
        return self.size

    @abstractmethod
    def number_from_unbounded(self, u: Array) -> tuple[Array, Array]:
        """`x` and `log dx/du` of each number of `u`, of any shape."""

    @abstractmethod
    def number_to_unbounded(self, x: Array) -> tuple[Array, Array]:
        """`u` and `log du/dx` of each number of `x`, of any shape; minus infinity outside the space."""

    def from_unbounded(self, u: Array) -> tuple[Array, Float[Array, "..."]]:
        return self._summed(*self.number_from_unbounded(u))

    def to_unbounded(self, x: Array) -> tuple[Array, Float[Array, "..."]]:
        return self._summed(*self.number_to_unbounded(x))

    def tangent_basis(self, x: Array) -> Array:
        """The coordinate axes."""
        return jnp.eye(self.size, dtype=x.dtype).reshape(*self.shape, self.size)

    def _summed(self, value: Array, log_derivative: Array) -> tuple[Array, Array]:
        return value, jnp.sum(log_derivative, axis=tuple(range(len(self.shape))))

    def _log_uniform(self, x: Array) -> Float[Array, ""]:
        """The uniform log-density of ONE example, between two finite ends."""
        low, high = self.ends or (0.0, math.inf)
        return jnp.where(self.contains(x), jnp.asarray(-self.size * math.log(high - low), x.dtype), -jnp.inf)
