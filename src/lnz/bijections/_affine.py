from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._batch_last import aligned
from .._bijection import AbstractBatchLastBijection
from .._positive import loc_and_log_scale, loc_and_raw_tril, positive_tril
from .._register import register
from .._space import Euclidean


@register
class Affine(AbstractBatchLastBijection):
    """`y = scale * x + loc`, element by element; `Affine(1.0, 2.0)` is `y = 2 x + 1`.

    **Arguments:**

    - `loc`: shift `[*shape]`.
    - `scale`: positive factors of the same shape or a number. The field is `log_scale`.
    """

    affine: ClassVar[bool] = True
    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    shape: tuple[int, ...] = eqx.field(static=True)  # of one example; arrays may have axes of layers or batches too

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Affine")
        self.shape = self.loc.shape

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.shape)

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


@register
class TriangularAffine(AbstractBatchLastBijection):
    """`y = L x + loc` with L lower triangular and its diagonal positive: mixes the dimensions.

    **Arguments:**

    - `loc`: shift `[n]`.
    - `tril`: `[n, n]`; what is above the diagonal is ignored. The field `raw_tril` holds the logarithm of the
      diagonal, so that training keeps the map invertible.
    """

    affine: ClassVar[bool] = True
    batch_last: ClassVar[bool] = False  # of its own arrays, which are taken one example at a time
    loc: Float[Array, " n"]
    raw_tril: Float[Array, "n n"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, loc, tril):
        self.loc, self.raw_tril = loc_and_raw_tril(loc, tril, "TriangularAffine", "tril")
        self.shape = self.loc.shape

    @property
    def tril(self) -> Float[Array, "n n"]:
        return positive_tril(self.raw_tril)

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.shape)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        num_batch = x.ndim - 1
        y = jnp.tensordot(self.tril, x, 1) + aligned(self.loc, 1, num_batch)
        return y, jnp.broadcast_to(self._log_det, x.shape[1:])

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        flat = (y - aligned(self.loc, 1, y.ndim - 1)).reshape(y.shape[0], -1)
        x = jax.scipy.linalg.solve_triangular(self.tril, flat, lower=True)
        return x.reshape(y.shape), jnp.broadcast_to(-self._log_det, y.shape[1:])

    @property
    def _log_det(self) -> Float[Array, ""]:
        return jnp.sum(jnp.diagonal(self.raw_tril))
