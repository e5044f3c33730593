"""Vectors of bits."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._arrays import AbstractDiscreteArray
from ._grid import Grid, _enumeration
from ._space import _as_shape


class Binary(AbstractDiscreteArray):
    """`{0, 1}^shape` with counting measure. Examples are stored as floating-point zeros and ones.

    `Binary(64)` has 64 bits; `Binary(())` is one bit; `Binary((8, 8))` is a binary image.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    kind = "float"
    advice = "Binary models need 0 and 1: try `data > threshold`."
    ends = (0.0, 1.0)
    num_values = 2

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Binary")

    @property
    def num_points(self) -> int:
        return 2**self.size

    def elements_within(self, x):
        return (x == 0) | (x == 1)

    def propose_value(self, key: PRNGKeyArray, old: Array) -> tuple[Array, Bool[Array, ""]]:
        """The other bit."""
        return 1 - old, jnp.array(True)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        return self.cast(jr.bernoulli(key, 0.5, (*shape, *self.shape)), dtype)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return jnp.where(self.contains(x), -self.size * math.log(2.0), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, 2, float)
