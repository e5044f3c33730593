from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._batch_last import is_batch_last, over_batch
from .._bijection import AbstractBatchLastBijection
from .._register import register
from .._space import AbstractSpace
from ._transformers import AbstractTransformer


@register
class Coupling(AbstractBatchLastBijection):
    """`y_a = x_a`, `y_b = f(x_b; net(x_a))`: the first variables choose what happens to the others.

    Both directions cost one pass of the network.

    **Arguments:**

    - `space`: of vectors `[n]`; where its parts differ, the transformer must fit the last n - num_kept.
    - `num_kept`: how many variables, the first, stay as they are.
    - `net`: from `[num_kept]` to raw numbers `[transformer.num_params, n - num_kept]`, such as `lnz.nets.MLP`.
    - `transformer`: the family of functions, such as `lnz.bijections.AffineTransformer()`.

    Source: Dinh, Krueger and Bengio (2015), section 3.2; arXiv:1410.8516.
    """

    space: AbstractSpace = eqx.field(static=True)
    num_kept: int = eqx.field(static=True)
    net: Callable
    transformer: AbstractTransformer

    def __check_init__(self):
        if len(self.space.shape) != 1 or not 0 < self.num_kept < self.space.shape[0]:
            raise ValueError(
                f"`Coupling(space, num_kept)` needs vectors of at least two variables, some of which are kept; got "
                f"{self.space} and num_kept={self.num_kept}."
            )

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    @property
    def codomain(self) -> AbstractSpace:
        return self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.forward, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.inverse, y)

    def _apply(self, function, x):
        kept, changed = x[: self.num_kept], x[self.num_kept :]
        changed, log_derivative = function(call_net(self.net, kept), changed)
        return jnp.concatenate([kept, changed]), jnp.sum(log_derivative, axis=0)


def call_net(net: Callable, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Any network of single examples, Equinox's too, on `[n, *batch]`."""
    return net(x) if is_batch_last(net) else over_batch(net, x.ndim - 1)(x)
