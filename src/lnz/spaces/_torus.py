"""Arrays of angles."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid
from ._product import _grid_size
from ._space import AbstractSpace, _as_shape


class Torus(AbstractSpace):
    """`[-pi, pi)^shape`, angles, with Lebesgue measure: the two ends of each circle are one point.

    `quadrature` ignores `bounds`; its rule has equal weights and is exact for trigonometric polynomials of degree below
    `num`. The upper end is allowed in data, where rounding may put it.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Angles are in radians: try `(angle + pi) % (2 * pi) - pi`."
    low: ClassVar[float] = -math.pi
    high: ClassVar[float] = math.pi

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Torus")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return (x >= self.low) & (x <= self.high)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        return jr.uniform(key, (*shape, *self.shape), dtype, self.low, self.high)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        log_prob = -self.num_dimensions * math.log(2 * math.pi)
        return jnp.where(self.contains(x), jnp.asarray(log_prob, x.dtype), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        num = num if shift is None else num - 1
        num_dimensions = self.num_dimensions
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
