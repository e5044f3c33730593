"""Spaces of vectors with several parts, each in its own space."""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..modules import field_names, replace
from ._euclidean import Euclidean
from ._grid import Grid, _grid_size
from ._measure import Measure
from ._space import AbstractSpace


class AbstractJoined(AbstractSpace):
    """Vectors `[x_1, ..., x_k]`: flat parts, each in its own space, one after the other.

    Whole numbers beside real numbers are stored as real numbers. `quadrature` is the grid of all combinations of the
    parts' points, so it suits few variables.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.size for part in self.parts),)

    @property
    def measure(self) -> Measure:
        return Measure.product(part.measure for part in self.parts)

    @property
    def kind(self) -> str:
        return "int" if all(part.kind == "int" for part in self.parts) else "float"

    @property
    def num_points(self) -> int | None:
        nums = [part.num_points for part in self.parts]
        known = [num for num in nums if num is not None]
        return math.prod(known) if len(known) == len(nums) else None

    @property
    def dimension(self) -> int:
        return sum(part.dimension for part in self.parts)

    def elements_within(self, x):
        pieces = zip(self.parts, self.split(x, -1), strict=True)
        within = [
            (np if isinstance(x, np.ndarray) else jnp).broadcast_to(part.elements_within(piece), piece.shape)
            for part, piece in pieces
        ]
        return self.join(within, -1)

    @property
    def unbounded(self) -> AbstractSpace | None:
        inner = [part.unbounded for part in self.parts]
        known = [space for space in inner if space is not None]
        if len(known) < len(inner):
            return None
        if all(space.is_euclidean for space in known):
            return Euclidean(sum(space.size for space in known))
        return Product(*map(as_vector, known))

    def from_unbounded(self, u: Array) -> tuple[Array, Float[Array, "..."]]:
        inner = [part.unbounded for part in self.parts]
        pieces, start = [], 0
        for space in inner:
            assert space is not None, self
            piece = u[start : start + space.size]
            pieces.append(piece.reshape(*space.shape, *u.shape[1:]))
            start += space.size
        found = [part.from_unbounded(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return self.join([x for x, _ in found]), functools.reduce(jnp.add, (log_det for _, log_det in found))

    def to_unbounded(self, x: Array) -> tuple[Array, Float[Array, "..."]]:
        pieces = self.split(x)
        found = [part.to_unbounded(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        flat = [u.reshape(-1, *x.shape[1:]) for u, _ in found]
        return jnp.concatenate(flat), functools.reduce(jnp.add, (log_det for _, log_det in found))

    def tangent_basis(self, x: Array) -> Array:
        bases = [part.tangent_basis(piece) for part, piece in zip(self.parts, self.split(x), strict=True)]
        rows, first = [], 0
        for part, basis in zip(self.parts, bases, strict=True):
            flat = basis.reshape(part.size, part.dimension)
            rows.append(jnp.pad(flat, ((0, 0), (first, self.dimension - first - part.dimension))))
            first += part.dimension
        return jnp.concatenate(rows)

    @property
    def propose(self) -> Callable[[PRNGKeyArray, Array], tuple[Array, Bool[Array, ""]]] | None:
        return None if any(part.propose is None for part in self.parts) else self._propose

    def _propose(self, key: PRNGKeyArray, x: Array) -> tuple[Array, Bool[Array, ""]]:
        """Move one part, picked with a probability proportional to its number of entries."""
        key_part, *keys = jr.split(key, 1 + len(self.parts))
        sizes = [part.size for part in self.parts]
        place = jr.randint(key_part, (), 0, self.size, jnp.int32)
        picked = jnp.searchsorted(jnp.cumsum(jnp.asarray(sizes, jnp.int32)), place, side="right")
        pieces, allowed = [], []
        for i, (key, part, piece) in enumerate(zip(keys, self.parts, self.split(x), strict=True)):
            piece = part.cast(piece, x.dtype)
            moved, is_allowed = (
                (piece, jnp.array(True)) if part.size == 0 or part.propose is None else part.propose(key, piece)
            )
            pieces.append(jnp.where(picked == i, moved, piece))
            allowed.append(is_allowed)
        return self.join(pieces).astype(x.dtype), jnp.stack(allowed)[picked]

    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Each part from the reference distribution of its own space."""
        keys = jr.split(key, len(self.parts))
        drawn = [part.reference_sample(k, shape, dtype) for k, part in zip(keys, self.parts, strict=True)]
        return self.join(drawn, -1)

    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        total = jnp.zeros((), x.dtype if self.kind == "float" else jnp.result_type(float))
        for part, piece in zip(self.parts, self.split(x), strict=True):
            total = total + part.reference_log_prob(part.cast(piece, total.dtype)).astype(total.dtype)
        return total

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        grids = [part.quadrature(num, bounds, shift) for part in self.parts]
        size = _grid_size([grid.size for grid in grids])

        def point(index):
            points, log_weights = [], []
            for grid in grids:
                x, log_weight = grid.point(index % grid.size)
                points.append(x)
                log_weights.append(log_weight)
                index = index // grid.size
            return self.join(points), sum(log_weights)

        def on_edge(index):
            found = jnp.zeros((), bool)
            for grid in grids:
                found = found if grid.on_edge is None else found | grid.on_edge(index % grid.size)
                index = index // grid.size
            return found

        has_edge = any(grid.on_edge is not None for grid in grids)
        return Grid(size, point, on_edge if has_edge else None, max(grid.beyond for grid in grids))


class Product(AbstractJoined):
    """Vectors with several parts: `Product(Euclidean(2), Positive(1))` has two real variables and then a positive one.

    `lnz.spaces.Record` has named parts of any shape and measure.

    **Arguments:**

    - `spaces`: spaces of vectors, each with Lebesgue measure. A `Product` among them is replaced by its parts.

    **Raises:** `ValueError` for a space that does not consist of vectors or has another measure.
    """

    spaces: tuple[AbstractSpace, ...] = eqx.field(static=True)
    advice = "Each variable must lie in its own part of the product."

    def __init__(self, *spaces: AbstractSpace):
        self.spaces = tuple(
            part for space in spaces for part in (space.spaces if isinstance(space, Product) else (space,))
        )

    def __check_init__(self):
        if not self.spaces:
            raise ValueError("`Product(...)` needs at least one space.")
        for space in self.spaces:
            if not isinstance(space, AbstractSpace) or len(space.shape) != 1 or space.measure.is_counting:
                raise ValueError(
                    "`Product(...)` needs spaces of vectors with Lebesgue measure, such as `lnz.Positive(1)`; got "
                    f"{space}. `lnz.Record(a=space, ...)` has parts of any shape and measure."
                )


def as_vector(space: AbstractSpace) -> AbstractSpace:
    """`space` with its examples flattened to vectors.

    **Raises:** `TypeError` if that is impossible because its entries depend on each other.
    """
    if len(space.shape) == 1:
        return space
    if space.ends is None or "shape" not in field_names(type(space)):
        raise TypeError(f"{space} is not a space of vectors.")
    return replace(space, shape=(space.size,))
