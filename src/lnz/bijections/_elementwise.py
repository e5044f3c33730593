import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import aligned
from ..spaces import AbstractSpace, Euclidean, each_variable
from ._bijection import AbstractBatchLastBijection, AbstractSelfMap
from ._transformers import AbstractTransformer, check_fits, check_raw


class Elementwise(AbstractBatchLastBijection, AbstractSelfMap):
    """`y_i = f(x_i; raw_i)`: maps each variable by its own member of one family, such as splines.

    **Arguments:**

    - `transformer`: the family, such as `lnz.bijections.SplineTransformer()`.
    - `raw`: `[num_params, *shape]`, zeros for the identity.
    - `space`: the space of an example, by default `lnz.Euclidean(shape)`. The family must map it onto itself.

    **Raises:** `ValueError` if the family does not, such as a spline on [-3, 3] for `lnz.Interval(1)`.
    """

    transformer: AbstractTransformer
    raw: Float[Array, "params *shape"]
    space: AbstractSpace = eqx.field(static=True)

    def __init__(self, transformer: AbstractTransformer, raw, space: AbstractSpace | None = None):
        self.transformer, self.raw = transformer, jnp.asarray(raw)
        self.space = Euclidean(self.raw.shape[1:]) if space is None else space

    def __check_init__(self):
        check_fits(self.transformer, each_variable(self.space), "Elementwise(transformer, raw, space)")

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.forward, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(self.transformer.inverse, y)

    def _apply(self, function, x):
        num = len(self.space.shape)
        raw = check_raw(self.transformer, self.raw, x, num, "Elementwise(transformer, raw)")
        y, log_derivative = function(aligned(raw, 1 + num, x.ndim - num), x)
        # For affine functions it depends on the parameters alone, whose batch axes may have length 1.
        return y, jnp.sum(jnp.broadcast_to(log_derivative, y.shape), axis=tuple(range(num)))
