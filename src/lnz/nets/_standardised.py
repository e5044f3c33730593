from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float

from .._batch_last import aligned
from .._model import Frozen
from .._register import register


@register
class Standardised(eqx.Module):
    """`x -> net((x - mean) / scale)`: a network whose inputs come in the units of the data.

    **Arguments:**

    - `net`: from `[n]`; it understands batch axes last, as `MLP` does.
    - `mean`, `scale`: of each input `[n]`; training leaves them alone.
    """

    batch_last: ClassVar[bool] = True
    net: Callable
    mean: Frozen
    scale: Frozen

    def __init__(self, net: Callable, mean: Float[Array, " n"], scale: Float[Array, " n"]):
        self.net, self.mean, self.scale = net, Frozen(mean), Frozen(scale)

    def __call__(self, x: Array) -> Array:
        mean, scale = (aligned(part.value, 1, x.ndim - 1) for part in (self.mean, self.scale))
        return self.net((x.astype(mean.dtype) - mean) / scale)
