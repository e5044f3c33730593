"""Real-valued arrays."""

import math

import equinox as eqx
from jaxtyping import Array

from ..modules import register
from ._grid import Grid, _trapezoid
from ._space import AbstractSpace, _as_shape


@register
class Euclidean(AbstractSpace):
    """`R^shape` with Lebesgue measure."""

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Remove or fill in the rows with missing or infinite values."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Euclidean")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return abs(x) < math.inf

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _trapezoid(self.shape, num, bounds, shift)
