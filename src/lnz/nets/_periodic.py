from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..numerics import aligned, call_net
from ._layers import MaskedMLP
from ._net import AbstractNet, InShape


def _features(is_angle: Int[Array, " n"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`[2 n, *batch]`: the cosine and sine of an angle, or a number and zero, variable by variable."""
    angle = aligned(is_angle, 1, x.ndim - 1) == 1
    turned = jnp.where(angle, x, 0)
    pair = [jnp.where(angle, jnp.cos(turned), x), jnp.sin(turned)]
    return jnp.stack(pair, axis=1).reshape(2 * x.shape[0], *x.shape[1:])


class PeriodicMLP(AbstractNet):
    """`net(features(x))`: sees angles as their cosine and sine, so it is periodic in them.

    **Arguments:**

    - `net`: from `[2 n]`, two features per variable: the cosine and sine of an angle, or another number and zero.
    - `is_angle`: 0 or 1 for each of the n inputs, integers, which training does not change.
    """

    net: Callable
    is_angle: Int[Array, " n"]

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.is_angle.shape[0],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return call_net(self.net, _features(self.is_angle, x))


class PeriodicMaskedMLP(AbstractNet):
    """A masked network that sees angles as their cosine and sine; output `[:, i]` sees the variables before i.

    **Arguments:**

    - `net`: a masked network of the `2 n` features. Every second output is used; it sees both features of all earlier
      variables.
    - `is_angle`: as for `PeriodicMLP`.
    """

    net: MaskedMLP
    is_angle: Int[Array, " n"]

    @property
    def num(self) -> int:
        return self.net.num // 2

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.num,),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.net.call_batch_last(_features(self.is_angle, x))[:, ::2]
