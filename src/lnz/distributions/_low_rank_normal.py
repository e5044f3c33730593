import math

import jax.numpy as jnp
import jax.random as jr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, draw_then_score
from ..numerics import excess, loc_and_log_scale
from ..spaces import Euclidean
from ._closed_form_kl import register_kl
from ._normal import MultivariateNormal, Normal, square_of


class LowRankNormal(AbstractDistribution):
    """`N(loc, F F' + diag(scale^2))`: n variables that covary through k common causes, in work that grows as `n k^2`.

    `x = loc + F u + scale * noise` with k standard normals `u`: factor analysis. As a posterior it lies between
    `Normal` and `MultivariateNormal`. Inverse and determinant come from a QR decomposition of the matrix
    `[F / scale; I]`, with `n + k` rows. The textbook form of Woodbury's identity squares this matrix, which would lose
    half of the digits where the scales are small.

    **Arguments:**

    - `loc`: mean `[n]`.
    - `factor`: F, `[n, k]`. Start it small but not at zero, where its expected gradient is zero.
    - `scale`: standard deviations of the noise, positive, `[n]` or a number.

    Log-densities are in nats with respect to Lebesgue measure. The field is `log_scale`, which keeps the scale positive
    in training.

    **Raises:** `ValueError` if shapes do not fit or a scale is not positive.

    Source: Woodbury (1950); as a variational posterior, Ong, Nott and Smith (2018); arXiv:1701.03208.
    """

    loc: Float[Array, " n"]
    factor: Float[Array, "n k"]
    log_scale: Float[Array, " n"]

    def __init__(self, loc, factor, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "LowRankNormal")
        self.factor = jnp.asarray(factor, self.loc.dtype)
        if self.loc.ndim != 1 or self.factor.ndim != 2 or 0 in self.factor.shape or len(self.factor) != len(self.loc):
            raise ValueError(
                "`LowRankNormal(loc, factor, scale)` needs loc of shape (n,) and factor of shape (n, k); got "
                f"{self.loc.shape} and {self.factor.shape}."
            )

    @property
    def scale(self) -> Float[Array, " n"]:
        return jnp.exp(self.log_scale)

    @property
    def covariance(self) -> Float[Array, "n n"]:
        return self.factor @ self.factor.T + jnp.diag(self.scale**2)

    def closed_form_mean(self) -> Float[Array, " n"]:
        """`loc`."""
        return self.loc

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def reparameterised(self) -> bool:
        return True

    def half_log_det(self) -> Float[Array, ""]:
        """`log det(covariance) / 2`."""
        return self._solve()[1]

    def whiten(self, columns: Float[Array, "n m"]) -> Float[Array, "rows m"]:
        """A matrix W with `W'W = columns' covariance^-1 columns`."""
        # The part of the columns that the causes do not explain, by projection: a difference of squares loses digits.
        q, _ = self._solve()
        padded = jnp.pad(jnp.exp(-self.log_scale)[:, None] * columns, ((0, self.factor.shape[1]), (0, 0)))
        return padded - q @ (q.T @ padded)

    def _solve(self) -> tuple[Float[Array, "rows k"], Float[Array, ""]]:
        """An orthonormal basis of the columns of `[F / scale; I]`, and half the log-determinant of the covariance."""
        identity = jnp.eye(self.factor.shape[1], dtype=self.loc.dtype)
        q, r = jnp.linalg.qr(jnp.concatenate([jnp.exp(-self.log_scale)[:, None] * self.factor, identity]))
        return q, jnp.sum(self.log_scale) + jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r))))

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x).astype(self.loc.dtype)
        square = square_of(lambda rest: self.whiten(rest[:, None]), x - self.loc)
        return -0.5 * square - self.half_log_det() - 0.5 * math.log(2 * math.pi) * self.loc.shape[0]

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        n, k = self.factor.shape
        noise, causes = jnp.split(jr.normal(key, (*shape, n + k), self.loc.dtype), [n], axis=-1)
        scale, loc = (jnp.broadcast_to(part, noise.shape) for part in (self.scale, self.loc))
        return loc + scale * noise + causes @ self.factor.T

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


@register_kl(LowRankNormal, Normal)
def _kl_low_rank_diagonal(q: LowRankNormal, p: Normal) -> Float[Array, ""]:
    inverse_scale = jnp.exp(-p.log_scale)
    squares = jnp.sum(((q.loc - p.loc) * inverse_scale) ** 2) + jnp.sum((inverse_scale[:, None] * q.factor) ** 2)
    ratio = jnp.sum(excess(2 * (q.log_scale - p.log_scale)))
    return 0.5 * (squares + ratio) - (q.half_log_det() - jnp.sum(q.log_scale))


@register_kl(LowRankNormal, MultivariateNormal)
def _kl_low_rank_full(q: LowRankNormal, p: MultivariateNormal) -> Float[Array, ""]:
    whitened = solve_triangular(p.scale_tril, _columns(q, p), lower=True)
    return _from_whitened(whitened, q, _half_log_det(p))


@register_kl(Normal, LowRankNormal)
@register_kl(MultivariateNormal, LowRankNormal)
@register_kl(LowRankNormal, LowRankNormal)
def _kl_to_low_rank(q: Normal | MultivariateNormal | LowRankNormal, p: LowRankNormal) -> Float[Array, ""]:
    return _from_whitened(p.whiten(_columns(q, p)), q, p.half_log_det())


def _columns(
    q: Normal | MultivariateNormal | LowRankNormal, p: MultivariateNormal | LowRankNormal
) -> Float[Array, "n columns"]:
    """The difference of the means beside a square root of q's covariance."""
    distance = (q.loc - p.loc)[:, None]
    if isinstance(q, MultivariateNormal):
        return jnp.concatenate([distance, q.scale_tril], axis=1)
    factors = [q.factor] if isinstance(q, LowRankNormal) else []
    return jnp.concatenate([distance, jnp.diag(q.scale), *factors], axis=1)


def _half_log_det(q: Normal | MultivariateNormal | LowRankNormal) -> Float[Array, ""]:
    if isinstance(q, LowRankNormal):
        return q.half_log_det()
    return jnp.sum(q.log_scale if isinstance(q, Normal) else jnp.diagonal(q.raw_tril))


def _from_whitened(
    whitened: Array, q: Normal | MultivariateNormal | LowRankNormal, half_log_det: Float[Array, ""]
) -> Float[Array, ""]:
    return 0.5 * (jnp.sum(whitened**2) - q.loc.shape[0]) + half_log_det - _half_log_det(q)
