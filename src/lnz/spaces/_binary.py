"""Vectors of bits."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid, _enumeration
from ._space import AbstractSpace, _as_shape


class Binary(AbstractSpace):
    """`{0, 1}^shape` with counting measure. Examples are stored as floating-point zeros and ones.

    `Binary(64)` is 64 bits; `Binary(())` is one bit; `Binary((8, 8))` is a binary image.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "counting"
    kind = "float"
    advice = "Binary models need 0 and 1: try `data > threshold`."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Binary")

    @property
    def num_points(self) -> int:
        return 2**self.num_dimensions

    def elements_within(self, x):
        return (x == 0) | (x == 1)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        return self.cast(jr.bernoulli(key, 0.5, (*shape, *self.shape)), dtype)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return jnp.where(self.contains(x), -self.num_dimensions * math.log(2.0), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, 2, float)
