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
    """`y_i = x[order_i]`: exchanges variables of a vector, and with them the parts of a `Product`.

    **Arguments:**

    - `order`: the numbers 0 to n - 1 in any order. They are no parameters: training leaves them alone.
    - `space`: of x, vectors.
    """

    affine: ClassVar[bool] = True
    order: Int[Array, " n"]
    space: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __init__(self, order: Int[Array, " n"], space: AbstractSpace):
        self.order, self.space, self.codomain = order, space, space
        # An order that is traced, as for each layer of a stack, is not known: the variables are then back in their
        # places by the end of the layer, as `lnz.flows` arranges it. The space is a field, so that it is the same
        # inside a compiled function, where any order is traced.
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
    """`x[order]` along the first axis; `order [n]` or, for each example its own, `[n, *batch]`."""
    if order.ndim == 1:
        return x[order]
    return jnp.take_along_axis(x, jnp.broadcast_to(aligned(order, 1, x.ndim - 1), x.shape), axis=0)


class Flip(AbstractBatchLastBijection):
    """`y_i = x[n - 1 - i]`: variables, and the parts of a `Product`, in reverse order."""

    affine: ClassVar[bool] = True
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
