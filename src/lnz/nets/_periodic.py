import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..numerics import aligned
from ._layers import MLP, MaskedMLP
from ._net import AbstractNet, InShape


def _features(is_angle: Int[Array, " n"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`[2 n, *batch]`: the cosine and sine of an angle, or a number and zero, variable by variable."""
    angle = aligned(is_angle, 1, x.ndim - 1) == 1
    turned = jnp.where(angle, x, 0)
    pair = [jnp.where(angle, jnp.cos(turned), x), jnp.sin(turned)]
    return jnp.stack(pair, axis=1).reshape(2 * x.shape[0], *x.shape[1:])


class PeriodicMLP(AbstractNet):
    """A network that sees angles as their cosine and sine, so that it is periodic in them: `net(features(x))`.

    **Arguments:**

    - `net`: from `[2 n]`, two features a variable (of a number that is no angle, itself and zero).
    - `is_angle`: for each of the n inputs 0 or 1, integers, which training leaves alone.
    """

    net: MLP
    is_angle: Int[Array, " n"]

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.is_angle.shape[0],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.net.call_batch_last(_features(self.is_angle, x))


class PeriodicMaskedMLP(AbstractNet):
    """A masked network that sees angles as their cosine and sine; output `[:, i]` sees the variables before i.

    **Arguments:**

    - `net`: a masked network of `2 n` variables, those of the features; of its outputs every second is used, which sees
      both features of all earlier variables.
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
