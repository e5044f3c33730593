import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from .._check import check_positive
from .._density import AbstractDensity, AbstractDistribution, AbstractNormalizer
from .._estimate import Estimate
from .._register import register
from ._weights import log_weights, proposal_for


@register
class Bound(AbstractNormalizer):
    """`(1/n) sum_i log p~(x_i) - log q(x_i)`, `x_i ~ q`: the evidence lower bound itself.

    Its expectation is below the log normaliser by exactly `KL(q || p)`, however many samples there are: looser than
    `Importance`, but a plain mean, whose standard error can be trusted where the weights of `Importance` cannot. It is
    minus infinity where a draw of q is impossible under the density.

    **Arguments:**

    - `num_samples`: n. More make the error smaller and the bound no tighter.
    - `proposal`: q; by default the start of the density's own path (the encoder of a variational autoencoder). Of a
      flow that estimates its log-determinants without bias the estimate will do, for it is averaged as a logarithm.
    - `chunk_size`: samples held in memory at a time.

    Source: Kingma and Welling (2014), equation 3; arXiv:1312.6114.
    """

    num_samples: int = eqx.field(static=True, default=100)
    proposal: AbstractDistribution | None = None
    chunk_size: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        check_positive(self.chunk_size, "Bound(chunk_size=...)")
        if check_positive(self.num_samples, "Bound(num_samples=...)") < 2:
            raise ValueError("`Bound(num_samples=...)` must be at least 2 for an error bar; got 1.")

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        proposal = proposal_for(density, self.proposal, "Bound")
        terms = log_weights(key, density, proposal, self.num_samples, self.chunk_size)
        error = jnp.std(terms, ddof=1) / math.sqrt(self.num_samples)
        return Estimate(jnp.mean(terms), error, "lower")
