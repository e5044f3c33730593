"""Vectors of bits."""

import equinox as eqx
from jaxtyping import Array

from ..modules import register
from ._grid import Grid, _enumeration
from ._space import AbstractSpace, _as_shape


@register
class Binary(AbstractSpace):
    """`{0, 1}^shape` with counting measure. Examples are stored as floating-point zeros and ones.

    `Binary(64)` is 64 bits; `Binary(())` is one bit; `Binary((8, 8))` is a binary image.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "counting"
    kind = "float"
    advice = "Binary models need 0 and 1: try `data > threshold`."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Binary")

    @property
    def num_points(self) -> int:
        return 2**self.num_dimensions

    def elements_within(self, x):
        return (x == 0) | (x == 1)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, 2, float)
