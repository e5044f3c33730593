import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..core import AbstractBayesianModel
from ..distributions import Normal
from ..modules import as_numbers

_STEP = 0.25  # in standard deviations: rounding moves a mean by half of it at most, which costs 0.008 nats


class NormalMean(AbstractBayesianModel):
    """Unknown mean, known noise: `theta ~ prior`, `x_i ~ N(theta, noise_scale^2)`, element by element.

    Posterior, evidence and predictive distribution have closed forms. Approximate methods can be checked against them:
    `lnz.condition(model, data)` is the same posterior for such methods. Data in NumPy arrays of float64, `[n, *shape]`,
    keep their digits far from zero.

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

    def posterior(self, data: Float[Any, "n *shape"]) -> Normal:
        """`p(theta | data)`.

        **Raises:** `ValueError` if the dtype of the prior is too coarse for the posterior mean.
        """
        return self._normal(*self._posterior(data))

    def predictive(self, data: Float[Any, "n *shape"]) -> Normal:
        """`p(x_new | data)` for one more observation: a distribution that `evaluate` can compare with other models.

        **Raises:** as `posterior`.
        """
        shift, scale = self._posterior(data)
        return self._normal(shift, jnp.hypot(scale, self.noise.scale))

    def log_evidence(self, data: Float[Any, "n *shape"]) -> Float[Array, ""]:
        """`log p(data)` in nats, from the joint normal of all observations."""
        num, mean, squares = self._moments(data)
        s2, t2 = self.noise.scale**2, self.prior.scale**2
        # The covariance s2 I + t2 11' is s2 + n t2 along the vector of ones, and s2 across it. With separate sums of
        # squares for the mean and for the rest, nothing is subtracted.
        log_det = (num - 1) * jnp.log(s2) + jnp.log(s2 + num * t2)
        quadratic = squares / s2 + num * mean**2 / (s2 + num * t2)
        return -0.5 * jnp.sum(num * math.log(2 * math.pi) + log_det + quadratic)

    def _posterior(self, data: Any) -> tuple[Array, Array]:
        """The posterior mean minus the prior mean, and the posterior scale."""
        num, mean, _ = self._moments(data)
        prior_precision, precision = self.prior.scale**-2, self.noise.scale**-2
        total = prior_precision + num * precision
        return num * precision / total * mean, total**-0.5

    def _normal(self, shift: Array, scale: Array) -> Normal:
        loc = self.prior.loc + shift
        if not isinstance(loc, Tracer) and not isinstance(scale, Tracer):
            coarse = np.spacing(np.abs(np.asarray(loc))) > _STEP * np.asarray(scale)
            if coarse.any():
                place = tuple(np.argwhere(coarse)[0].tolist())
                raise ValueError(
                    f"The mean of this normal is about {float(loc[place]):.10g} with a standard deviation of "
                    f"{float(scale[place]):.3g}, where {loc.dtype} has steps of "
                    f"{float(np.spacing(np.abs(np.asarray(loc))[place])):.2g}: too coarse. Subtract a constant from "
                    "`data` and from the prior's `loc`, or turn on `jax_enable_x64`."
                )
        return Normal(loc, scale)

    def _moments(self, data: Any) -> tuple[int, Array, Array]:
        """Number of observations, their mean minus the prior mean, and the sum of squares about their mean.

        In float64 on the host unless the numbers are traced, so that columns far from zero keep the digits they have.
        """
        loc, space = self.prior.loc, self.prior.space
        if isinstance(data, Tracer) or isinstance(loc, Tracer):
            data = jnp.asarray(as_numbers(data))
            if data.shape[1:] != space.shape or not data.ndim:
                space.check_data(data)  # raises an error with the reason
            centred = data - loc[None]
            mean = jnp.mean(centred, axis=0)
            return len(data), mean, jnp.sum((centred - mean[None]) ** 2, axis=0)
        centred = np.asarray(space.check_data(data), np.float64) - np.asarray(loc, np.float64)
        mean = centred.mean(axis=0)
        squares = ((centred - mean) ** 2).sum(axis=0)
        return len(centred), jnp.asarray(mean, loc.dtype), jnp.asarray(squares, loc.dtype)
