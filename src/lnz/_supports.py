"""Circles and products: spaces whose variables differ in kind."""

import itertools
import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._register import register
from ._space import AbstractSpace, Grid, _as_shape


@register
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

    def quadrature(self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0)) -> Grid:
        num_dimensions = self.num_dimensions
        size = _grid_size([num] * num_dimensions)
        place_values = np.array([num**i for i in range(num_dimensions)], dtype=np.int32)
        step = 2 * math.pi / num

        def point(index):
            dtype = jnp.result_type(float)
            digits = (index.astype(jnp.int32) // place_values) % num
            x = (self.low + step * digits.astype(dtype)).reshape(self.shape)
            return x, jnp.asarray(num_dimensions * math.log(step), dtype)

        return Grid(size, point)


@register
class Product(AbstractSpace):
    """Vectors made of parts: `Product(Euclidean(2), Positive(1))` has the variables of `R^2` and then a positive one.

    **Arguments:**

    - `spaces`: spaces of vectors, each with Lebesgue measure. Products among them are taken apart.

    `quadrature` is the grid of all combinations of the parts' points, so that it suits few variables.

    **Raises:** `ValueError` for a space that is not one of vectors, or that has another measure.
    """

    spaces: tuple[AbstractSpace, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Each variable must lie in its own part of the product."

    def __init__(self, *spaces: AbstractSpace):
        self.spaces = tuple(
            part for space in spaces for part in (space.spaces if isinstance(space, Product) else (space,))
        )

    def __check_init__(self):
        if not self.spaces:
            raise ValueError("`Product(...)` needs at least one space.")
        for space in self.spaces:
            if not isinstance(space, AbstractSpace) or len(space.shape) != 1 or space.base_measure != "Lebesgue":
                raise ValueError(
                    "`Product(...)` needs spaces of vectors with Lebesgue measure, such as `lnz.Positive(1)`; got "
                    f"{space}."
                )

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(space.shape[0] for space in self.spaces),)

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        within = [space.elements_within(part) for space, part in zip(self.spaces, self.split(x, -1), strict=True)]
        return np.concatenate(within, axis=-1) if isinstance(x, np.ndarray) else jnp.concatenate(within, axis=-1)

    def split(self, x: Array | np.ndarray, axis: int = 0) -> list:
        """The parts of `x`, whose variables are along `axis`."""
        ends = list(itertools.accumulate(space.shape[0] for space in self.spaces))
        starts = [0, *ends[:-1]]
        index: list = [slice(None)] * x.ndim
        parts = []
        for start, end in zip(starts, ends, strict=True):
            index[axis] = slice(start, end)
            parts.append(x[tuple(index)])
        return parts

    def quadrature(self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0)) -> Grid:
        grids = [space.quadrature(num, bounds) for space in self.spaces]
        size = _grid_size([grid.size for grid in grids])

        def point(index):
            points, log_weights = [], []
            for grid in grids:
                x, log_weight = grid.point(index % grid.size)
                points.append(x)
                log_weights.append(log_weight)
                index = index // grid.size
            return jnp.concatenate(points), sum(log_weights)

        return Grid(size, point)


def _grid_size(sizes: list[int]) -> int:
    size = math.prod(sizes)
    if size > 2**31 - 1:
        raise ValueError(f"A grid of {size} points is out of reach. Use `lnz.normalizers.Importance` or `AIS`.")
    return size
