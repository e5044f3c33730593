"""Arrays of counts."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..modules import register
from ._grid import Grid, _enumeration
from ._space import AbstractSpace, _as_shape


@register
class Counts(AbstractSpace):
    """`{0, 1, 2, ...}^shape` with counting measure. Examples are stored as `int32`.

    The set is infinite: `quadrature(num)` sums over `0, ..., num - 1` in each variable and ignores `bounds`. The sum
    lacks exactly the mass of the examples with some count of `num` or more.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "counting"
    kind = "int"
    advice = "Counts are whole numbers from 0, below 2**31."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Counts")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        with np.errstate(invalid="ignore"):  # the remainder of infinity is no number, and so not zero
            return (x >= 0) & (x <= _LARGEST_COUNT) & (x % 1 == 0)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        if num < 1:
            raise ValueError(f"`quadrature(num=...)` needs at least one count, 0; got {num}.")
        grid = _enumeration(self.shape, num, int)
        return Grid(grid.size, grid.point, lambda index: jnp.any(grid.point(index)[0] == num - 1))


# The largest that float32 holds and `int32` too.
_LARGEST_COUNT = 2**31 - 128
