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

    `log |det| = sum_i log(1 + R_ii S_ii tanh'((S Q'x + b)_i))`, and the map is invertible while every `R_ii S_ii > -1`:
    the diagonal of R is projected on every use as `u` is in `lnz.bijections.Planar`, such that `1 + R_ii S_ii` is at
    least `min_slope`. `Q [dim, m]` has orthonormal columns, the first m of a product
    of reflections. With m reflections any subspace can be reached; more make no difference. So m reflections are the
    paper's orthogonal flow, and `m = dim` with few reflections its Householder flow.

    The inverse goes back through m scalar equations, from the last to the first, each solved by Newton's
    method in a bracket to 4 units in the last place. Forward is the cheap direction.

    **Arguments:**

    - `reflections`: vectors `[k, dim]`.
    - `R`, `S`: `[m, m]`; what is below the diagonals is ignored.
    - `b`: `[m]`.
    - `min_slope`: the least factor by which the map may squeeze the space along one of the directions.

    **Raises:** `ValueError` if `m > dim`.

    Source: van den Berg, Hasenclever, Tomczak and Welling (2018), section 3; arXiv:1803.05649. They make Q
    orthogonal by iteration to a tolerance; products of reflections are orthogonal to rounding, and signs of columns, by
    which the two differ, are taken up by R and S.
    """

    reflections: Float[Array, "k dim"]
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
        # A tree of the same form, such as a filter or a gradient, has other things in place of arrays.
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
        """R and S `[m, m]`, constrained, and `1 + R_ii S_ii [m]`; all with the batch axes that any of them has."""
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
        """The s with `s + S R tanh(s) = target`: row i has only s_i and those after it."""
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
