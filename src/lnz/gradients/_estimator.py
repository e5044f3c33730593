"""The interface of gradient estimators, and the draws that they differentiate."""

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
    """K draws `z` of a distribution `q` and `log_q`, their log densities in nats, as an estimator differentiates them.

    `q` is the distribution that gives `log_q` with these derivatives. `score` is zero in value: with the score family
    its derivative is that of log q at fixed draws, with the pathwise family it has none.
    """

    z: Array
    log_q: Float[Array, " K"]
    score: Float[Array, " K"]
    q: AbstractDistribution


class AbstractGradientEstimator(eqx.Module):
    """An estimator of the gradient of `E_q[R(log w_1, ..., log w_K)]` in the parameters of q, by K draws of q.

    `log w_k` is the log weight of a draw, such as `log p(x, z_k) - log q(z_k)`, and R is their mean (`ELBO`,
    `ReverseKL`) or the log of the mean weight (`IWAE`). The value of a bound and its gradient in everything but q are
    the same with each estimator. An objective makes draws by `draw`, computes its value from them, and adds
    `score_term`.
    """

    min_draws: ClassVar[int] = 1

    @abstractmethod
    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        """`num` draws of q.

        `weights(z, log_q)` gives the normalised weights of fixed draws where R is the log of the mean weight; leave it
        out where R is a mean.

        **Raises:** `TypeError` for a q whose draws this estimator cannot differentiate.
        """

    @abstractmethod
    def init(self, key: PRNGKeyArray, start: Start) -> tuple[Any, ...]:
        """The state at the start, `()` for most.

        `start(key)` gives log weights `[batch, K]` and the batch that they belong to, `None` without data.
        """

    @abstractmethod
    def score_term(self, log_w: PerDraw, score: PerDraw, reduce: Reduce, state: Any, batch: Any) -> tuple[Array, Any]:
        """A zero to add to the bound, whose derivative is the part of the gradient that the draws lack; the next state.

        `reduce` is R, for one example. R is averaged over the batch.
        """


def fixed_draws(key: PRNGKeyArray, q: AbstractDistribution, num: int) -> Draws:
    """Draws that count as constants, with the score of q."""
    q = exact_log_det(q)
    z = jax.lax.stop_gradient(q.sample(key, (num,)))
    log_q = jax.vmap(q.log_prob)(z)
    fixed = jax.lax.stop_gradient(log_q)
    return Draws(z, fixed, log_q - fixed, without_gradient(q))
