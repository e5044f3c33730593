"""The score-function estimator with running and learned baselines."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution
from ..modules import model_dtype
from ._estimator import AbstractGradientEstimator, Draws, PerDraw, Reduce, Start, Weights, fixed_draws


class Score(AbstractGradientEstimator):
    """`mean_k (log w_k - C(x) - c) / max(1, s) d log q(z_k)`: REINFORCE, or NVIL, if R is a mean.

    Works for any draws. `C(x)`, c and s reduce the signal `log w_k`. They are state from earlier steps, independent of
    the draw they are compared with. The gradient is an unbiased one times `1 / max(1, s)`; with `scale=False` it is
    unbiased. Arrays that the target shares with q (`lnz.latent.VampPrior`, `lnz.latent.Ladder`) follow the sum of both
    gradients, unbiased only with `scale=False`.

    **Arguments:**

    - `centre`: subtract c, the running mean of `log w - C(x)`.
    - `scale`: divide by s, its running standard deviation, if it is above 1.
    - `decay`: the decay of the running mean and variance.
    - `baseline`: C, a network from x to one number, such as `lnz.nets.MLP(784, 1, key=key)`. The objective trains it on
      the squared error of `log w - c`.
    - `optimizer`: Optax optimizer of that network.

    `Score(centre=False, scale=False)` is plain REINFORCE.

    Differs from the paper: running values start from draws for up to 256 examples, not at zero, and a step does not see
    its own.

    Source: Mnih and Gregor (2014), section 2.3 and algorithm 1; arXiv:1402.0030. Williams (1992).
    """

    centre: bool = eqx.field(static=True, default=True)
    scale: bool = eqx.field(static=True, default=True)
    decay: float = eqx.field(static=True, default=0.8)
    baseline: Any = None
    optimizer: optax.GradientTransformation = eqx.field(static=True, default=optax.adam(1e-3))

    def __check_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"`Score(decay=...)` must be at least 0 and less than 1; got {self.decay}.")
        if self.baseline is not None and not callable(self.baseline):
            raise TypeError(
                f"`Score(baseline=...)` must be a network from x to a number; got {type(self.baseline).__name__}."
            )

    def draw(self, key: PRNGKeyArray, q: AbstractDistribution, num: int, weights: Weights | None = None) -> Draws:
        return fixed_draws(key, q, num)

    def init(self, key: PRNGKeyArray, start: Start) -> tuple[Any, ...]:
        """Running mean and variance, the network, and the state of its optimizer."""
        log_w, batch = start(key)
        residual = _residual(log_w, self.baseline, batch)
        optimizer_state = () if self.baseline is None else self.optimizer.init(_params(self.baseline))
        return jnp.mean(residual), jnp.var(residual), self.baseline, optimizer_state

    def score_term(self, log_w: PerDraw, score: PerDraw, reduce: Reduce, state: Any, batch: Any) -> tuple[Array, Any]:
        mean, variance, baseline, optimizer_state = state
        signal = jax.lax.stop_gradient(log_w)
        residual = _residual(signal, baseline, batch)
        centred = residual - mean if self.centre else residual
        scaled = centred / jnp.maximum(1, jnp.sqrt(variance)) if self.scale else centred
        baseline, optimizer_state = self._train(baseline, optimizer_state, batch, jnp.mean(signal, axis=1) - mean)
        state = (
            self.decay * mean + (1 - self.decay) * jnp.mean(residual),
            self.decay * variance + (1 - self.decay) * jnp.var(residual),
            baseline,
            optimizer_state,
        )
        return jnp.mean(scaled * score), state

    def _train(self, baseline: Any, optimizer_state: Any, batch: Any, target: Float[Array, " batch"]) -> tuple:
        """One step of the baseline network towards the target."""
        if baseline is None:
            return baseline, optimizer_state
        params = _params(baseline)

        def error(params):
            return jnp.mean(_residual(target, eqx.combine(params, baseline), batch) ** 2)

        gradient = jax.grad(error)(params)
        # As in `lnz.Gradient`: Optax mixes integer step counts with floats.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = self.optimizer.update(gradient, optimizer_state, params)
        return eqx.combine(optax.apply_updates(params, updates), baseline), optimizer_state


def _params(baseline: Any) -> Any:
    return eqx.filter(baseline, eqx.is_inexact_array)


def _residual(signal: Float[Array, "batch *draws"], baseline: Any, batch: Any) -> Float[Array, "batch *draws"]:
    """The signal minus the prediction of the baseline network."""
    if baseline is None:
        return signal
    if batch is None:
        raise ValueError(
            "`Score(baseline=...)` is a network of x, but this objective has no examples. Leave it out, or use "
            "`lnz.gradients.LeaveOneOut()`."
        )

    def one(signal, x):
        value = baseline(x.astype(model_dtype(baseline)))
        if value.size != 1:
            raise ValueError(f"`Score(baseline=...)` must return one number; got shape {value.shape}.")
        return signal - value.reshape((1,) * signal.ndim)

    return jax.vmap(one)(signal, batch)
