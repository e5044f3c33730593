"""Wake-sleep objectives: the encoder is fitted to the posterior instead of tightening a bound."""

from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, AbstractModel, AbstractObjective, exact_log_det
from ..modules import check_has_data, check_positive
from ._latent import check_latent, each_example, log_likelihoods, normalised_prior, posterior

Phase = Literal["wake", "sleep", "both"]


class ReweightedWakeSleep(AbstractObjective):
    """Reweighted wake-sleep: the likelihood's gradient by importance sampling, and an encoder fitted separately.

        decoder, prior:  sum_k v_k d log p(x, z_k)
        encoder, wake:   sum_k v_k d log q(z_k | x)
        encoder, sleep:  d log q(z | x), averaged over dreams: draws (z, x) of the model

    Each example has K draws of q with normalised weights `v_k` of `p(x, z_k) / q(z_k | x)`. The encoder minimises
    `KL(p(z | x) || q(z | x))` on data (wake) or dreams (sleep); latents may be discrete.

    Only the gradient of the loss is meaningful. The decoder's is unbiased for `iwae`. For the likelihood it is
    **biased** by the normalised weights, of order `1 / K`, as is the wake phase. The sleep phase is unbiased. For
    arrays shared with the encoder (`VampPrior`, `Ladder`) see `docs/vae.md`.

    Parts, in nats:

    - `iwae`: `log (1/K) sum_k p(x, z_k) / q(z_k | x)`, in expectation a lower bound on `log p(x)`.
    - `elbo`: the mean of the log weights.
    - `dreams` (sleep): `-log q(z | x)` of dreams.

    **Arguments:**

    - `num_samples`: K, at least 2 in the wake phase.
    - `encoder`: `"wake"`, `"sleep"`, or `"both"`, their sum.

    Source: Bornschein and Bengio (2015), section 2; arXiv:1406.2751.
    """

    moves_with_data: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=5)
    encoder: Phase = eqx.field(static=True, default="wake")

    def __check_init__(self):
        if self.encoder not in get_args(Phase):
            raise ValueError(
                f"`ReweightedWakeSleep(encoder=...)` must be one of {get_args(Phase)}; got {self.encoder!r}."
            )
        num = check_positive(self.num_samples, "ReweightedWakeSleep(num_samples=...)")
        if num < 2 and self.encoder != "sleep":
            raise ValueError(
                "`ReweightedWakeSleep(num_samples=...)` must be at least 2 in the wake phase, because a single "
                "normalised weight is always 1; got 1. With one draw use `lnz.objectives.WakeSleep()`."
            )

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "ReweightedWakeSleep")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        key_wake, key_sleep = jr.split(key)
        scored = _score(key_wake, model, batch, self.num_samples)
        log_w = jax.lax.stop_gradient(scored.log_w)
        wanted = scored.log_joint if self.encoder == "sleep" else scored.log_joint + scored.log_q
        loss = -jnp.mean(jnp.sum(jax.nn.softmax(log_w, axis=1) * wanted, axis=1))
        bound = jnp.mean(logsumexp(log_w, axis=1)) - jnp.log(self.num_samples)
        parts = {"iwae": bound, "elbo": jnp.mean(log_w)}
        if self.encoder != "wake":
            parts["dreams"] = _dreams(key_sleep, model, len(batch))
            loss = loss + parts["dreams"]
        return loss, (state, parts)


class WakeSleep(AbstractObjective):
    """The classic wake-sleep algorithm: `-log p(x, z)` at `z ~ q(z | x)`, and `-log q(z | x)` at `(x, z) ~ p`.

    Decoder and prior learn from draws of the encoder (wake); their gradient is unbiased for the ELBO. The encoder
    learns from dreams, as many draws of the model as the batch has examples (sleep). It minimises
    `KL(p(z | x) || q(z | x))` on dreams instead of `KL(q || p)` on the data, so the two halves do not descend a common
    function. Latent variables may be discrete.

    With a `lnz.latent.VampPrior` or a `lnz.latent.Ladder` this holds only for arrays that are not shared with the
    encoder: see `docs/vae.md`.

    Only the gradient of the loss is meaningful. The parts, in nats per example, are those of `ELBO`, and `dreams`, the
    mean of `-log q(z | x)` over dreams.

    Source: Hinton, Dayan, Frey and Neal (1995); as here, Bornschein and Bengio (2015), section 2; arXiv:1406.2751.
    """

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "WakeSleep")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        key_wake, key_sleep = jr.split(key)
        scored = _score(key_wake, model, batch, 1)
        dreams = _dreams(key_sleep, model, len(batch))
        elbo, reconstruction = jnp.mean(scored.log_w), jnp.mean(scored.log_likelihood)
        parts = {"elbo": elbo, "reconstruction": reconstruction, "kl": reconstruction - elbo, "dreams": dreams}
        return dreams - jnp.mean(scored.log_joint), (state, parts)


class _Scored(NamedTuple):
    """Log densities in nats at draws of q, which are treated as constants."""

    log_q: Float[Array, "*batch samples"]
    log_prior: Float[Array, "*batch samples"]
    log_likelihood: Float[Array, "*batch samples"]

    @property
    def log_joint(self) -> Float[Array, "*batch samples"]:
        return self.log_likelihood + self.log_prior

    @property
    def log_w(self) -> Float[Array, "*batch samples"]:
        return self.log_joint - self.log_q


def _score(key: PRNGKeyArray, model: Any, batch: Array, num_samples: int) -> _Scored:
    """Log densities of q, prior and likelihood at draws of q for each example; no gradient passes the draws."""

    def one(key, x, q: AbstractDistribution):
        q = exact_log_det(q)
        z = jax.lax.stop_gradient(q.sample(key, (num_samples,)))
        return _Scored(
            jax.vmap(q.log_prob)(z), jax.vmap(normalised_prior(model).log_prob)(z), log_likelihoods(model, x, z)
        )

    return each_example(one, key, model, batch)


def _dreams(key: PRNGKeyArray, model: Any, num: int) -> Float[Array, ""]:
    """`-log q(z | x)` in nats, averaged over dreams (draws of the model), which are treated as constants."""
    check_latent(model)
    key_z, key_x = jr.split(key)
    z = jax.lax.stop_gradient(normalised_prior(model).sample(key_z, (num,)))

    def one(key, z):
        x = jax.lax.stop_gradient(model.likelihood(z).sample(key))
        return exact_log_det(posterior(model, x)).log_prob(z)

    return -jnp.mean(jax.vmap(one)(jr.split(key_x, num), z))
