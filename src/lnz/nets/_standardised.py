from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ..core import in_two_parts
from ..modules import Frozen, as_floats
from ..numerics import aligned, call_net, held_apart
from ._net import AbstractNet, InShape


class Standardised(AbstractNet):
    """`x -> net((x - mean) / scale)`: a network that takes its inputs in the units of the data.

    **Arguments:**

    - `net`: a network of inputs `[n]`.
    - `mean`, `scale`: of each input, `[n]`, frozen. The mean is held in two parts, the fields `origin` and `mean`, and
      may be given in float64: see `lnz.local`.
    """

    net: Callable
    mean: Frozen
    scale: Frozen
    origin: Frozen

    def __init__(self, net: Callable, mean: Float[Array | np.ndarray, " n"], scale: Float[Array | np.ndarray, " n"]):
        scale = as_floats(scale)
        origin, rest = in_two_parts(mean, scale.dtype)
        self.net, self.mean, self.scale, self.origin = net, Frozen(rest), Frozen(scale), Frozen(origin)

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.mean.value.shape[0],),)

    def call_batch_last(self, x: Array) -> Array:
        parts = (held_apart(self.origin.value), self.mean.value, self.scale.value)
        origin, mean, scale = (aligned(part, 1, x.ndim - 1) for part in parts)
        return call_net(self.net, ((x.astype(mean.dtype) - origin) - mean) / scale)

    def input_origins(self) -> tuple[Any, ...]:
        """The array of the origin."""
        return (self.origin.value,)
