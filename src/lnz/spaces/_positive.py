"""Arrays of positive numbers."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..numerics import softplus
from ._arrays import AbstractRealArray
from ._ends import between, least, zero_outside
from ._euclidean import Euclidean
from ._grid import Grid, _trapezoid
from ._space import _as_shape


class Positive(AbstractRealArray):
    """`(0, inf)^shape` with Lebesgue measure. `quadrature` is the trapezoid rule in `log x`, which `bounds` limit."""

    shape: tuple[int, ...] = eqx.field(static=True)
    advice = "Zero is outside: shift or drop such values, or use `lnz.Euclidean`."
    ends = (0.0, math.inf)

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Positive")

    @property
    def unbounded(self) -> Euclidean:
        return Euclidean(self.shape)

    def number_from_unbounded(self, u: Array) -> tuple[Array, Array]:
        """`x = log(1 + e^u)`, which is linear for large u and does not overflow."""
        return jnp.maximum(softplus(u), least(u)), -softplus(-u)

    def number_to_unbounded(self, x: Array) -> tuple[Array, Array]:
        inside = between(x, least(x), float(jnp.finfo(x.dtype).max))
        log_slope = jnp.log(-jnp.expm1(-inside))  # log-derivative of softplus at the result u
        return inside + log_slope, zero_outside(self, x, -log_slope)

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

        return Grid(logs.size, point, logs.on_edge, logs.beyond)
