"""Likelihoods of counts, stable from rare events to millions.

The log-probability of a large count is a small difference of large numbers. So both distributions take Stirling's
formula out by hand and add its remainder, `stirling_error`.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractDistribution, AbstractExponentialFamily, draw_then_score
from ..modules import as_floats, is_false
from ..numerics import excess, softplus, stirling_error
from ..spaces import Counts
from ._closed_form_kl import register_kl

# Draws at larger rates overflow 32 bits.
_LARGEST_RATE = 2.0**30


class Poisson(AbstractExponentialFamily):
    """Independent counts of events, `p(x) = prod_i rate_i^x_i exp(-rate_i) / x_i!`.

    Mean and variance are equal; for counts that spread more, use `NegativeBinomial`.

    **Arguments:**

    - `log_rate`: logarithms of the means `[*shape]`; minus infinity where nothing ever happens.

    Log-probabilities are in nats with respect to counting measure on `Counts(shape)`. Draws are `int32`; rates above
    `2^30` draw as at `2^30`.
    """

    log_rate: Float[Array, "*shape"] = eqx.field(converter=as_floats)

    @classmethod
    def from_rate(cls, rate) -> "Poisson":
        """Counts with these means, zero or more.

        **Raises:** `ValueError` if one is negative.
        """
        rate = as_floats(rate)
        if is_false(jnp.all(rate >= 0)):
            raise ValueError(f"`Poisson.from_rate(rate)` needs means of zero or more; got {rate}.")
        return cls(jnp.log(rate))

    @property
    def rate(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_rate)

    @property
    def space(self) -> Counts:
        return Counts(self.log_rate.shape)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The rates."""
        return self.rate

    @property
    def natural(self) -> Float[Array, " statistics"]:
        return self.log_rate.reshape(-1)

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        return x.astype(self.log_rate.dtype).reshape(-1)

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(self.rate)

    def log_base(self, x: Array) -> Float[Array, ""]:
        return -jnp.sum(gammaln(self.statistics(x) + 1))

    def with_natural(self, natural: Float[Array, " statistics"]) -> "Poisson":
        return type(self)(natural.reshape(self.log_rate.shape))

    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "Poisson":
        return self.with_natural(jnp.log(expected))

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x).astype(self.log_rate.dtype)
        some = x > 0
        x_safe, log_rate = jnp.where(some, x, 1), jnp.where(some, self.log_rate, 0)
        # t = log(rate / x). Combined with Stirling's formula for x! the large part is x (t - expm1(t)), never above
        # zero.
        t = log_rate - jnp.log(x_safe)
        log_some = x_safe * (t - jnp.expm1(t)) - 0.5 * jnp.log(2 * math.pi * x_safe) - stirling_error(x_safe)
        log_prob = jnp.where(some, log_some, -jnp.exp(jnp.where(some, 0, self.log_rate)))
        return jnp.sum(jnp.where(self.space.elements_within(x), log_prob, -jnp.inf))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        return _draw(key, self.rate, (*shape, *self.log_rate.shape))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


class NegativeBinomial(AbstractDistribution):
    """Independent counts with more spread than a Poisson: mean m, variance `m + m^2 / size`.

    `p(x) = prod_i Gamma(x_i + s_i) / (Gamma(s_i) x_i!) (s_i / (s_i + m_i))^s_i (m_i / (s_i + m_i))^x_i` with means m
    and sizes s. It is a Poisson distribution whose rate is a gamma variable with shape s and mean m, and approaches a
    Poisson where s is large.

    **Arguments:**

    - `log_mean`: logarithms of the means `[*shape]`.
    - `log_size`: logarithms of the sizes (also called the inverse dispersion, or the number of failures), of the same
      shape or a number.

    Log-probabilities are in nats with respect to counting measure on `Counts(shape)`. Draws are `int32`; rates above
    `2^30` draw as at `2^30`.

    **Raises:** `ValueError` if the shapes do not fit.
    """

    log_mean: Float[Array, "*shape"]
    log_size: Float[Array, "*shape"]

    def __init__(self, log_mean, log_size):
        self.log_mean = as_floats(log_mean)
        log_size = jnp.asarray(log_size, self.log_mean.dtype)
        if log_size.shape not in ((), self.log_mean.shape):
            raise ValueError(
                "`NegativeBinomial(log_mean, log_size)` needs a size of the shape of the mean, or a number; got "
                f"{self.log_mean.shape} and {log_size.shape}."
            )
        self.log_size = jnp.broadcast_to(log_size, self.log_mean.shape)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """`exp(log_mean)`."""
        return jnp.exp(self.log_mean)

    @property
    def size(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_size)

    @property
    def space(self) -> Counts:
        return Counts(self.log_mean.shape)

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x).astype(self.log_mean.dtype)
        log_mean, log_size, mean, size = self.log_mean, self.log_size, jnp.exp(self.log_mean), self.size
        log_none = -size * softplus(log_mean - log_size)
        # With Stirling's formula for all three gamma functions the large parts are x log(m / x) and
        # (x + s) log((x + s) / (m + s)).
        some = x > 0
        x_safe = jnp.where(some, x, 1)
        log_x = jnp.log(x_safe)
        change = (x_safe - mean) / (mean + size)
        near = change > -0.5
        apart = jnp.log(size + x_safe) - jnp.logaddexp(log_mean, log_size)
        log_ratio = jnp.where(near, jnp.log1p(jnp.where(near, change, 0)), apart)
        # Near the mean each logarithm is computed from a small difference: the logarithm of a large count has lost
        # these digits.
        close = jnp.abs(log_mean - log_x) < 0.5
        mean_close = jnp.where(close, mean, x_safe)
        log_first = jnp.where(close, -jnp.log1p((x_safe - mean_close) / mean_close), log_mean - log_x)
        like_poisson = x_safe * log_first + (x_safe + size) * log_ratio
        # Where s is below the mean, the two logarithms nearly cancel, and the remainder is of the size of s.
        spread = size < mean
        mean_spread, size_spread = jnp.where(spread, mean, 2), jnp.where(spread, size, 1)
        little = x_safe * (jnp.log1p(size_spread / x_safe) - jnp.log1p(size_spread / mean_spread))
        large = jnp.where(spread, little + size_spread * log_ratio, like_poisson)
        half = 0.5 * (softplus(log_x - log_size) + jnp.log(2 * math.pi * x_safe))
        rest = stirling_error(x_safe + size) - stirling_error(size) - stirling_error(x_safe)
        log_prob = jnp.where(some, large - half + rest, log_none)
        return jnp.sum(jnp.where(self.space.elements_within(x), log_prob, -jnp.inf))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        key_rate, key_count = jr.split(key)
        shape = (*shape, *self.log_mean.shape)
        log_gamma = jr.loggamma(key_rate, jnp.broadcast_to(self.size, shape), shape, self.log_mean.dtype)
        return _draw(key_count, jnp.exp(log_gamma + jnp.broadcast_to(self.log_mean - self.log_size, shape)), shape)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _draw(key: PRNGKeyArray, rate: Array, shape: tuple[int, ...]) -> Int[Array, "..."]:
    return jr.poisson(key, jnp.broadcast_to(jnp.minimum(rate, _LARGEST_RATE), shape), shape, jnp.int32)


@register_kl(Poisson, Poisson)
def _kl(q: Poisson, p: Poisson) -> Float[Array, ""]:
    # rate_q (exp(-t) - 1 + t) with t = log(rate_q / rate_p); term by term where p's rate is much larger.
    possible = jnp.isfinite(q.log_rate)
    log_q = jnp.where(possible, q.log_rate, 0)
    t = log_q - p.log_rate
    near = t > -1
    rate = jnp.where(possible, q.rate, 0)
    inner = rate * excess(-jnp.where(near, t, 0))
    outer = p.rate - rate + rate * jnp.where(near, 0, t)
    return jnp.sum(jnp.where(possible, jnp.where(near, inner, outer), p.rate))
