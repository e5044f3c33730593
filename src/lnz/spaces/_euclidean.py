"""Real-valued arrays."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._arrays import AbstractRealArray
from ._grid import Grid, _trapezoid
from ._space import _as_shape


class Euclidean(AbstractRealArray):
    """`R^shape` with Lebesgue measure."""

    shape: tuple[int, ...] = eqx.field(static=True)
    advice = "Remove or fill in the rows with missing or infinite values."
    ends = (-math.inf, math.inf)

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Euclidean")

    @property
    def unbounded(self) -> "Euclidean":
        return self

    def number_from_unbounded(self, u: Array) -> tuple[Array, Array]:
        return u, jnp.zeros_like(u)

    def number_to_unbounded(self, x: Array) -> tuple[Array, Array]:
        return x, jnp.zeros_like(x)

    def elements_within(self, x):
        return abs(x) < math.inf

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Standard normal."""
        return jr.normal(key, (*shape, *self.shape), dtype)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return -0.5 * jnp.sum(x * x + math.log(2 * math.pi))

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _trapezoid(self.shape, num, bounds, shift)
