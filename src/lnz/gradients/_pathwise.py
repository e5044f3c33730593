"""Pathwise gradients: draws are a differentiable function of the parameters of q."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, exact_log_det
from ..modules import without_gradient
from ._estimator import AbstractGradientEstimator, Draws, PerDraw, Reduce, Start, Weights


class AbstractPathwise(AbstractGradientEstimator):
    """An estimator without a score term and without state: the draws carry the whole gradient."""

    def init(self, key: PRNGKeyArray, start: Start) -> tuple[Any, ...]:
        return ()

    def score_term(self, log_w: PerDraw, score: PerDraw, reduce: Reduce, state: Any, batch: Any) -> tuple[Array, Any]:
        return jnp.zeros((), log_w.dtype), state


class Pathwise(AbstractPathwise):
    """`sum_k v_k d log w_k`, the total derivative in the parameters of q: the reparameterised gradient.

    `v_k` is `1 / K` if R (of `AbstractGradientEstimator`) is a mean, and the normalised weight if R is the log of a
    mean weight. Unbiased. The log densities come with the draws, so a flow needs no inverse. In `IWAE` its
    signal-to-noise ratio falls as K grows.

    Source: Kingma and Welling (2014), section 2.4; arXiv:1312.6114. Rezende, Mohamed and Wierstra (2014).
    """

    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        _check_reparameterised(q)
        if num == 1:  # a trailing batch axis of size one makes the gradient of a flow twice as slow
            z, log_q = jax.tree.map(lambda x: x[None], q.sample_and_log_prob(key))
        else:
            z, log_q = q.sample_and_log_prob(key, (num,))
        return Draws(z, log_q, jnp.zeros_like(log_q), q)


class StickingTheLanding(AbstractPathwise):
    """`sum_k v_k (d log w_k / d z_k) d z_k`: the pathwise gradient without the score, `d log q` at fixed draws.

    If R is a mean, the score has expectation zero and the gradient stays unbiased. It is zero for every draw if q
    equals the target up to its constant; far from there its variance may be larger than that of `Pathwise`. In `IWAE`
    with more than one draw it is **biased**, and its optimum is not a maximum of the bound: use
    `DoublyReparameterised`.

    Log-determinants of q are exact. The estimator evaluates log q at the draws. For a flow this takes an inverse,
    which is sequential for `lnz.flows.inverse_autoregressive`.

    Source: Roeder, Wu and Duvenaud (2017); arXiv:1703.09194.
    """

    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        _check_reparameterised(q)
        z = q.sample(key, (num,))
        return _without_score(without_gradient(exact_log_det(q)), z)


class DoublyReparameterised(AbstractPathwise):
    """`sum_k v_k^2 (d log w_k / d z_k) d z_k` with normalised weights `v_k`, for `IWAE`.

    Unbiased. If q is the true posterior, it is zero for every draw. Near there it is less noisy than `Pathwise`; far
    from there it may be noisier. If R is a mean, it is the same as `StickingTheLanding`.

    It evaluates log q at the draws, as `StickingTheLanding` does. The weights need a second pass after the draws. The
    compiler merges it with the first pass unless it contains loops, such as solvers of differential equations.

    Source: Tucker, Lawson, Gu and Maddison (2019); arXiv:1810.04152.
    """

    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        draws = StickingTheLanding().draw(key, q, num)
        if weights is None:
            return draws
        factor = weights(jax.lax.stop_gradient(draws.z), jax.lax.stop_gradient(draws.log_q))
        return _without_score(draws.q, _scale_gradient(draws.z, jax.lax.stop_gradient(factor)))


def _check_reparameterised(q: AbstractDistribution) -> None:
    if not q.reparameterised:
        raise TypeError(
            f"Draws of {type(q).__name__} are not a differentiable function of its parameters, so a pathwise gradient "
            "would miss a part. Pass `gradient=lnz.gradients.LeaveOneOut()`, with two draws or more, or "
            "`gradient=lnz.gradients.Score()`; or use a reparameterised distribution, such as `Normal` or a flow over "
            "it."
        )


def _without_score(q: AbstractDistribution, z: Array) -> Draws:
    """Draws `z` of a `q` whose parameters are treated as constants."""
    log_q = jax.vmap(q.log_prob)(z)
    return Draws(z, log_q, jnp.zeros_like(log_q), q)


@jax.custom_jvp
def _scale_gradient(z: Float[Array, "K *latent"], factor: Float[Array, " K"]) -> Float[Array, "K *latent"]:
    """z, with its derivatives multiplied by the constant `factor`."""
    return z


@_scale_gradient.defjvp
def _(primals, tangents):
    (z, factor), (dz, _) = primals, tangents
    return z, dz * jnp.broadcast_to(factor.reshape(-1, *(1,) * (z.ndim - 1)), z.shape)
