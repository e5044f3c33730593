from collections.abc import Callable

from jaxtyping import Array, Float

from .._batch_last import aligned, call_net
from .._model import Frozen
from .._register import register
from ._net import AbstractNet, InShape


@register
class Standardised(AbstractNet):
    """`x -> net((x - mean) / scale)`: a network whose inputs come in the units of the data.

    **Arguments:**

    - `net`: from `[n]`.
    - `mean`, `scale`: of each input `[n]`; training leaves them alone.
    """

    net: Callable
    mean: Frozen
    scale: Frozen

    def __init__(self, net: Callable, mean: Float[Array, " n"], scale: Float[Array, " n"]):
        self.net, self.mean, self.scale = net, Frozen(mean), Frozen(scale)

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.mean.value.shape[0],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        mean, scale = (aligned(part.value, 1, x.ndim - 1) for part in (self.mean, self.scale))
        return call_net(self.net, (x.astype(mean.dtype) - mean) / scale)
