"""Arrays of counts."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._arrays import AbstractDiscreteArray
from ._grid import Grid, _enumeration
from ._space import _as_shape


class Counts(AbstractDiscreteArray):
    """`{0, 1, 2, ...}^shape` with counting measure. Examples are stored as `int32`.

    The set is infinite, so `quadrature(num)` sums over `0, ..., num - 1` in each variable, and ignores `bounds`. The
    sum lacks exactly the mass of the examples with some count of `num` or more.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    kind = "int"
    ends = (0.0, math.inf)
    advice = "Counts are whole numbers from 0, below 2**31."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Counts")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        with np.errstate(invalid="ignore"):  # the remainder of infinity is NaN, which is not zero
            return (x >= 0) & (x <= _LARGEST_COUNT) & (x % 1 == 0)

    def propose_value(self, key: PRNGKeyArray, old: Array) -> tuple[Array, Bool[Array, ""]]:
        """Move up or down by a whole number from 1 to r, with r drawn from 1, 2, 4, ..., 4096."""
        key_range, key_move, key_sign = jr.split(key, 3)
        most = 2 ** jr.randint(key_range, (), 0, _NUM_RANGES, old.dtype)
        move = jr.randint(key_move, (), 1, most + 1, old.dtype)
        new = jnp.where(jr.bernoulli(key_sign), old + move, old - move)
        # Refuse sums that wrap around.
        is_allowed = self.elements_within(new) & (jnp.abs(new - old) == move)
        return jnp.where(is_allowed, new, old), is_allowed

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Geometric with mean 1: `p(n) = 2^-(n + 1)`."""
        first, second = jr.bits(key, (2, *shape, *self.shape))  # n leading zeros, then a one: 2^-(n + 1)
        num_zeros = jax.lax.clz(first) + jnp.where(first == 0, jax.lax.clz(second), 0)
        return num_zeros.astype(jnp.int32)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return jnp.where(
            self.contains(x),
            -math.log(2.0) * (jnp.sum(x).astype(jnp.result_type(float)) + self.size),
            -jnp.inf,
        )

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        if num < 1:
            raise ValueError(f"`quadrature(num=...)` needs at least one count, 0; got {num}.")
        grid = _enumeration(self.shape, num, int)
        return Grid(grid.size, grid.point, lambda index: jnp.any(grid.point(index)[0] == num - 1), num / 2)


# The largest number that both float32 and int32 hold.
_LARGEST_COUNT = 2**31 - 128
_NUM_RANGES = 13
