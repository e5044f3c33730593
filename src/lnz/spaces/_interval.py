"""Arrays of numbers between two finite ends."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..numerics import softplus
from ._arrays import AbstractRealArray
from ._ends import between, innermost, least, nearest_inside, zero_outside
from ._euclidean import Euclidean
from ._grid import Grid, _trapezoid
from ._space import _as_shape

_REACH = 3.5  # the largest t, at which x is 1e-22 of the width away from an end


class Interval(AbstractRealArray):
    """`[low, high]^shape` with Lebesgue measure.

    `quadrature` ignores `bounds`. It is the trapezoid rule in t, with `x = low + (high - low) sigmoid(pi sinh t)`. The
    rule holds also for densities that are infinite at an end, as far as floating-point numbers distinguish x from it.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    advice = "Rescale the data or choose a wider interval."

    def __init__(self, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0):
        self.shape = _as_shape(shape, "Interval")
        self.low, self.high = float(low), float(high)

    def __check_init__(self):
        if not self.low < self.high:
            raise ValueError(f"`Interval(low=..., high=...)` needs low < high; got {self.low} and {self.high}.")

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def unbounded(self) -> Euclidean:
        return Euclidean(self.shape)

    def number_from_unbounded(self, u: Array) -> tuple[Array, Array]:
        """`x = low + (high - low) sigmoid(u)`, which saturates at the numbers next to the ends."""
        low, high, width = self.low, self.high, self.high - self.low
        # Each half is computed from its own end, so that small distances keep their digits and x stays inside.
        x = jnp.where(u > 0, high - width * jax.nn.sigmoid(-u), low + width * jax.nn.sigmoid(u))
        return nearest_inside(self, x), math.log(width) - softplus(u) - softplus(-u)

    def number_to_unbounded(self, x: Array) -> tuple[Array, Array]:
        width = self.high - self.low
        # The distance from each end is computed from that end: 1 - z would lose the digits of a small distance.
        below = jnp.log(between((x - self.low) / width, least(x), 1))
        above = jnp.log(between((self.high - x) / width, least(x), 1))
        return below - above, zero_outside(self, x, -math.log(width) - below - above)

    def elements_within(self, x):
        return (x >= self.low) & (x <= self.high)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        x = jr.uniform(key, (*shape, *self.shape), dtype, self.low, self.high)
        return jnp.clip(x, *innermost(self.low, self.high, x.dtype))

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return self._log_uniform(x)

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
            # There is no number nearer to an end than this, so the grid misses the mass of a singular density there.
            x, _ = point(index)
            low, high = innermost(self.low, self.high, x.dtype)
            assert lines.on_edge is not None
            return lines.on_edge(index) | jnp.any((x == low) | (x == high))

        # The mass between an end and the number next to it is about as large as the mass that this number represents.
        return Grid(lines.size, point, on_edge, beyond=2.0)
