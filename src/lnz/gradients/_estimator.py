"""The interface of gradient estimators, and the draws they differentiate."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, exact_log_det
from ..modules import without_gradient

PerDraw = Float[Array, "batch K"]
Start = Callable[[PRNGKeyArray], tuple[PerDraw, Any]]
Weights = Callable[[Array, Float[Array, " K"]], Float[Array, " K"]]
Reduce = Callable[[Float[Array, " K"]], Float[Array, ""]]


class Draws(NamedTuple):
    """K draws `z` of a distribution, with the derivatives that a gradient estimator needs.

    `log_q` holds their log densities in nats. `q` is the distribution that yields `log_q` with these derivatives.
    `score` has the value zero. Its derivative is the derivative of log q at fixed draws for the score family, and zero
    for the pathwise family.
    """

    z: Array
    log_q: Float[Array, " K"]
    score: Float[Array, " K"]
    q: AbstractDistribution


class AbstractGradientEstimator(eqx.Module):
    """An estimator of the gradient of `E_q[R(log w_1, ..., log w_K)]` in the parameters of q, from K draws of q.

    `log w_k` is the log weight of a draw, such as `log p(x, z_k) - log q(z_k)`. R is their mean (`ELBO`,
    `ReverseKL`) or the log of the mean weight (`IWAE`). Estimators differ only in the gradient with respect to q: the
    value of a bound and its other gradients are the same. An objective calls `draw`, computes its value from the
    draws, and adds `score_term`.
    """

    min_draws: ClassVar[int] = 1

    @abstractmethod
    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        """`num` draws of q.

        `weights(z, log_q)` returns the normalised weights of fixed draws. Pass it if R is the log of the mean weight,
        and leave it out if R is a mean.

        **Raises:** `TypeError` if this estimator cannot differentiate the draws of q.
        """

    @abstractmethod
    def init(self, key: PRNGKeyArray, start: Start) -> tuple[Any, ...]:
        """The initial state, `()` for most estimators.

        `start(key)` returns log weights `[batch, K]` and their batch, or `None` without data.
        """

    @abstractmethod
    def score_term(self, log_w: PerDraw, score: PerDraw, reduce: Reduce, state: Any, batch: Any) -> tuple[Array, Any]:
        """A term to add to the bound, and the next state.

        The term has the value zero. Its derivative is the part of the gradient that the draws do not carry. `reduce` is
        R for one example; R is averaged over the batch.
        """


def fixed_draws(key: PRNGKeyArray, q: AbstractDistribution, num: int) -> Draws:
    """Draws that are treated as constants, with the score of q."""
    q = exact_log_det(q)
    z = jax.lax.stop_gradient(q.sample(key, (num,)))
    log_q = jax.vmap(q.log_prob)(z)
    fixed = jax.lax.stop_gradient(log_q)
    return Draws(z, fixed, log_q - fixed, without_gradient(q))
