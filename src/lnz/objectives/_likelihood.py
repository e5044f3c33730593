from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._algorithm import AbstractObjective
from .._check import check_has_data, check_positive
from .._density import AbstractDistribution, AbstractModel, AbstractNormalizer
from .._model import AbstractLatentModel
from .._register import register
from .._stochastic import exact_log_det
from ._energy_prior import normalised_prior


@register
class MaximumLikelihood(AbstractObjective):
    """`-mean log p(x)` in nats per example.

    **Arguments:**

    - `hidden`, `partition`: normalisers for numerator and denominator where the model has no closed form. With
      `lnz.normalizers.Quadrature()` the loss and its gradient are exact; that is how small
      Boltzmann machines are trained without sampling.
    """

    hidden: AbstractNormalizer | None = None
    partition: AbstractNormalizer | None = None

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "MaximumLikelihood")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        key_hidden, key_partition = jr.split(key)
        keys = jr.split(key_hidden, len(batch))
        numerator = jax.vmap(lambda k, x: model.log_numerator(k, x, self.hidden).value)(keys, batch)
        loss = model.log_denominator(key_partition, self.partition).value - jnp.mean(numerator)
        return loss, (state, {"negative_log_likelihood": loss})


@register
class ELBO(AbstractObjective):
    """`-mean E_q[log p(x | z) + log p(z) - log q(z | x)]` in nats per example, by reparameterised draws.

    The loss is an upper bound on the negative log-likelihood; the gap is `KL(q(z | x) || p(z | x))`.

    **Arguments:**

    - `num_samples`: draws of z an example.

    Source: Kingma and Welling (2014), equation 3; arXiv:1312.6114.
    """

    num_samples: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_positive(self.num_samples, "ELBO(num_samples=...)")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "ELBO")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        log_w, reconstruction = _importance_weights(key, model, batch, self.num_samples)
        elbo, reconstruction = jnp.mean(log_w), jnp.mean(reconstruction)
        parts = {"elbo": elbo, "reconstruction": reconstruction, "kl": reconstruction - elbo}
        return -elbo, (state, parts)


@register
class IWAE(AbstractObjective):
    """`-mean log (1/K) sum_k p(x, z_k) / q(z_k | x)`: the importance-weighted bound, in nats per example.

    Tighter than the ELBO and tighter with every K.

    **Arguments:**

    - `num_samples`: K.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; arXiv:1509.00519.
    """

    num_samples: int = eqx.field(static=True, default=50)

    def __check_init__(self):
        check_positive(self.num_samples, "IWAE(num_samples=...)")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "IWAE")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        log_w, _ = _importance_weights(key, model, batch, self.num_samples, exact=True)
        log_mean = jax.scipy.special.logsumexp(log_w, axis=1) - jnp.log(self.num_samples)
        return -jnp.mean(log_mean), (state, {"iwae": jnp.mean(log_mean), "elbo": jnp.mean(log_w)})


def check_reparameterised(distribution: AbstractDistribution) -> None:
    if not distribution.reparameterised:
        raise TypeError(
            f"Draws of {type(distribution).__name__} are no differentiable function of its parameters, so this "
            "objective's gradient would miss a part. Use a reparameterised one, such as `Normal` or a flow over it."
        )


def _importance_weights(
    key: PRNGKeyArray, model: Any, batch: Array, num_samples: int, exact: bool = False
) -> tuple[Float[Array, "batch samples"], Float[Array, "batch samples"]]:
    """`log p(x, z) - log q(z | x)` and `log p(x | z)` at `z ~ q(z | x)`.

    `exact`: with exact log-determinants of q. An estimate without bias will do for the ELBO, whose weights are averaged
    as logarithms; averaged themselves they would be too large.
    """

    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"This objective needs a latent-variable model, such as a VAE; got {type(model).__name__}.")

    def one(key, x):
        posterior = model.posterior(x)
        if posterior is None:
            raise ValueError(
                f"{type(model).__name__} has no approximate posterior (an encoder), which this objective needs."
            )
        check_reparameterised(posterior)
        posterior = exact_log_det(posterior) if exact else posterior
        z, log_q = posterior.sample_and_log_prob(key, (num_samples,))
        log_likelihood = jax.vmap(lambda z: model.likelihood(z).log_prob(x))(z)
        return log_likelihood + jax.vmap(normalised_prior(model).log_prob)(z) - log_q, log_likelihood

    return jax.vmap(one)(jr.split(key, len(batch)), batch)
