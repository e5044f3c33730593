import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.special
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractExponentialFamily, draw_then_score
from ..modules import as_floats
from ..spaces import Interval, nearest_inside
from ._closed_form_kl import register_kl

_NODES, _WEIGHTS = ((end / 2).tolist() for end in (np.polynomial.legendre.leggauss(12) + np.array([[1.0], [0.0]])))
# A''(t) = sum_n B_2n (2n - 1) / (2n)! t^(2n - 2) with Bernoulli's numbers, to 1e-16 at 1; the highest power first.
_VARIANCE = (scipy.special.bernoulli(24)[2::2] * np.arange(1, 24, 2) / scipy.special.factorial(np.arange(2, 25, 2)))[
    ::-1
].tolist()


class ContinuousBernoulli(AbstractExponentialFamily):
    """Independent numbers in [0, 1], `p(x) = prod_i exp(logit_i x_i - A(logit_i))`, `A(t) = log((e^t - 1) / t)`.

    For grey values scaled to [0, 1]. The density is the Bernoulli formula `lambda^x (1 - lambda)^(1 - x)`,
    `lambda = sigmoid(logit)`, times the constant that normalises it. Without that constant, as in many autoencoders
    trained on grey values, it is not a density. `lambda` is not the mean: the mean is `sigmoid`-like but nearer to 1/2;
    see `mean()`.

    Draws use the inverse distribution function, so they are differentiable functions of the logits. Around
    `logit = 0`, where the formulas have the form 0 / 0, values and derivatives come from power series.

    **Arguments:**

    - `logits`: natural parameters `[*shape]`, any finite numbers.

    Log-densities are in nats with respect to Lebesgue measure on `Interval(shape)`; minus infinity outside. They are
    often positive, and are not comparable with log-probabilities of bits or of whole grey values.

    Source: Loaiza-Ganem and Cunningham (2019); arXiv:1907.06845.
    """

    logits: Float[Array, "*shape"] = eqx.field(converter=as_floats)

    @property
    def space(self) -> Interval:
        return Interval(self.logits.shape)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """`1 / (1 - e^-logit) - 1 / logit`, one half where the logit is zero."""
        return _mean(self.logits)

    @property
    def natural(self) -> Float[Array, " statistics"]:
        return self.logits.reshape(-1)

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        return x.astype(self.logits.dtype).reshape(-1)

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(_log_partition(self.logits))

    def log_base(self, x: Array) -> Float[Array, ""]:
        return jnp.zeros((), self.logits.dtype)

    def with_natural(self, natural: Float[Array, " statistics"]) -> "ContinuousBernoulli":
        return type(self)(natural.reshape(self.logits.shape))

    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "ContinuousBernoulli":
        """By Newton's method, for lack of a closed form.

        No member has mean 0 or 1: such means are moved inside by the rounding of a number.
        """
        rounding = float(jnp.finfo(expected.dtype).eps)
        expected = jnp.clip(expected, rounding, 1 - rounding)
        # Exact at both ends, and two thirds of the true value in the middle.
        start = (2 * expected - 1) / (expected * (1 - expected))

        def step(_, t):
            value, slope = jax.jvp(_mean, (t,), (jnp.ones_like(t),))
            return t - (value - expected) / slope

        return self.with_natural(jax.lax.fori_loop(0, 20, step, start))

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x).astype(self.logits.dtype)
        log_prob = jnp.dot(x.reshape(-1), self.natural) - self.log_partition()
        return jnp.where(self.space.contains(x), log_prob, -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        # Never 0, where the derivative of a draw can be infinity times zero.
        dtype = self.logits.dtype
        u = jr.uniform(key, (*shape, *self.logits.shape), dtype, minval=float(jnp.finfo(dtype).tiny))
        return nearest_inside(self.space, _quantile(u, jnp.broadcast_to(self.logits, u.shape)))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _log_partition(t: Array) -> Array:
    """`log((e^t - 1) / t)`."""
    return jnp.where(t > 0, t, 0) + _remainder(t)


def _remainder(t: Array) -> Array:
    """`log((e^t - 1) / t) - max(t, 0)`, an even function."""
    small = jnp.abs(t) < 0.5
    near, far = jnp.where(small, t, 0), jnp.abs(jnp.where(small, 1, t))
    square = near * near
    # log(sinh(t / 2) / (t / 2)), to 1e-14 at 1/2: coefficients B_2n / (2n (2n)!) with Bernoulli's numbers.
    series = square * (
        1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square * (1 / 9676800 - square / 479001600)))
    )
    # The maximum has no derivative at zero: use the one from below.
    half = jnp.where(near > 0, -near, near) / 2
    return jnp.where(small, half + series, jnp.log(-jnp.expm1(-far)) - jnp.log(far))


def _mean(t: Array) -> Array:
    """The derivative of `_log_partition`."""
    return jax.jvp(_log_partition, (t,), (jnp.ones_like(t),))[1]


def _quantile(u: Array, t: Array) -> Array:
    """`log(1 + u (e^t - 1)) / t` for u in [0, 1); its derivative for u in (0, 1)."""
    small = jnp.abs(t) < 0.02
    near, far = jnp.where(small, t, 0), jnp.where(small, 1, t)
    # As a function of t it is the cumulant generating function of a bit with probability u, divided by t.
    k2, odd = u * (1 - u), 1 - 2 * u
    k4, k5, k6 = 1 - 6 * k2, odd * (1 - 12 * k2), 1 - k2 * (30 - 120 * k2)
    series = k2 * near * (1 / 2 + near * (odd / 6 + near * (k4 / 24 + near * (k5 / 120 + near * k6 / 720))))
    # From the end where the density is largest, so that the exponential cannot overflow.
    upper = far > 0
    size = jnp.abs(far)
    v, rest = jnp.where(upper, 1 - u, u), jnp.where(upper, u, 1 - u)
    # log(1 - v (1 - e^-size)); near log(0), the logarithm of the sum `rest + v e^-size`.
    is_small = -v * jnp.expm1(-size) < 0.5
    log = jnp.where(
        is_small,
        jnp.log1p(jnp.where(is_small, v, 0) * jnp.expm1(-size)),
        jnp.log(jnp.where(is_small, 1, rest + v * jnp.exp(-size))),
    )
    distance = -log / size
    x = jnp.where(upper, 1 - distance, distance)
    # Not `jnp.clip`, which halves the derivative at the ends.
    return jnp.where(small, u + series, jnp.where(x < 0, 0, jnp.where(x > 1, 1, x)))


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl(q: ContinuousBernoulli, p: ContinuousBernoulli) -> Float[Array, ""]:
    # A(b) - A(a) - A'(a) (b - a). Where b is near a, as an integral of A'' > 0, in which nothing cancels.
    a, b = q.logits, p.logits
    d = b - a
    near = jnp.abs(d) <= jnp.maximum(1, jnp.abs(a) / 2)
    inner = _divergence_near(jnp.where(near, a, 0), jnp.where(near, d, 0))
    # Elsewhere without the linear part of A, which can be large and adds nothing while a and b have one sign.
    d_far = jnp.where(near, 0, d)
    value, slope = jax.jvp(_remainder, (a,), (jnp.ones_like(a),))
    outer = _remainder(b) - value - slope * d_far + jnp.maximum(jnp.where(a > 0, -b, b), 0)
    return jnp.sum(jnp.where(near, inner, outer))


def _divergence_near(a: Array, d: Array) -> Array:
    """`d^2 int_0^1 (1 - u) A''(a + u d) du` by a rule of 12 points, exact to 1e-16 for `|d| <= max(1, |a| / 2)`."""
    total = jnp.zeros_like(a)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        t = a + node * d
        small = jnp.abs(t) < 1
        square = jnp.where(small, t, 0) ** 2
        series = jnp.zeros_like(t)
        for coefficient in _VARIANCE:
            series = series * square + coefficient
        # A''(t) = 1 / t^2 - 1 / (4 sinh(t / 2)^2), with d inside the squares, which would otherwise leave the range.
        far = jnp.where(small, 1, jnp.abs(t))
        ends = (d / far) ** 2 - (d * jnp.exp(-far / 2) / jnp.expm1(-far)) ** 2
        total = total + weight * (1 - node) * jnp.where(small, jnp.where(small, d, 0) ** 2 * series, ends)
    return total
