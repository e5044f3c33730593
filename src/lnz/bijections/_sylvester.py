import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import as_floats
from ..nets import dense
from ..numerics import aligned, bend_slope, excess_of, slope_of, unbend
from ._bijection import AbstractBatchLastBijection, AbstractEuclideanMap
from ._linear import reflect
from ._planar import _check_least


class Sylvester(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = x + Q R tanh(S Q'x + b)`: bends along `m` directions at once, with R and S upper triangular.

    `log |det| = sum_i log(1 + R_ii S_ii tanh'((S Q'x + b)_i))`. The map is invertible while every `R_ii S_ii > -1`. So
    the diagonal of R is projected on every use, as `u` is in `lnz.bijections.Planar`, to keep `1 + R_ii S_ii` at least
    `min_slope`. `Q [dim, m]` is the first m columns of a product of reflections. With m reflections it reaches any
    subspace (the paper's orthogonal flow); more make no difference. `m = dim` with few reflections is its Householder
    flow.

    The inverse solves m scalar equations, from the last to the first, by Newton's method in a bracket to 4 units in the
    last place. Forward is the cheap direction.

    **Arguments:**

    - `reflections`: vectors `[k, dim]`.
    - `R`, `S`: `[m, m]`; entries below the diagonals are ignored.
    - `b`: `[m]`.
    - `min_slope`: the smallest factor by which the map may squeeze space along one of the directions.

    **Raises:** `ValueError` if `m > dim`.

    Source: van den Berg, Hasenclever, Tomczak and Welling (2018), section 3; arXiv:1803.05649. For the difference in Q
    see the field `reflections`.
    """

    reflections: Float[Array, "k dim"]
    """Q is the first m columns of the product of reflections along these vectors.

    The paper makes Q orthogonal by iteration to a tolerance; products of reflections are orthogonal to rounding. The
    two differ in the signs of columns, which R and S absorb.
    """
    R: Float[Array, "m m"]
    S: Float[Array, "m m"]
    b: Float[Array, " m"]
    min_slope: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, reflections, R, S, b, min_slope: float = 1e-3):
        self.reflections, self.b, self.min_slope = as_floats(reflections), as_floats(b), min_slope
        self.R, self.S = as_floats(R), as_floats(S)
        square = 2 * self.b.shape
        if self.reflections.ndim != 2 or self.b.ndim != 1 or self.R.shape != square or self.S.shape != square:
            raise ValueError(
                "`Sylvester(reflections, R, S, b)` needs shapes (k, dim), (m, m), (m, m) and (m,); got "
                f"{self.reflections.shape}, {self.R.shape}, {self.S.shape} and {self.b.shape}."
            )
        self.shape = self.reflections.shape[1:]

    def __check_init__(self):
        _check_least(self.min_slope, "Sylvester(min_slope=...)")
        # A tree of the same structure, such as a filter or a gradient, may hold other values in place of arrays.
        if isinstance(self.b, jax.Array) and self.b.shape[-1] > self.shape[0]:
            num, dim = self.b.shape[-1], self.shape[0]
            raise ValueError(f"`Sylvester`: {num} directions do not fit into vectors of length {dim}.")

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        R, S, slope = self._factors()
        s = dense(S, self._to_plane(x), self.b, 2)
        return x + self._from_plane(R, jnp.tanh(s), x), self._log_det(slope, s)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        R, S, slope = self._factors()
        s = self._solve(R, S, slope, dense(S, self._to_plane(y), self.b, 2))
        return y - self._from_plane(R, jnp.tanh(s), y), -self._log_det(slope, s)

    def _factors(self):
        """The constrained R and S `[m, m]`, and `1 + R_ii S_ii [m]`, each followed by the batch axes of R or S."""
        num_batch = max(self.R.ndim, self.S.ndim) - 2
        R, S = aligned(self.R, 2, num_batch), aligned(self.S, 2, num_batch)
        num = R.shape[0]
        eye = aligned(jnp.eye(num, dtype=R.dtype), 2, num_batch)
        above = aligned(jnp.triu(jnp.ones((num, num), R.dtype), 1), 2, num_batch)
        r, s = jnp.sum(R * eye, axis=0), jnp.sum(S * eye, axis=0)
        product = r * s
        slope = slope_of(product, self.min_slope)
        visible = s * s > jnp.finfo(s.dtype).tiny
        r = r + jnp.where(visible, excess_of(product, self.min_slope) / jnp.where(visible, s, 1), 0)
        return R * above + eye * r[None], S * above + eye * s[None], jnp.where(visible, slope, 1)

    def _to_plane(self, x):
        """`Q'x [m, *batch]`."""
        return reflect(self.reflections, x, inverse=True)[: self.b.shape[0]]

    def _from_plane(self, R, h, x):
        """`Q R h [dim, *batch]`."""
        mixed = dense(R, h, jnp.zeros(len(h), h.dtype), 2)
        return reflect(self.reflections, jnp.concatenate([mixed, jnp.zeros_like(x[len(h) :])]))

    def _log_det(self, slope, s):
        return jnp.sum(jnp.log(bend_slope(aligned(slope, 1, s.ndim - 1), s)), axis=0)

    def _solve(self, R, S, slope, target):
        """The s with `s + S R tanh(s) = target`, in which row i contains only s_i and the entries after it."""
        num_batch = R.ndim - 2
        above = aligned(jnp.triu(jnp.ones(R.shape[:2], R.dtype), 1), 2, num_batch)
        mixed = jnp.einsum("ij...,jk...->ik...", S, R) * above
        slope = jnp.broadcast_to(aligned(slope, 1, target.ndim - 1), target.shape)

        def row(h, inputs):
            i, others, slope_i, target_i = inputs
            s_i = unbend(slope_i, target_i - dense(others, h, jnp.zeros((), h.dtype), 1))
            return jax.lax.dynamic_update_index_in_dim(h, jnp.tanh(s_i), i, 0), s_i

        rows = (jnp.arange(len(target), dtype=jnp.int32), mixed, slope, target)
        return jax.lax.scan(row, jnp.zeros_like(target), rows, reverse=True)[1]
