import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._model import AbstractBayesianModel
from .._register import register
from ..distributions import Normal


@register
class NormalMean(AbstractBayesianModel):
    """Unknown mean, known noise: `theta ~ prior`, `x_i ~ N(theta, noise_scale^2)`, element by element.

    Posterior, evidence and predictive distribution have closed forms, against which every
    approximate method can be checked: `lnz.condition(model, data)` is the same posterior for them.

    **Arguments:**

    - `prior`: a `Normal` over theta `[*shape]`.
    - `noise_scale`: standard deviation of the observations, positive.

    Source: Bishop (2006), equations 2.141 and 2.142.
    """

    prior: Normal
    noise: Normal

    def __init__(self, prior: Normal, noise_scale):
        self.prior = prior
        self.noise = Normal(jnp.zeros_like(prior.loc), noise_scale)

    def log_likelihood(self, theta: Array, batch: Array) -> Float[Array, ""]:
        theta = self.prior.space.check_example(theta, "theta")
        return jnp.sum(Normal(jnp.broadcast_to(theta, batch.shape), self._scale(batch)).log_prob(batch))

    def _scale(self, batch: Array) -> Array:
        return jnp.broadcast_to(self.noise.scale, batch.shape)

    def posterior(self, data: Float[Array, "n *shape"]) -> Normal:
        """`p(theta | data)`."""
        prior_precision, precision = self.prior.scale**-2, self.noise.scale**-2
        total = prior_precision + len(data) * precision
        shift = jnp.mean(data - self.prior.loc[None], axis=0)
        return Normal(self.prior.loc + len(data) * precision / total * shift, total**-0.5)

    def predictive(self, data: Float[Array, "n *shape"]) -> Normal:
        """`p(x_new | data)`, one more observation: a distribution that `evaluate` puts beside other models."""
        posterior = self.posterior(data)
        return Normal(posterior.loc, jnp.hypot(posterior.scale, self.noise.scale))

    def log_evidence(self, data: Float[Array, "n *shape"]) -> Float[Array, ""]:
        """`log p(data)` in nats, from the joint normal of all observations."""
        num = len(data)
        centred = (data - self.prior.loc[None]).reshape(num, -1)
        s2, t2 = self.noise.scale.reshape(-1) ** 2, self.prior.scale.reshape(-1) ** 2
        # Covariance s2 I + t2 11': along the vector of ones it is s2 + n t2, and s2 across. Two sums of squares, of the
        # mean and of the rest, subtract nothing.
        log_det = (num - 1) * jnp.log(s2) + jnp.log(s2 + num * t2)
        mean = jnp.mean(centred, axis=0)
        rest = jnp.sum((centred - mean[None]) ** 2, axis=0) / s2
        quadratic = rest + num * mean**2 / (s2 + num * t2)
        return -0.5 * jnp.sum(num * math.log(2 * math.pi) + log_det + quadratic)
