"""Arrays of numbers between two finite ends."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid, _trapezoid, innermost
from ._space import AbstractSpace, _as_shape

_REACH = 3.5  # in t, where an end is 1e-22 of the width away


class Interval(AbstractSpace):
    """`[low, high]^shape` with Lebesgue measure.

    `quadrature` ignores `bounds`. It is the trapezoid rule in t, with `x = low + (high - low) sigmoid(pi sinh t)`. It
    is right also for densities that are infinite at an end, as far as floating-point numbers tell x from the end.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Rescale the data or choose a wider interval."

    def __init__(self, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0):
        self.shape = _as_shape(shape, "Interval")
        self.low, self.high = float(low), float(high)

    def __check_init__(self):
        if not self.low < self.high:
            raise ValueError(f"`Interval(low=..., high=...)` needs low < high; got {self.low} and {self.high}.")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return (x >= self.low) & (x <= self.high)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        x = jr.uniform(key, (*shape, *self.shape), dtype, self.low, self.high)
        return jnp.clip(x, *innermost(self.low, self.high, x.dtype))

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        log_prob = -self.num_dimensions * math.log(self.high - self.low)
        return jnp.where(self.contains(x), jnp.asarray(log_prob, x.dtype), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        """The double-exponential formula.

        Source: Takahasi and Mori (1974).
        """
        lines = _trapezoid(self.shape, num, (-_REACH, _REACH), shift)
        width = self.high - self.low

        def point(index):
            t, log_weight = lines.point(index)
            z = math.pi * jnp.sinh(t)
            distance = width * jax.nn.sigmoid(-jnp.abs(z))  # from the nearer end
            x = jnp.where(z > 0, self.high - distance, self.low + distance)
            low, high = innermost(self.low, self.high, x.dtype)
            x = jnp.where(x < low, low, jnp.where(x > high, high, x))
            log_slope = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) + jnp.log(math.pi * width * jnp.cosh(t))
            return x, log_weight + jnp.sum(log_slope)

        def on_edge(index):
            # Nearer to an end than this there is no number: what a singular density has there goes unseen.
            x, _ = point(index)
            low, high = innermost(self.low, self.high, x.dtype)
            assert lines.on_edge is not None
            return lines.on_edge(index) | jnp.any((x == low) | (x == high))

        return Grid(lines.size, point, on_edge)
