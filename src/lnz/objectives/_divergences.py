"""Objectives that fit a distribution to a density known up to a constant, without data."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from ..core import AbstractDensity, AbstractDistribution, AbstractModel, AbstractObjective
from ..gradients import AbstractGradientEstimator, Draws, Pathwise
from ..modules import check_positive
from ..spaces import same_set
from ._latent import check_gradient


class ReverseKL(AbstractObjective):
    """`E_q[log q(z) - log p~(z)]` in nats: fits the trained distribution q to a fixed density p~.

    With a flow as q this is variational inference. The negative loss is a lower bound on the log normaliser of the
    target. Data are not used: call `fit` with `data=None`. The divergence is mode-seeking: it hardly penalises a q that
    misses a mode.

    **Arguments:**

    - `target`: the unnormalised density, such as `lnz.condition(model, data)`.
    - `num_samples`: draws per step.
    - `gradient`: the gradient estimator, from `lnz.gradients`; it does not change the value of the loss. With
      `StickingTheLanding()` the variance of the gradient vanishes if q equals the target up to its constant. With
      `LeaveOneOut()` or `Score()` the distribution may be discrete, and the target needs no gradient.
    - `num_annealed`: number of steps with a tempered target, `p~^beta`. Beta rises from 0.01 to 1 in equal steps, so
      that q can find modes it would otherwise miss. The part `elbo` always refers to the untempered target.

    Source: Rezende and Mohamed (2015), equations 15 and 20; arXiv:1505.05770.
    """

    target: AbstractDensity
    num_samples: int = eqx.field(static=True, default=32)
    gradient: AbstractGradientEstimator = Pathwise()
    num_annealed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        check_gradient(self.gradient, self.num_samples, "ReverseKL")
        if self.num_annealed:
            check_positive(self.num_annealed, "ReverseKL(num_annealed=...)")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[Any, ...]:
        """The number of steps taken, if the target is tempered, followed by the state of `gradient`."""
        _check_spaces(model, self.target, "ReverseKL")
        steps = (jnp.zeros((), jnp.int32),) if self.num_annealed else ()

        def start(key):
            draws, log_p, beta = eqx.filter_jit(self._draw)(key, model, steps)
            return (beta * log_p - draws.log_q)[None], None

        return (*steps, *self.gradient.init(key, start))

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array | None
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        num = bool(self.num_annealed)
        steps, rest = state[:num], state[num:]
        draws, log_p, beta = self._draw(key, model, steps)
        log_w = beta * log_p - draws.log_q
        score_term, rest = self.gradient.score_term(log_w[None], draws.score[None], jnp.mean, rest, None)
        parts = {"elbo": jnp.mean(log_p - draws.log_q)}
        return -jnp.mean(log_w) - score_term, ((*(step + 1 for step in steps), *rest), parts)

    def _draw(
        self, key: PRNGKeyArray, model: Any, steps: tuple[Int32[Array, ""], ...]
    ) -> tuple[Draws, Float[Array, " draws"], Float[Array, ""]]:
        """Draws, the log density of the target at the draws, and the inverse temperature of the target."""
        draws = self.gradient.draw(key, model, self.num_samples)
        log_p = jax.vmap(self.target.log_density)(draws.z)
        beta = jnp.ones((), log_p.dtype)
        for step in steps:
            beta = jnp.minimum(0.01 + 0.99 * step.astype(log_p.dtype) / self.num_annealed, 1)
        return draws, log_p, beta


class ForwardKL(AbstractObjective):
    """`KL(p || q)` in nats, by self-normalised importance sampling from q itself: fits q where the target has mass.

    `loss = sum_i w_i (-log q(z_i))` with `z_i ~ q` and `w_i` proportional to `p~(z_i) / q(z_i)`, summing to one. Draws
    and weights are treated as constants. Only the gradient of the loss is meaningful. It estimates the gradient of
    `KL(p || q)` in q, with a self-normalisation bias of order `1 / num_samples`. Neither target nor draws need be
    differentiable. q cannot learn mass that it never draws: start with a q wider than the target. Call `fit` with
    `data=None`.

    The parts:

    - `forward_kl`: `sum_i w_i log w_i + log num_samples`, which estimates `KL(p || q)`. It is too small if few weights
      dominate: at most `log num_samples`.
    - `log_normalizer`: `log (1/n) sum_i p~(z_i) / q(z_i)`, a lower bound in expectation on the target's.
    - `ess_fraction`: effective sample size `1 / sum_i w_i^2` over `num_samples`, from 0 to 1. Near `1 / num_samples` a
      single draw dominates the step.

    **Arguments:**

    - `target`: the unnormalised density.
    - `num_samples`: draws per step, at least 2.

    Source: Bornschein and Bengio (2015), the wake-phase update of q; arXiv:1406.2751.
    """

    target: AbstractDensity
    num_samples: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        if check_positive(self.num_samples, "ForwardKL(num_samples=...)") < 2:
            raise ValueError("`ForwardKL(num_samples=...)` must be at least 2: a single weight is always 1; got 1.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        _check_spaces(model, self.target, "ForwardKL")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array | None
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        z, drawn_log_q = jax.lax.stop_gradient(model.sample_and_log_prob(key, (self.num_samples,)))
        log_w = jax.lax.stop_gradient(jax.vmap(self.target.log_density)(z) - drawn_log_q)
        log_total = logsumexp(log_w)
        w = jnp.exp(log_w - log_total)
        loss = -jnp.sum(w * jax.vmap(model.log_prob)(z))
        log_num = jnp.log(jnp.asarray(self.num_samples, w.dtype))
        parts = {
            # A draw of weight zero adds nothing, the limit of w log w.
            "forward_kl": jnp.sum(jnp.where(w > 0, w * (log_w - log_total), 0)) + log_num,
            "log_normalizer": log_total - log_num,
            "ess_fraction": 1 / (self.num_samples * jnp.sum(w**2)),
        }
        return loss, (state, parts)


def _check_spaces(model: Any, target: AbstractDensity, name: str) -> None:
    if not isinstance(model, AbstractDistribution):
        raise TypeError(
            f"`{name}` trains a distribution that can be sampled and scored, such as a flow; got "
            f"{type(model).__name__}."
        )
    if not same_set(model.space, target.space):
        raise ValueError(f"`{name}(target=...)` lives on {target.space}, but the model on {model.space}.")
