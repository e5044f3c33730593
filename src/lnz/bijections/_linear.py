"""Linear maps with known determinants: triangular matrices, their products, and reflections."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..modules import as_floats, is_false
from ..nets import dense
from ..numerics import aligned, loc_and_raw_tril, over_batch, positive_tril
from ..spaces import Euclidean
from ._bijection import AbstractBatchLastBijection, AbstractEuclideanMap
from ._permutation import take


class TriangularAffine(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = L x + loc` with a lower triangular L whose diagonal is positive: mixes the dimensions.

    **Arguments:**

    - `loc`: shift `[n]`.
    - `tril`: L, `[n, n]`, with zeros above the diagonal. The field `raw_tril` holds the logarithm of the diagonal, so
      that training keeps the map invertible.
    """

    is_affine: ClassVar[bool] = True
    loc: Float[Array, " n"]
    raw_tril: Float[Array, "n n"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, loc, tril):
        self.loc, self.raw_tril = loc_and_raw_tril(loc, tril, "TriangularAffine", "tril")
        self.shape = self.loc.shape

    @property
    def tril(self) -> Float[Array, "n n ..."]:
        """L, followed by the batch axes of the parameters, if any."""
        return positive_tril(self.raw_tril)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return dense(self.tril, x, self.loc, 2), _sum_of_logs(self._log_diagonal, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        x = _solve_triangular(self.tril, y - aligned(self.loc, 1, y.ndim - 1), lower=True, unit_diagonal=False)
        return x, -_sum_of_logs(self._log_diagonal, y)

    @property
    def _log_diagonal(self) -> Float[Array, "n ..."]:
        return jnp.moveaxis(jnp.diagonal(self.raw_tril), -1, 0)


class LULinear(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = W x + loc`, `W = P L U`, for any invertible matrix W; `log |det W| = sum_i log |U_ii|`.

    L is unit lower triangular. U is upper triangular with the diagonal `signs_i exp(log_diagonal_i)`, so that training
    keeps W invertible. P and the signs are not trainable. Both directions cost two triangular products or solves.

    **Arguments:**

    - `loc`: shift `[n]`.
    - `matrix`: the initial W, `[n, n]`, such as a random rotation.

    **Raises:** `ValueError` if the matrix is singular or the shapes do not fit.

    Source: Kingma and Dhariwal (2018), section 3.2, LU decomposition; arXiv:1807.03039.
    """

    is_affine: ClassVar[bool] = True
    loc: Float[Array, " n"]
    lower: Float[Array, "n n"]  # its strict lower triangle is used
    upper: Float[Array, "n n"]  # its strict upper triangle is used
    log_diagonal: Float[Array, " n"]
    signs: Int[Array, " n"]
    order: Int[Array, " n"]  # (L U x)[order[i]] is y[i]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, loc, matrix):
        self.loc = as_floats(loc)
        self.shape = self.loc.shape
        matrix = jnp.asarray(matrix, self.loc.dtype)
        if self.loc.ndim != 1 or matrix.shape != 2 * self.loc.shape:
            raise ValueError(
                f"`LULinear(loc, matrix)` needs loc of shape (n,) and matrix of shape (n, n); got {self.loc.shape} and "
                f"{matrix.shape}."
            )
        factors, _, rows = jax.lax.linalg.lu(matrix)
        diagonal = jnp.diagonal(factors)
        if is_false(jnp.all(diagonal != 0)):
            raise ValueError("`LULinear(matrix=...)` must be invertible; got a singular matrix.")
        self.lower, self.upper = jnp.tril(factors, -1), jnp.triu(factors, 1)
        self.log_diagonal = jnp.log(jnp.abs(diagonal))
        self.signs = jnp.where(diagonal < 0, -1, 1).astype(jnp.int32)
        self.order = jnp.argsort(rows).astype(jnp.int32)

    @property
    def matrix(self) -> Float[Array, "n n"]:
        """W."""
        lower, upper = self._factors()
        return (lower @ upper)[self.order]

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        num_batch = x.ndim - 1
        lower, upper = self._factors()
        zero = jnp.zeros(len(x), x.dtype)
        y = dense(lower, dense(upper, x, zero, 2), zero, 2)
        return take(y, self.order) + aligned(self.loc, 1, num_batch), _sum_of_logs(self.log_diagonal, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        num_batch = y.ndim - 1
        lower, upper = self._factors()
        x = take(y - aligned(self.loc, 1, num_batch), jnp.argsort(self.order, axis=0))
        x = _solve_triangular(lower, x, lower=True, unit_diagonal=True)
        return _solve_triangular(upper, x, lower=False, unit_diagonal=False), -_sum_of_logs(self.log_diagonal, y)

    def _factors(self):
        """L and U, `[n, n]` or `[n, n, *batch]`."""
        num = self.loc.shape[0]
        eye = jnp.eye(num, dtype=self.lower.dtype)
        below = jnp.tril(jnp.ones_like(eye), -1)
        num_batch = max(self.upper.ndim - 2, self.log_diagonal.ndim - 1, self.signs.ndim - 1)
        diagonal = self.signs.astype(self.upper.dtype)
        diagonal = aligned(diagonal, 1, num_batch) * jnp.exp(aligned(self.log_diagonal, 1, num_batch))
        eye_there = aligned(eye, 2, num_batch)
        upper = aligned(self.upper, 2, num_batch) * aligned(below.T, 2, num_batch) + eye_there * diagonal[None]
        own = self.lower.ndim - 2
        return self.lower * aligned(below, 2, own) + aligned(eye, 2, own), upper


def _sum_of_logs(log_diagonal, x):
    """The log-determinant of a triangular map, `[*batch]`, of `log_diagonal [n, *some batch]` and `x [n, *batch]`."""
    return jnp.broadcast_to(jnp.sum(aligned(log_diagonal, 1, x.ndim - 1), axis=0), x.shape[1:])


def _solve_triangular(W, y, *, lower, unit_diagonal):
    def solve(W, y):
        return jax.scipy.linalg.solve_triangular(W, y, lower=lower, unit_diagonal=unit_diagonal)

    if W.ndim == 2:
        return solve(W, y.reshape(y.shape[0], -1)).reshape(y.shape)
    W = aligned(W, 2, y.ndim - 1)
    W = jnp.broadcast_to(W, (*W.shape[:2], *y.shape[1:]))
    both = jnp.concatenate([W, y[None]])  # one array, so that one `over_batch` handles both
    return over_batch(lambda both: solve(both[:-1], both[-1]), y.ndim - 1)(both)


class InvertibleConv(AbstractBatchLastBijection):
    """A 1x1 convolution of images `[channels, height, width]`: the same linear map of the channels at every pixel.

    `log |det| = height width log |det W|`.

    **Arguments:**

    - `linear`: the map of the channels, `lnz.bijections.LULinear`.
    - `height`, `width`: of the image.

    Source: Kingma and Dhariwal (2018), section 3.2; arXiv:1807.03039.
    """

    linear: LULinear
    height: int = eqx.field(static=True)
    width: int = eqx.field(static=True)

    @property
    def domain(self) -> Euclidean:
        return Euclidean((*self.linear.shape, self.height, self.width))

    @property
    def codomain(self) -> Euclidean:
        return self.domain

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        y, log_det = self.linear.forward_batch_last(x)  # it sees the pixels as a batch
        return y, jnp.sum(log_det, axis=(0, 1))

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        x, log_det = self.linear.inverse_batch_last(y)
        return x, jnp.sum(log_det, axis=(0, 1))


class Householder(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = H_1 ... H_k x`, `H_i = I - 2 v_i v_i' / |v_i|^2`: rotations and reflections, which keep volume.

    Any orthogonal matrix with n rows is such a product of at most n reflections. A zero vector reflects nothing.

    **Arguments:**

    - `vectors`: `[k, n]`, of any length but zero.

    Source: Tomczak and Welling (2016), Householder flow; arXiv:1611.09630.
    """

    is_affine: ClassVar[bool] = True
    vectors: Float[Array, "k n"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, vectors):
        self.vectors = as_floats(vectors)
        if self.vectors.ndim != 2:
            raise ValueError(f"`Householder(vectors)` needs an array of shape (k, n); got {self.vectors.shape}.")
        self.shape = self.vectors.shape[1:]

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return reflect(self.vectors, x), jnp.zeros(x.shape[1:], x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return reflect(self.vectors, y, inverse=True), jnp.zeros(y.shape[1:], y.dtype)


def reflect(vectors: Array, x: Array, inverse: bool = False) -> Array:
    """`H_1 ... H_k x` or its inverse, `H_k ... H_1 x`, for `x [n, *batch]` and `vectors [k, n]` or `[k, n, *batch]`."""
    square = jnp.sum(vectors * vectors, axis=1, keepdims=True)
    visible = square > jnp.finfo(x.dtype).tiny
    units = jnp.where(visible, vectors / jnp.sqrt(jnp.where(visible, square, 1)), 0)

    def step(x, v):
        along = dense(v, x, jnp.zeros((), x.dtype), 1)
        return x - 2 * aligned(v, 1, x.ndim - 1) * along[None], None

    return jax.lax.scan(step, x, units, reverse=not inverse)[0]
