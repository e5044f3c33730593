from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, AbstractModel, AbstractObjective, exact_log_det
from ..modules import check_has_data, check_positive
from ._constant import constant
from ._latent import check_reparameterised, each_example, log_likelihoods, normalised_prior

Estimator = Literal["reparameterised", "doubly_reparameterised", "sticking_the_landing"]


class IWAE(AbstractObjective):
    """`-mean log (1/K) sum_k w_k`, `w_k = p(x, z_k) / q(z_k | x)`: the importance-weighted bound, in nats per example.

    Its negative is a lower bound on the log-likelihood in expectation, tighter than the ELBO and tighter with every K.
    The parts are `iwae`, that bound, and `elbo`, the mean of `log w_k`. Log-determinants of q are exact: an estimate
    without bias, averaged as a weight, would be too large.

    **Arguments:**

    - `num_samples`: K.
    - `gradient`: how the encoder's gradient is estimated; loss, parts and the decoder's gradient are the same. With
      normalised weights `v_k` it is the mean over examples of

        - `"reparameterised"`: `sum_k v_k d log w_k`, with all that depends on the encoder. Unbiased; its signal sinks
          below its noise as K grows.
        - `"doubly_reparameterised"`: `sum_k v_k^2 (d log w_k / d z_k) d z_k`. Unbiased, and of much less noise where
          q is near the true posterior, at which it vanishes in every draw; far from there it may be of more. With
          `num_samples=1` it is that of `ELBO(sticking_the_landing=True)`.
        - `"sticking_the_landing"`: `sum_k v_k (d log w_k / d z_k) d z_k`. Little noise, but **biased** for K > 1: its
          optimum is no maximum of the bound.

      The latter two need log q of given points beside the draws: for a flow, an inverse. Weights that are known only
      behind the draws need a second pass that the compiler finds to be the first one, except of loops such as
      solvers of differential equations.

    **Raises:** `ValueError` for another `gradient`; `TypeError` for a posterior whose draws have no pathwise gradient.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; arXiv:1509.00519. Tucker, Lawson, Gu and Maddison
    (2019); arXiv:1810.04152.
    """

    moves_with_data: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=50)
    gradient: Estimator = eqx.field(static=True, default="reparameterised")

    def __check_init__(self):
        check_positive(self.num_samples, "IWAE(num_samples=...)")
        if self.gradient not in get_args(Estimator):
            raise ValueError(f"`IWAE(gradient=...)` must be one of {get_args(Estimator)}; got {self.gradient!r}.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "IWAE")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        def one(key, x, q):
            check_reparameterised(q)
            return self._log_weights(key, model, x, exact_log_det(q))

        log_w = each_example(one, key, model, batch)
        bound = jnp.mean(logsumexp(log_w, axis=1)) - jnp.log(self.num_samples)
        return -bound, (state, {"iwae": bound, "elbo": jnp.mean(log_w)})

    def _log_weights(self, key: PRNGKeyArray, model: Any, x: Array, q: AbstractDistribution) -> Float[Array, " K"]:
        def log_joint(model, z):
            return log_likelihoods(model, x, z) + jax.vmap(normalised_prior(model).log_prob)(z)

        if self.gradient == "reparameterised":
            z, log_q = q.sample_and_log_prob(key, (self.num_samples,))
            return log_joint(model, z) - log_q
        z = q.sample(key, (self.num_samples,))
        log_q = jax.vmap(constant(q).log_prob)
        if self.gradient == "doubly_reparameterised":
            # In value the pass below, which the compiler makes one with this.
            fixed = jax.lax.stop_gradient(z)
            z = _scale_gradient(z, jax.nn.softmax(log_joint(constant(model), fixed) - log_q(fixed)))
        return log_joint(model, z) - log_q(z)


@jax.custom_jvp
def _scale_gradient(z: Float[Array, "K *latent"], factor: Float[Array, " K"]) -> Float[Array, "K *latent"]:
    """z, whose derivatives are multiplied by `factor`, a constant."""
    return z


@_scale_gradient.defjvp
def _(primals, tangents):
    (z, factor), (dz, _) = primals, tangents
    return z, dz * jnp.broadcast_to(factor.reshape(-1, *(1,) * (z.ndim - 1)), z.shape)
