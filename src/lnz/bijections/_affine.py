from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import Frozen, replace
from ..numerics import aligned, held_apart, loc_and_log_scale
from ._bijection import AbstractBatchLastBijection, AbstractEuclideanMap


class Affine(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = scale * x + loc`, element by element; `Affine(1.0, 2.0)` is `y = 2 x + 1`.

    In `lnz.Transformed(lnz.Normal.standard(3), lnz.bijections.Affine(1.0, 2.0))`, the two numbers apply to every
    variable.

    **Arguments:**

    - `loc`: shift `[*shape]`. The field is `offset`.
    - `scale`: positive factors of the same shape, or one number. The field is `log_scale`.
    - `origin`: a second shift `[*shape]`, frozen: `y = (scale * x + offset) + origin`. It holds the larger part of a
      shift that needs more digits than one float has. `lnz.flows.standardise` makes it, and `lnz.local` uses it. The
      property `loc` is the sum of both shifts.

    **Raises:** `ValueError` for shapes that do not fit, and for a scale that is not positive.
    """

    is_affine: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True
    offset: Float[Array, "*shape"]  # loc without the origin
    log_scale: Float[Array, "*shape"]
    origin: Frozen | None
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, loc, scale, origin=None):
        self.offset, self.log_scale = loc_and_log_scale(loc, scale, "Affine")
        self.shape = self.offset.shape
        self.origin = None
        if origin is not None:
            origin = jnp.asarray(origin, self.offset.dtype)
            if origin.shape != self.shape:
                raise ValueError(
                    f"`Affine(loc, scale, origin)` needs an origin of the shape of loc, {self.shape}; got "
                    f"{origin.shape}."
                )
            self.origin = Frozen(origin)

    def for_each_of(self, shape: tuple[int, ...]) -> "Affine":
        """This map of single numbers, extended to arrays of this shape, with separate parameters for each entry."""
        offset, log_scale = (jnp.broadcast_to(leaf, shape) for leaf in (self.offset, self.log_scale))
        origin = None if self.origin is None else Frozen(jnp.broadcast_to(self.origin.value, shape))
        return replace(self, offset=offset, log_scale=log_scale, origin=origin, shape=shape)

    @property
    def loc(self) -> Float[Array, "*shape"]:
        """The whole shift, including the origin, rounded to one float."""
        return self.offset if self.origin is None else self.offset + self.origin.value

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    def origins(self) -> tuple[Any, ...]:
        """The array of the origin, if there is one."""
        return () if self.origin is None else (self.origin.value,)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        offset, log_scale, log_det = self._aligned(x)
        y = jnp.exp(log_scale) * x + offset
        return y if self.origin is None else y + self._origin(y), log_det

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        offset, log_scale, log_det = self._aligned(y)
        if self.origin is not None:  # first, because the difference of two nearby floats is exact
            y = y - self._origin(y)
        return (y - offset) * jnp.exp(-log_scale), -log_det

    def _origin(self, x):
        assert self.origin is not None
        return aligned(held_apart(self.origin.value), len(self.shape), x.ndim - len(self.shape))

    def _aligned(self, x):
        num_axes = len(self.shape)
        offset, log_scale = (aligned(leaf, num_axes, x.ndim - num_axes) for leaf in (self.offset, self.log_scale))
        axes = tuple(range(num_axes))
        return offset, log_scale, jnp.sum(jnp.broadcast_to(log_scale, x.shape), axis=axes)
