"""The score-function estimator with the other draws as its baseline."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution
from ._estimator import AbstractGradientEstimator, Draws, PerDraw, Reduce, Start, Weights, fixed_draws


class LeaveOneOut(AbstractGradientEstimator):
    """`sum_k (R - R_k) d log q(z_k)`, where `R_k` is R with `log w_k` replaced by the mean of the others.

    R is the reduction of `AbstractGradientEstimator`. Unbiased. Works for any draws, also discrete ones; needs at least
    two. The other draws are the baseline of each draw, so there is no baseline to learn and no state.

    In `IWAE` this is VIMCO; the objective adds the part `sum_k v_k d log w_k` of the normalised weights. If R is a
    mean, `R - R_k` is `log w_k` minus the mean of the others, divided by K: REINFORCE with a leave-one-out baseline
    (RLOO). Its gradient is zero for every draw if q is the true posterior.

    Source: Mnih and Rezende (2016); arXiv:1602.06725. Kool et al. (2019).
    """

    min_draws: ClassVar[int] = 2

    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        return fixed_draws(key, q, num)

    def init(self, key: PRNGKeyArray, start: Start) -> tuple[Any, ...]:
        return ()

    def score_term(self, log_w: PerDraw, score: PerDraw, reduce: Reduce, state: Any, batch: Any) -> tuple[Array, Any]:
        def signal(log_w):
            log_w = log_w - jnp.max(log_w)  # R shifts by the same amount, and differences keep their digits
            return reduce(log_w) - jax.vmap(reduce)(_with_one_replaced(log_w))

        signals = jax.lax.stop_gradient(jax.vmap(signal)(log_w))
        return jnp.mean(jnp.sum(signals * score, axis=1)), state


def _with_one_replaced(log_w: Float[Array, " K"]) -> Float[Array, "K K"]:
    """Row k is `log_w` with entry k replaced by the mean of the other entries."""
    num = len(log_w)
    is_self = jnp.eye(num, dtype=bool)
    # Sum the others, rather than subtract from a total: if one entry dominates the total, only rounding would be left.
    table = jnp.broadcast_to(log_w, (num, num))
    mean = jnp.sum(jnp.where(is_self, 0, table), axis=1) / (num - 1)
    return jnp.where(is_self, jnp.broadcast_to(mean[:, None], (num, num)), table)
