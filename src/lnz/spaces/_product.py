"""Products of spaces."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid
from ._space import AbstractSpace


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

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Each part as its own space has it."""
        keys = jr.split(key, len(self.spaces))
        parts = [space.reference_sample(k, shape, dtype) for k, space in zip(keys, self.spaces, strict=True)]
        return jnp.concatenate(parts, axis=-1)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        parts = zip(self.spaces, self.split(x), strict=True)
        return sum((space.reference_log_prob(part) for space, part in parts), start=jnp.zeros((), x.dtype))

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        grids = [space.quadrature(num, bounds, shift) for space in self.spaces]
        size = _grid_size([grid.size for grid in grids])

        def point(index):
            points, log_weights = [], []
            for grid in grids:
                x, log_weight = grid.point(index % grid.size)
                points.append(x)
                log_weights.append(log_weight)
                index = index // grid.size
            return jnp.concatenate(points), sum(log_weights)

        def on_edge(index):
            found = jnp.zeros((), bool)
            for grid in grids:
                found = found if grid.on_edge is None else found | grid.on_edge(index % grid.size)
                index = index // grid.size
            return found

        return Grid(size, point, on_edge)


def _grid_size(sizes: list[int]) -> int:
    size = math.prod(sizes)
    if size > 2**31 - 1:
        raise ValueError(f"A grid of {size} points is out of reach. Use `lnz.normalizers.Importance` or `AIS`.")
    return size
