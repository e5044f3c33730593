import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..modules import replace
from ..numerics import aligned
from ..spaces import Euclidean
from ._bijection import AbstractBatchLastBijection, started_from


class ActNorm(AbstractBatchLastBijection):
    """`y = exp(log_scale) x + loc` with one scale and shift for each variable `[n]`, or channel of `[channels, ...]`.

    `log |det| = sum_c log_scale_c`, times the number of positions of a channel. At construction it is the identity.
    When training of the flow around it begins, it takes its shift and scale from the data that reach it: in the
    direction from data to base, its output then has mean 0 and variance 1. From then on they are ordinary parameters,
    which data no longer set.

    Only the layers before it know which values reach it, so the flow starts it: `Transformed.initialise`, which
    `lnz.fit` calls through `lnz.Gradient`, passes rows from data to base. An `ActNorm` in a flow that an encoder makes
    for each example sees no data and stays the identity until trained.

    **Arguments:**

    - `domain`: `lnz.Euclidean(shape)`.

    Source: Kingma and Dhariwal (2018), section 3.1; arXiv:1807.03039.
    """

    domain: Euclidean = eqx.field(static=True)
    loc: Float[Array, " channels"]
    log_scale: Float[Array, " channels"]
    started: Int[Array, ""]

    def __init__(self, domain: Euclidean):
        if not isinstance(domain, Euclidean) or not domain.shape:
            raise TypeError(f"`ActNorm(domain)` needs `lnz.Euclidean` of vectors or images; got {domain}.")
        self.domain = domain
        self.loc, self.log_scale = jnp.zeros(domain.shape[0]), jnp.zeros(domain.shape[0])
        self.started = jnp.zeros((), jnp.int32)

    @property
    def codomain(self) -> Euclidean:
        return self.domain

    @property
    def waits_for_data(self) -> bool:
        return True

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        loc, log_scale, log_det = self._aligned(x)
        return jnp.exp(log_scale) * x + loc, log_det

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        loc, log_scale, log_det = self._aligned(y)
        return (y - loc) * jnp.exp(-log_scale), -log_det

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["ActNorm", Array]:
        axes = tuple(i for i in range(x.ndim) if i != 1)
        mean = jnp.mean(x, axis=axes)
        centred = x - mean.reshape(1, -1, *(1,) * (x.ndim - 2))
        scale = jnp.sqrt(jnp.mean(centred * centred, axis=axes))
        # A variable that is constant in the data is only shifted.
        varies = scale > 10 * jnp.finfo(x.dtype).eps * (jnp.abs(mean) + jnp.finfo(x.dtype).tiny)
        scale = jnp.where(varies, scale, 1)
        loc, log_scale = (mean, jnp.log(scale)) if inverse else (-mean / scale, -jnp.log(scale))
        fresh = self.started == 0
        normed = replace(
            self,
            loc=jnp.where(fresh, loc, self.loc),
            log_scale=jnp.where(fresh, log_scale, self.log_scale),
            started=jnp.ones_like(self.started),
        )
        return normed, started_from(normed, key, x, inverse)

    def _aligned(self, x):
        num_batch = x.ndim - len(self.domain.shape)
        loc, log_scale = (aligned(leaf, 1, x.ndim - 1) for leaf in (self.loc, self.log_scale))
        axes = tuple(range(x.ndim - num_batch))
        return loc, log_scale, jnp.sum(jnp.broadcast_to(log_scale, x.shape), axis=axes)
