import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .. import spaces
from ..core import AbstractExponentialFamily, draw_then_score
from ..modules import as_floats
from ..numerics import divergence
from ._closed_form_kl import register_kl


class Categorical(AbstractExponentialFamily):
    """Independent categories, `p(x) = prod_i softmax(logits_i)[x_i]`.

    **Arguments:**

    - `logits`: unnormalised log-probabilities `[*shape, num_categories]`; minus infinity for impossible categories.

    Log-probabilities are in nats with respect to counting measure on `{0, ..., num_categories - 1}^shape`. The natural
    parameters are the logits, one more for each variable than needed; `with_expected_statistics` chooses
    log-probabilities.
    """

    logits: Float[Array, "*shape num_categories"] = eqx.field(converter=as_floats)

    def __check_init__(self):
        if self.logits.ndim == 0:
            raise ValueError(
                f"`Categorical(logits)` needs log-probabilities [*shape, num_categories]; got the number {self.logits}."
            )

    @property
    def space(self) -> spaces.Categorical:
        return spaces.Categorical(self.logits.shape[:-1], self.logits.shape[-1])

    @property
    def natural(self) -> Float[Array, " statistics"]:
        return self.logits.reshape(-1)

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        one_hot = jax.nn.one_hot(x.astype(jnp.int32), self.logits.shape[-1], dtype=self.logits.dtype)
        return one_hot.reshape(-1)

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(logsumexp(self.logits, axis=-1))

    def log_base(self, x: Array) -> Float[Array, ""]:
        return jnp.zeros((), self.logits.dtype)

    def with_natural(self, natural: Float[Array, " statistics"]) -> "Categorical":
        return type(self)(natural.reshape(self.logits.shape))

    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "Categorical":
        return self.with_natural(jnp.log(expected))

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x).astype(jnp.int32)[..., None]
        # Picked, not multiplied by a one-hot vector: zero times minus infinity is NaN.
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(self.logits, axis=-1), x, axis=-1, mode="clip")
        return jnp.sum(jnp.where((x >= 0) & (x < self.logits.shape[-1]), log_probs, -jnp.inf))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        return jr.categorical(key, self.logits, shape=(*shape, *self.logits.shape[:-1])).astype(jnp.int32)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


@register_kl(Categorical, Categorical)
def _kl(q: Categorical, p: Categorical) -> Float[Array, ""]:
    if q.space != p.space:
        raise ValueError(f"`closed_form_kl(q, p)` needs as many categories in q as in p; got {q.space} and {p.space}.")
    log_q, log_p = jax.nn.log_softmax(q.logits, axis=-1), jax.nn.log_softmax(p.logits, axis=-1)
    return jnp.sum(divergence(log_q, log_p, _log_ratio(q.logits, p.logits, log_q, log_p)))


def _log_ratio(a: Array, b: Array, log_q: Array, log_p: Array) -> Array:
    """`log q - log p`, with the digits that two nearly equal logarithms would lose."""
    finite = jnp.isfinite(a) & jnp.isfinite(b)
    weight = jnp.exp(log_q)
    d = jnp.where(finite, b - a, 0)
    # Subtract the mean of d under q: log(sum_k q_k e^d_k) is then not negative (Jensen), and small if all of d is.
    d = d - jnp.sum(weight * d, axis=-1, keepdims=True)
    both_or_neither = finite | (jnp.isneginf(a) & jnp.isneginf(b))
    near = jnp.all(both_or_neither & (jnp.abs(d) < 10), axis=-1, keepdims=True)
    d = jnp.where(near & finite, d, 0)
    # The log-probabilities themselves only where `near` is false: minus infinity less minus infinity is NaN.
    far = jnp.where(near, 0, log_q) - jnp.where(near, 0, log_p)
    return jnp.where(near, jnp.log1p(jnp.sum(weight * jnp.expm1(d), axis=-1, keepdims=True)) - d, far)
