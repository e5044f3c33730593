import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import PRNGKeyArray

from ..core import AbstractDensity, AbstractDistribution, AbstractNormalizer, Estimate, Weights, exact_log_det
from ..modules import check_positive
from ._weights import log_weights, proposal_for


class Bound(AbstractNormalizer):
    """`(1/n) sum_i log (1/K) sum_k p~(x_ik) / q(x_ik)`, `x_ik ~ q`: the evidence lower bound (ELBO) for K = 1.

    Its expectation is below the log normaliser, for K = 1 by exactly `KL(q || p)`, regardless of `num_samples`. The
    bound is looser than `Importance` with as many draws. But it is a plain mean, so its standard error (of that
    expectation) can be trusted even where the weights of `Importance` cannot. K > 1 gives the bound of an
    importance-weighted autoencoder, which lies between the two. The bound is minus infinity if all K draws of a group
    are impossible under the density.

    **Arguments:**

    - `num_samples`: n. More samples make the error smaller but the bound no tighter.
    - `proposal`: q. Default: the start of the density's own path (the encoder of a variational autoencoder). If a flow
      estimates its log-determinants without bias, K = 1 uses the estimates, because it averages logarithms; K > 1
      uses exact log-determinants.
    - `chunk_size`: samples held in memory at a time.
    - `num_weights`: K. More weights make the bound tighter.

    Source: Kingma and Welling (2014), equation 3; arXiv:1312.6114. For K weights, Burda, Grosse and Salakhutdinov
    (2016), equation 8; arXiv:1509.00519.
    """

    is_smooth: ClassVar[bool] = True

    num_samples: int = eqx.field(static=True, default=100)
    proposal: AbstractDistribution | None = None
    chunk_size: int = eqx.field(static=True, default=128)
    num_weights: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_positive(self.chunk_size, "Bound(chunk_size=...)")
        check_positive(self.num_weights, "Bound(num_weights=...)")
        if check_positive(self.num_samples, "Bound(num_samples=...)") < 2:
            raise ValueError("`Bound(num_samples=...)` must be at least 2 for an error bar; got 1.")

    @property
    def name(self) -> str:
        if self.proposal is not None:
            return "Bound"
        return "ELBO" if self.num_weights == 1 else f"IWAE-{self.num_weights}"

    def cost(self, density: AbstractDensity) -> int:
        return self.num_samples * self.num_weights

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        proposal = proposal_for(density, self.proposal, "Bound")
        if self.num_weights > 1:
            proposal = exact_log_det(proposal)
        log_w = log_weights(key, density, proposal, self.num_samples * self.num_weights, self.chunk_size)
        terms = logsumexp(log_w.reshape(self.num_samples, self.num_weights), axis=1) - math.log(self.num_weights)
        error = jnp.std(terms, ddof=1) / math.sqrt(self.num_samples)
        return Estimate(jnp.mean(terms), error, "lower", weights=Weights(degrees=jnp.asarray(self.num_samples - 1)))
