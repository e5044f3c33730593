from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractModel, AbstractObjective, exact_log_det
from ..gradients import AbstractGradientEstimator, Pathwise, Score
from ..modules import check_has_data, without_gradient
from ._latent import check_gradient, each_example, log_likelihoods, normalised_prior


class IWAE(AbstractObjective):
    """`-mean log (1/K) sum_k w_k`, `w_k = p(x, z_k) / q(z_k | x)`: the importance-weighted bound, in nats per example.

    The negative loss is a lower bound on the log-likelihood in expectation. It is tighter than the ELBO, and tighter
    the larger K is. The parts are `iwae`, this bound, and `elbo`, the mean of `log w_k`. Log-determinants of q are
    exact, because unbiased estimates of them would make the weights too large on average.

    **Arguments:**

    - `num_samples`: K.
    - `gradient`: estimator of the encoder's gradient, from `lnz.gradients`. The loss, its parts and the decoder's
      gradient do not change. `DoublyReparameterised()` is less noisy near the true posterior, `LeaveOneOut()` (VIMCO)
      allows discrete latent variables, and `StickingTheLanding()` is **biased**.

    **Raises:** `TypeError` if `gradient` is `Score` or cannot differentiate the posterior.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; arXiv:1509.00519.
    """

    moves_with_data: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=50)
    gradient: AbstractGradientEstimator = Pathwise()

    def __check_init__(self):
        check_gradient(self.gradient, self.num_samples, "IWAE")
        if isinstance(self.gradient, Score):
            raise TypeError(
                "`IWAE(gradient=...)` cannot be `Score`, which needs a mean over draws. Use "
                "`lnz.gradients.LeaveOneOut()`, or `lnz.objectives.ELBO(gradient=lnz.gradients.Score())`."
            )

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "IWAE")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        def one(key, x, q):
            def log_joint(model, z):
                return log_likelihoods(model, x, z) + jax.vmap(normalised_prior(model).log_prob)(z)

            def weights(z, log_q):
                return jax.nn.softmax(log_joint(without_gradient(model), z) - log_q)

            draws = self.gradient.draw(key, exact_log_det(q), self.num_samples, weights)
            # The bound is not linear in log w, so the score must stay in the weights as well.
            return log_joint(model, draws.z) - draws.log_q - draws.score, draws.score

        log_w, score = each_example(one, key, model, batch)
        score_term, state = self.gradient.score_term(log_w, score, _log_mean_exp, state, batch)
        bound = jnp.mean(jax.vmap(_log_mean_exp)(log_w))
        return -bound - score_term, (state, {"iwae": bound, "elbo": jnp.mean(log_w)})


def _log_mean_exp(log_w: Float[Array, " K"]) -> Float[Array, ""]:
    return logsumexp(log_w) - jnp.log(len(log_w))
