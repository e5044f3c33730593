from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import call_net
from ..spaces import AbstractSpace, each_variable
from ._bijection import AbstractBatchLastBijection, AbstractSelfMap
from ._transformers import AbstractTransformer, check_fits, check_raw


class Coupling(AbstractBatchLastBijection, AbstractSelfMap):
    """`y_a = x_a`, `y_b = f(x_b; net(x_a))`: the first variables determine how the others are transformed.

    Both directions cost one pass of the network.

    **Arguments:**

    - `space`: of vectors `[n]`, or of images `[channels, height, width]`, whose channels take the place of variables.
    - `num_kept`: how many variables (or channels) stay unchanged, counted from the first.
    - `net`: from `[num_kept]` to raw numbers `[transformer.num_params, n - num_kept]`, such as `lnz.nets.MLP`. For
      images, both have the further axes `[height, width]`, as in `lnz.nets.ConvNet`.
    - `transformer`: the family of functions, such as `lnz.bijections.AffineTransformer()`. It must fit the spaces of
      the last n - num_kept variables.

    **Raises:** `ValueError` if the transformer leaves the space of a variable; when called, if the network returns
    another shape.

    Source: Dinh, Krueger and Bengio (2015), section 3.2; arXiv:1410.8516.
    """

    space: AbstractSpace = eqx.field(static=True)
    num_kept: int = eqx.field(static=True)
    net: Callable
    transformer: AbstractTransformer

    def __check_init__(self):
        if not self.space.shape or not 0 < self.num_kept < self.space.shape[0]:
            raise ValueError(
                "`Coupling(space, num_kept)` needs at least two variables (or channels) and must keep some but not all "
                f"of them; got {self.space} and num_kept={self.num_kept}."
            )
        changed = each_variable(self.space)[self.num_kept :]
        check_fits(self.transformer, changed, "Coupling(space, num_kept, net, transformer)")

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.forward, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.inverse, y)

    def _apply(self, function, x):
        kept, changed = x[: self.num_kept], x[self.num_kept :]
        num_axes = len(self.space.shape)
        raw = check_raw(self.transformer, call_net(self.net, kept, num_axes), changed, num_axes, "Coupling(net=...)")
        changed, log_derivative = function(raw, changed)
        return jnp.concatenate([kept, changed]), jnp.sum(log_derivative, axis=tuple(range(num_axes)))
