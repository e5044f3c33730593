from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractExponentialFamily, draw_then_score
from ..modules import as_floats, is_false
from ..numerics import aligned, batch_last, divergence, softplus, uniform
from ..spaces import Binary
from ._closed_form_kl import register_kl


class Bernoulli(AbstractExponentialFamily):
    """Independent bits, `p(x) = prod_i sigmoid(logit_i)^x_i sigmoid(-logit_i)^(1 - x_i)`.

    **Arguments:**

    - `logits`: log-odds `[*shape]`; the property `probs` gives the probabilities. Bits with infinite log-odds never
      vary.

    Log-probabilities are in nats with respect to counting measure on `Binary(shape)`; minus infinity for other numbers.
    """

    factorised: ClassVar[bool] = True
    logits: Float[Array, "*shape"] = eqx.field(converter=as_floats)

    @classmethod
    def from_probs(cls, probs) -> "Bernoulli":
        """Bits with these probabilities of being 1, each from 0 to 1.

        **Raises:** `ValueError` for a probability outside that range.
        """
        probs = as_floats(probs)
        if is_false(jnp.all((probs >= 0) & (probs <= 1))):
            raise ValueError(
                f"`Bernoulli.from_probs(probs)` needs probabilities from 0 to 1; got {probs}. Log-odds go to "
                "`Bernoulli(logits)`."
            )
        return cls(jnp.log(probs) - jnp.log1p(-probs))

    @property
    def space(self) -> Binary:
        return Binary(self.logits.shape)

    @property
    def probs(self) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(self.logits)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The probabilities of ones."""
        return self.probs

    @property
    def natural(self) -> Float[Array, " statistics"]:
        return self.logits.reshape(-1)

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        return x.astype(self.logits.dtype).reshape(-1)

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(softplus(self.logits))

    def log_base(self, x: Array) -> Float[Array, ""]:
        return jnp.zeros((), self.logits.dtype)

    def with_natural(self, natural: Float[Array, " statistics"]) -> "Bernoulli":
        return type(self)(natural.reshape(self.logits.shape))

    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "Bernoulli":
        return self.with_natural(jnp.log(expected) - jnp.log1p(-expected))

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        # Under `jax.vmap`, keep the layout in which a decoder's network leaves its logits, `[n, *batch]`: a transposed
        # copy takes longer.
        return batch_last(_log_prob, self.statistics(x), self.natural, takes_batched_parameters=True)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        number = uniform(key, (*shape, *self.logits.shape), self.logits.dtype)
        return (number < jnp.broadcast_to(self.probs, number.shape)).astype(self.logits.dtype)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


@register_kl(Bernoulli, Bernoulli)
def _kl(q: Bernoulli, p: Bernoulli) -> Float[Array, ""]:
    a, b = q.logits, p.logits
    # For each outcome, log q - log p is log(1 + (probability of the other outcome) (e^d - 1)), which keeps the digits
    # of a small d.
    near = jnp.abs(a - b) < 1
    d = jnp.where(near, a - b, 0)
    log_ones, log_zeros = -softplus(-a), -softplus(a)
    log_ones_p, log_zeros_p = -softplus(-b), -softplus(b)
    ratio_ones = jnp.where(near, jnp.log1p(jax.nn.sigmoid(-a) * jnp.expm1(d)), log_ones - log_ones_p)
    ratio_zeros = jnp.where(near, jnp.log1p(jax.nn.sigmoid(a) * jnp.expm1(-d)), log_zeros - log_zeros_p)
    ones, zeros = divergence(log_ones, log_ones_p, ratio_ones), divergence(log_zeros, log_zeros_p, ratio_zeros)
    return jnp.sum(ones + zeros)


def log_prob_by_products(bernoulli: Bernoulli, x: Array) -> Float[Array, ""]:
    """`bernoulli.log_prob(x)` by dot products: two matrix products for many examples and many distributions.

    `log_prob` itself would build an array of examples by distributions by bits.
    """
    t, logits = bernoulli.statistics(bernoulli.space.check_example(x)), bernoulli.natural
    # A bit with an infinite logit adds nothing if it has its only possible value; zero times infinity is NaN.
    fixed = jnp.isinf(logits)
    free = jnp.where(fixed, 0, logits)
    # Not `t logits - softplus(logits)`, where two large numbers cancel: here no term is positive.
    log_ones, log_zeros = (jnp.where(fixed, 0, -softplus(sign * free)) for sign in (-1, 1))
    log_prob = _dot(t, log_ones) + _dot(1 - t, log_zeros)
    must_be_0, must_be_1 = (jnp.isneginf(logits).astype(t.dtype), jnp.isposinf(logits).astype(t.dtype))
    num_contradictions = jnp.dot(t, must_be_0 - must_be_1) + jnp.sum(must_be_1)
    are_bits = jnp.all((t == 0) | (t == 1))
    return jnp.where(are_bits & (num_contradictions <= 0), log_prob, -jnp.inf)


def _dot(a: Array, b: Array) -> Array:
    # In full precision: by default GPUs round the factors of a product to ten bits.
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def _log_prob(t: Array, logits: Array) -> Array:
    """Log-probabilities `[*batch]` of bits `t [n, *some batch]` under `logits [n, *batch]`.

    A one has `log sigmoid(logit)`, a zero `log sigmoid(-logit)`: correct for infinite logits too.
    """
    # A bit that never varies has nothing to learn.
    logits = jnp.where(jnp.isinf(logits), jax.lax.stop_gradient(logits), logits)
    t = aligned(t, 1, logits.ndim - 1)
    terms = jnp.where((t == 0) | (t == 1), softplus((1 - 2 * t) * logits), jnp.inf)
    return -jnp.sum(terms, axis=0)
