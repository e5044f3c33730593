"""Bijections that reorder the entries of an array."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..numerics import aligned
from ..spaces import AbstractSpace, each_variable, joined
from ._bijection import AbstractBatchLastBijection


class Permutation(AbstractBatchLastBijection):
    """`y_i = x[order_i]`: reorders the variables of a vector, and with them the parts of a `Product`.

    **Arguments:**

    - `order`: the numbers 0 to n - 1 in any order, integers, which training does not change.
    - `space`: of x, a space of vectors.
    """

    is_affine: ClassVar[bool] = True
    order: Int[Array, " n"]
    space: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __init__(self, order: Int[Array, " n"], space: AbstractSpace):
        self.order, self.space, self.codomain = order, space, space
        # A traced order, as in a stack of layers, is unknown here. The codomain is then `space`: in the flows of
        # `lnz.flows`, each layer ends with all variables back in their places. The codomain is a field, so that it is
        # the same inside a compiled function, where every order is traced.
        if space.spaces and not isinstance(order, Tracer):
            variables = each_variable(space)
            self.codomain = joined(tuple(variables[i] for i in np.asarray(order).tolist()))

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return take(x, self.order), jnp.zeros(x.shape[1:], x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return take(y, jnp.argsort(self.order, axis=0)), jnp.zeros(y.shape[1:], y.dtype)


def take(x, order):
    """`x[order]` along the first axis; `order` is `[n]` or, if each example has its own, `[n, *batch]`."""
    if order.ndim == 1:
        return x[order]
    return jnp.take_along_axis(x, jnp.broadcast_to(aligned(order, 1, x.ndim - 1), x.shape), axis=0)


class Flip(AbstractBatchLastBijection):
    """`y_i = x[n - 1 - i]`: reverses the order of the variables, and of the parts of a `Product`."""

    is_affine: ClassVar[bool] = True
    space: AbstractSpace = eqx.field(static=True)

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    @property
    def codomain(self) -> AbstractSpace:
        return joined(each_variable(self.space)[::-1]) if self.space.spaces else self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return x[::-1], jnp.zeros(x.shape[1:], x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return y[::-1], jnp.zeros(y.shape[1:], y.dtype)
