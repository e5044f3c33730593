"""Arrays of positive numbers."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid, _trapezoid
from ._space import AbstractSpace, _as_shape


class Positive(AbstractSpace):
    """`(0, inf)^shape` with Lebesgue measure. `quadrature` is the trapezoid rule in `log x`, with `bounds` on that."""

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Zero is outside: shift or drop such values, or use `lnz.Euclidean`."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Positive")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return (x > 0) & (x < math.inf)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Exponential with mean 1."""
        return jnp.maximum(jr.exponential(key, (*shape, *self.shape), dtype), jnp.finfo(dtype).tiny)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return jnp.where(self.contains(x), -jnp.sum(x), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        logs = _trapezoid(self.shape, num, bounds, shift)

        def point(index):
            log_x, log_weight = logs.point(index)
            return jnp.exp(log_x), log_weight + jnp.sum(log_x)

        return Grid(logs.size, point, logs.on_edge)
