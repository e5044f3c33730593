"""Arrays of categories."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._arrays import AbstractDiscreteArray
from ._grid import Grid, _enumeration
from ._space import _as_shape


class Categorical(AbstractDiscreteArray):
    """`{0, ..., num_categories - 1}^shape` with counting measure. Examples are stored as `int32`."""

    shape: tuple[int, ...] = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)
    kind = "int"
    advice = "Categories are whole numbers from 0."

    def __init__(self, shape: int | tuple[int, ...], num_categories: int):
        self.shape = _as_shape(shape, "Categorical")
        if num_categories < 1:
            raise ValueError(f"`Categorical(num_categories=...)` must be positive; got {num_categories}.")
        self.num_categories = num_categories

    @property
    def num_points(self) -> int:
        return self.num_categories**self.size

    @property
    def ends(self) -> tuple[float, float]:
        return 0.0, self.num_categories - 1.0

    @property
    def num_values(self) -> int:
        return self.num_categories

    def elements_within(self, x):
        return (x >= 0) & (x < self.num_categories) & (x % 1 == 0)

    def propose_value(self, key: PRNGKeyArray, old: Array) -> tuple[Array, Bool[Array, ""]]:
        """One of the other categories."""
        if self.num_categories == 1:
            return old, jnp.array(True)
        return (old + jr.randint(key, (), 1, self.num_categories, old.dtype)) % self.num_categories, jnp.array(True)

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform."""
        return jr.randint(key, (*shape, *self.shape), 0, self.num_categories, jnp.int32)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        return jnp.where(self.contains(x), -self.size * math.log(self.num_categories), -jnp.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, self.num_categories, int)
