from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._batch_last import aligned
from .._bijection import AbstractBatchLastBijection, AbstractEuclideanMap
from .._positive import loc_and_log_scale
from .._register import register


@register
class Affine(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = scale * x + loc`, element by element; `Affine(1.0, 2.0)` is `y = 2 x + 1`.

    **Arguments:**

    - `loc`: shift `[*shape]`.
    - `scale`: positive factors of the same shape or a number. The field is `log_scale`.
    """

    affine: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Affine")
        self.shape = self.loc.shape

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        loc, log_scale, log_det = self._aligned(x)
        return jnp.exp(log_scale) * x + loc, log_det

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        loc, log_scale, log_det = self._aligned(y)
        return (y - loc) * jnp.exp(-log_scale), -log_det

    def _aligned(self, x):
        num_axes = len(self.shape)
        loc, log_scale = (aligned(leaf, num_axes, x.ndim - num_axes) for leaf in (self.loc, self.log_scale))
        axes = tuple(range(num_axes))
        return loc, log_scale, jnp.sum(jnp.broadcast_to(log_scale, x.shape), axis=axes)
