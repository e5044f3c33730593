"""Location-scale families, `x = loc + scale * noise`: Laplace, logistic and Student's t."""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, draw_then_score
from ..modules import is_false
from ..numerics import excess, half_step, loc_and_log_scale, softplus
from ..spaces import Euclidean
from ._closed_form_kl import register_kl
from ._normal import Normal

if TYPE_CHECKING:  # type checkers would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractLocationScale(AbstractDistribution):
    """Independent `x = loc + scale * noise`. A family gives the density of its noise and a way to draw it."""

    factorised: ClassVar[bool] = True
    loc: AbstractVar[Float[Array, "*shape"]]
    log_scale: AbstractVar[Float[Array, "*shape"]]

    @abstractmethod
    def noise_log_prob(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The log-density of each component of the noise."""

    @abstractmethod
    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Draws `[*shape]` of the noise; the last axes of `shape` are the axes of `loc`."""

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        z = (self.space.check_example(x).astype(self.loc.dtype) - self.loc) * jnp.exp(-self.log_scale)
        return jnp.sum(self.noise_log_prob(z) - self.log_scale)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = self.noise(key, (*shape, *self.loc.shape))
        return jnp.broadcast_to(self.loc, noise.shape) + jnp.broadcast_to(self.scale, noise.shape) * noise

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


class Laplace(AbstractLocationScale):
    """Independent Laplaces, `p(x) = prod_i exp(-|x_i - loc_i| / scale_i) / (2 scale_i)`.

    The maximum-likelihood `loc` is a median, and the standard deviation is `sqrt(2) scale`.

    **Arguments:**

    - `loc`: medians `[*shape]`.
    - `scale`: mean absolute deviations, positive, of the same shape or a number.

    Log-densities are in nats with respect to Lebesgue measure. The field is `log_scale`, which keeps the scale positive
    in training.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Laplace")

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The medians, by symmetry."""
        return self.loc

    def noise_log_prob(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -jnp.abs(z) - math.log(2)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jr.laplace(key, shape, self.loc.dtype)


class Logistic(AbstractLocationScale):
    """Independent logistics, `p(x) = prod_i sigmoid(z_i) sigmoid(-z_i) / scale_i` with `z = (x - loc) / scale`.

    The standard deviation is `pi scale / sqrt(3)`.

    **Arguments:**

    - `loc`: means `[*shape]`.
    - `scale`: positive, of the same shape or a number.

    Log-densities are in nats with respect to Lebesgue measure. The field is `log_scale`, which keeps the scale positive
    in training.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Logistic")

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The medians, by symmetry."""
        return self.loc

    def noise_log_prob(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -softplus(z) - softplus(-z)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jr.logistic(key, shape, self.loc.dtype)


class StudentT(AbstractLocationScale):
    """Independent Student's t, `p(x) = prod_i C(df_i) / scale_i (1 + z_i^2 / df_i)^(-(df_i + 1) / 2)`.

    Here `z = (x - loc) / scale` and `C(df) = Gamma((df + 1) / 2) / (Gamma(df / 2) sqrt(pi df))`. Few degrees of freedom
    give heavy tails (1 is the Cauchy distribution); many approach a normal.

    Draws are differentiable in all three parameters, in `df` through the implicit derivative of a gamma variable. To
    keep a network from moving `df`, select the others:
    `lnz.Conditional(template, net, where=lambda d: (d.loc, d.log_scale))`. All contexts then share one `df`. Below
    about 0.3 degrees of freedom, draws overflow float32.

    **Arguments:**

    - `loc`: medians `[*shape]`.
    - `scale`: positive, of the same shape or a number.
    - `df`: degrees of freedom, positive, of the same shape or a number.

    Log-densities are in nats with respect to Lebesgue measure. The fields are `log_scale` and `log_df`, which keeps
    both positive in training.

    Source: Figurnov, Mohamed and Mnih (2018), for the derivative of a gamma variable; arXiv:1805.08498.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    log_df: Float[Array, "*shape"]

    def __init__(self, loc, scale, df):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "StudentT")
        df = jnp.asarray(df, self.loc.dtype)
        if df.shape not in ((), self.loc.shape):
            raise ValueError(
                f"`StudentT(df=...)` needs the shape of loc, or a number; got {df.shape} for loc of {self.loc.shape}."
            )
        if is_false(jnp.all(df > 0)):
            raise ValueError(f"`StudentT(df=...)` must be positive; got {df}. It is a number of degrees of freedom.")
        self.log_df = jnp.broadcast_to(jnp.log(df), self.loc.shape)

    @property
    def df(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_df)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The medians; NaN with one degree of freedom or fewer, where there is no mean."""
        return jnp.where(self.df > 1, self.loc, jnp.nan)

    def noise_log_prob(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        distance = jnp.abs(z) * jnp.exp(-0.5 * self.log_df)
        far = distance > 1  # its square may overflow
        outer = 2 * jnp.log(jnp.where(far, distance, 1)) + jnp.log1p(jnp.where(far, distance, 1) ** -2)
        log_tail = jnp.where(far, outer, jnp.log1p(jnp.where(far, 0, distance) ** 2))
        return half_step(0.5 * self.df) - 0.5 * math.log(2 * math.pi) - 0.5 * (self.df + 1) * log_tail

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        key_normal, key_gamma = jr.split(key)
        half_df = jnp.broadcast_to(0.5 * self.df, shape)
        # In logarithms: with few degrees of freedom, a gamma variable often underflows.
        log_ratio = jnp.log(half_df) - jr.loggamma(key_gamma, half_df, shape, self.loc.dtype)
        return jr.normal(key_normal, shape, self.loc.dtype) * jnp.exp(0.5 * log_ratio)


@register_kl(Laplace, Laplace)
def _kl_laplace(q: Laplace, p: Laplace) -> Float[Array, ""]:
    # With u = |loc_q - loc_p| / scale_q and r = scale_q / scale_p, the divergence is
    # (r - 1 - log r) + r (exp(-u) - 1 + u). Neither part can be negative.
    log_ratio, distance = q.log_scale - p.log_scale, jnp.abs(q.loc - p.loc)
    u = distance * jnp.exp(-q.log_scale)
    near = u < 1
    inner = jnp.exp(log_ratio) * excess(-jnp.where(near, u, 0))
    outer = jnp.exp(log_ratio) * jnp.expm1(-jnp.where(near, 1, u)) + distance * jnp.exp(-p.log_scale)
    return jnp.sum(excess(log_ratio) + jnp.where(near, inner, outer))


@register_kl(Laplace, Normal)
def _kl_laplace_normal(q: Laplace, p: Normal) -> Float[Array, ""]:
    return _kl_to_normal(q, p, jnp.asarray(2.0, q.loc.dtype), jnp.asarray(1 + math.log(2), q.loc.dtype))


@register_kl(Logistic, Normal)
def _kl_logistic_normal(q: Logistic, p: Normal) -> Float[Array, ""]:
    return _kl_to_normal(q, p, jnp.asarray(math.pi**2 / 3, q.loc.dtype), jnp.asarray(2.0, q.loc.dtype))


@register_kl(StudentT, Normal)
def _kl_student_normal(q: StudentT, p: Normal) -> Float[Array, ""]:
    """Infinite with two degrees of freedom or fewer, where the variance is infinite."""
    df = q.df
    has_variance = df > 2
    variance = jnp.where(has_variance, 1 / (1 - 2 / jnp.where(has_variance, df, 4)), jnp.inf)
    half = 0.5 * df
    value, slope = jax.jvp(half_step, (half,), (jnp.ones_like(half),))
    # The difference of digammas is `slope + 1 / (2 half)`; computed directly, it would lose its digits for a large df.
    entropy = (half + 0.5) * (slope + 1 / df) - value + 0.5 * math.log(2 * math.pi)
    return _kl_to_normal(q, p, variance, entropy)


def _kl_to_normal(
    q: AbstractLocationScale, p: Normal, variance: Float[Array, "*#shape"], entropy: Float[Array, "*#shape"]
) -> Float[Array, ""]:
    """Needs the variance and the entropy of the standard member of q's family."""
    log_ratio = 2 * (q.log_scale - p.log_scale)
    distance = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    spread = excess(log_ratio) + jnp.exp(log_ratio) * (variance - 1)
    return jnp.sum(0.5 * (distance**2 + spread) + (0.5 * math.log(2 * math.pi) + 0.5 - entropy))
