"""Arrays of angles."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._arrays import AbstractRealArray
from ._grid import Grid, _grid_size
from ._space import AbstractSpace, _as_shape


class Torus(AbstractRealArray):
    """Angles in `[-pi, pi)^shape` with Lebesgue measure. The two ends of each circle are the same point.

    `quadrature` ignores `bounds`. Its rule has equal weights and is exact for trigonometric polynomials of degree below
    `num`. The upper end is allowed in data, because rounding may produce it.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    advice = "Angles are in radians: try `(angle + pi) % (2 * pi) - pi`."
    low: ClassVar[float] = -math.pi
    high: ClassVar[float] = math.pi
    ends = (-math.pi, math.pi)
    periodic = True

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Torus")

    @property
    def unbounded(self) -> "Torus":
        return self

    def number_from_unbounded(self, u: Array) -> tuple[Array, Array]:
        return u, jnp.zeros_like(u)

    def number_to_unbounded(self, x: Array) -> tuple[Array, Array]:
        return x, jnp.zeros_like(x)

    def elements_within(self, x):
        return (x >= self.low) & (x <= self.high)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        return jr.uniform(key, (*shape, *self.shape), dtype, self.low, self.high)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return self._log_uniform(x)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        num = num if shift is None else num - 1
        num_dimensions = self.size
        size = _grid_size([num] * num_dimensions)
        place_values = np.array([num**i for i in range(num_dimensions)], dtype=np.int32)
        step = 2 * math.pi / num

        def point(index):
            dtype = jnp.result_type(float)
            digits = (index.astype(jnp.int32) // place_values) % num
            places = digits.astype(dtype) + (0 if shift is None else jnp.asarray(shift, dtype))
            x = (self.low + step * places).reshape(self.shape)
            return x, jnp.asarray(num_dimensions * math.log(step), dtype)

        return Grid(size, point)


def wrap(angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """Wrap angles to [-pi, pi)."""
    turned = angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))
    turned = jnp.where(turned >= math.pi, turned - 2 * math.pi, turned)
    return jnp.where(turned < -math.pi, turned + 2 * math.pi, turned)


def wrapped(space: AbstractSpace, x: Array) -> Array:
    """ONE example with its angles wrapped to [-pi, pi) and all other numbers unchanged."""
    return space.join([wrap(x) if part.periodic else x for part, x in zip(space.parts, space.split(x), strict=True)])
