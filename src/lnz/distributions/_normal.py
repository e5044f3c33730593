import math

import jax.numpy as jnp
import jax.random as jr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from .._density import AbstractDistribution, AbstractExponentialFamily, draw_then_score
from .._positive import loc_and_log_scale, loc_and_raw_tril, positive_tril
from .._register import register
from .._space import Euclidean


@register
class Normal(AbstractExponentialFamily):
    """Independent normals, `p(x) = prod_i exp(-(x_i - loc_i)^2 / (2 scale_i^2)) / (scale_i sqrt(2 pi))`.

    **Arguments:**

    - `loc`: means `[*shape]`.
    - `scale`: standard deviations, positive, of the same shape or a number.

    Log-densities are in nats with respect to Lebesgue measure. The field is `log_scale`, so that
    training keeps the scale positive.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Normal")

    @classmethod
    def standard(cls, num: int | tuple[int, ...]) -> "Normal":
        """Mean zero, variance one, on `Euclidean(num)`."""
        return cls(jnp.zeros(Euclidean(num).shape), 1.0)

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def natural(self) -> Float[Array, " statistics"]:
        precision = jnp.exp(-2 * self.log_scale)
        return jnp.concatenate([(precision * self.loc).reshape(-1), (-0.5 * precision).reshape(-1)])

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        x = x.astype(self.loc.dtype).reshape(-1)
        return jnp.concatenate([x, x**2])

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(0.5 * (self.loc / self.scale) ** 2 + self.log_scale)

    def log_base(self, x: Array) -> Float[Array, ""]:
        return jnp.asarray(-0.5 * math.log(2 * math.pi) * self.loc.size, self.loc.dtype)

    def with_natural(self, natural: Float[Array, " statistics"]) -> "Normal":
        first, second = jnp.split(natural, 2)
        variance = -0.5 / second
        shape = self.loc.shape
        return type(self)((variance * first).reshape(shape), jnp.sqrt(variance).reshape(shape))

    def with_mean(self, mean: Float[Array, " statistics"]) -> "Normal":
        first, second = jnp.split(mean, 2)
        shape = self.loc.shape
        return type(self)(first.reshape(shape), jnp.sqrt(second - first**2).reshape(shape))

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        z = (x.astype(self.loc.dtype) - self.loc) / self.scale
        return -jnp.sum(0.5 * z**2 + self.log_scale + 0.5 * math.log(2 * math.pi))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = jr.normal(key, (*shape, *self.loc.shape), self.loc.dtype)
        return _broadcast(self.loc, noise) + _broadcast(self.scale, noise) * noise

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _broadcast(parameter: Array, like: Array) -> Array:
    return jnp.broadcast_to(parameter, like.shape)


@register
class MultivariateNormal(AbstractDistribution):
    """`N(loc, L L')` with a full covariance given by its Cholesky factor L.

    **Arguments:**

    - `loc`: mean `[n]`.
    - `scale_tril`: lower-triangular `[n, n]` with a positive diagonal; what is above it is ignored.

    Log-densities are in nats with respect to Lebesgue measure. The field `raw_tril` holds the logarithm of
    the diagonal, so that training keeps the covariance positive definite.
    """

    loc: Float[Array, " n"]
    raw_tril: Float[Array, "n n"]

    def __init__(self, loc, scale_tril):
        advice = ": pass the Cholesky factor of the covariance, `jnp.linalg.cholesky(covariance)`"
        self.loc, self.raw_tril = loc_and_raw_tril(loc, scale_tril, "MultivariateNormal", "scale_tril", advice)

    @classmethod
    def from_covariance(cls, loc, covariance) -> "MultivariateNormal":
        return cls(loc, jnp.linalg.cholesky(jnp.asarray(covariance)))

    @property
    def scale_tril(self) -> Float[Array, "n n"]:
        return positive_tril(self.raw_tril)

    @property
    def covariance(self) -> Float[Array, "n n"]:
        return self.scale_tril @ self.scale_tril.T

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        z = solve_triangular(self.scale_tril, x.astype(self.loc.dtype) - self.loc, lower=True)
        log_det = jnp.sum(jnp.diagonal(self.raw_tril))
        return -0.5 * jnp.dot(z, z) - log_det - 0.5 * math.log(2 * math.pi) * self.loc.shape[0]

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = jr.normal(key, (*shape, *self.loc.shape), self.loc.dtype)
        correlated = noise @ self.scale_tril.T
        return _broadcast(self.loc, correlated) + correlated

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)
