"""Objectives for latent variables whose draws have no pathwise gradient, such as bits: by the score function."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, AbstractModel, AbstractObjective, exact_log_det
from ..modules import check_has_data, check_positive, model_dtype
from ._latent import each_example, log_likelihoods, normalised_prior


class Scored(NamedTuple):
    """Logarithms at draws of q, which count as constants, in nats."""

    log_q: Float[Array, "*batch samples"]
    log_prior: Float[Array, "*batch samples"]
    log_likelihood: Float[Array, "*batch samples"]

    @property
    def log_joint(self) -> Float[Array, "*batch samples"]:
        return self.log_likelihood + self.log_prior

    @property
    def log_w(self) -> Float[Array, "*batch samples"]:
        return self.log_joint - self.log_q


def score(key: PRNGKeyArray, model: Any, batch: Array, num_samples: int) -> Scored:
    """Draws of q for each example, which no gradient passes, scored by everything."""

    def one(key, x, q: AbstractDistribution):
        q = exact_log_det(q)
        z = jax.lax.stop_gradient(q.sample(key, (num_samples,)))
        return Scored(
            jax.vmap(q.log_prob)(z), jax.vmap(normalised_prior(model).log_prob)(z), log_likelihoods(model, x, z)
        )

    return each_example(one, key, model, batch)


def elbo_parts(scored: Scored) -> dict[str, Float[Array, ""]]:
    elbo, reconstruction = jnp.mean(scored.log_w), jnp.mean(scored.log_likelihood)
    return {"elbo": elbo, "reconstruction": reconstruction, "kl": reconstruction - elbo}


def gradient_only(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Zeros with the derivatives of x."""
    return x - jax.lax.stop_gradient(x)


class VIMCO(AbstractObjective):
    """`-mean log (1/K) sum_k p(x, z_k) / q(z_k | x)` for any latent variables, discrete ones too.

    The loss and its parts are those of `IWAE`; the gradient is unbiased, by the score function. Each draw is judged by
    how much it raises the bound above what the other draws make of it: `sum_k (L - L_k) d log q(z_k | x) + sum_k v_k d
    log w_k`, where `L_k` is the bound with `w_k` replaced by the geometric mean of the others, and `v_k` are the
    normalised weights. No baseline has to be learned.

    **Arguments:**

    - `num_samples`: K, at least 2.

    Source: Mnih and Rezende (2016); arXiv:1602.06725.
    """

    num_samples: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        if check_positive(self.num_samples, "VIMCO(num_samples=...)") < 2:
            raise ValueError(
                "`VIMCO(num_samples=...)` must be at least 2, for draws are compared with each other; got 1. With one "
                "draw use `lnz.objectives.NVIL`."
            )

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "VIMCO")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        scored = score(key, model, batch, self.num_samples)
        log_w, log_num = scored.log_w, jnp.log(self.num_samples)
        bounds = logsumexp(log_w, axis=1) - log_num
        others = jax.vmap(_sums_without_one)(log_w) - log_num
        signal = jax.lax.stop_gradient(bounds[:, None] - others)
        bound = jnp.mean(bounds)
        loss = -bound - jnp.mean(jnp.sum(signal * gradient_only(scored.log_q), axis=1))
        return loss, (state, {"iwae": bound, "elbo": jnp.mean(log_w)})


def _sums_without_one(log_w: Float[Array, " K"]) -> Float[Array, " K"]:
    """`log sum_j w_j` with each weight in turn replaced by the geometric mean of the others."""
    num = len(log_w)
    is_self = jnp.eye(num, dtype=bool)
    # Summed afresh, not as a total minus one: a weight that rules the total would leave nothing but rounding.
    table = jnp.broadcast_to(log_w, (num, num))
    mean = jnp.sum(jnp.where(is_self, 0, table), axis=1) / (num - 1)
    return logsumexp(jnp.where(is_self, jnp.broadcast_to(mean[:, None], (num, num)), table), axis=1)


class NVIL(AbstractObjective):
    """`-mean E_q[log p(x, z) - log q(z | x)]` for any latent variables, discrete ones too.

    The loss is minus the ELBO, with parts as those of `ELBO`. The gradient is by the score function: for the encoder
    `(signal - C(x) - c) / max(1, s) d log q(z | x)`, where the signal is `log p(x, z) - log q(z | x)`, and `C(x)`, c
    and s make it small. All three are of earlier steps, so that they do not depend on the draw that they are compared
    with, and live in the objective's state. So the gradient of decoder and prior is unbiased, and that of the encoder
    is `1 / max(1, s)` times an unbiased one; with `scale=False` it is unbiased too. Arrays that prior or decoder share
    with the encoder (`lnz.latent.VampPrior`, `lnz.latent.Ladder`) follow the sum, unbiased with `scale=False` alone.

    **Arguments:**

    - `num_samples`: draws of z an example.
    - `centre`: subtract c, the running mean of `signal - C(x)`.
    - `scale`: divide by s, its running standard deviation, where it is above 1.
    - `decay`: of the running mean and variance.
    - `baseline`: a network from x to one number, such as `lnz.nets.MLP(784, 1, key=key)`; the objective trains it
      beside the model, on the squared error of `signal - c`.
    - `optimizer`: of the network, from Optax.

    Without any of the three, `NVIL(centre=False, scale=False)`, it is plain REINFORCE.

    Differs from the paper: running values start from up to 256 examples of the data rather than zero, and a step
    does not see its own.

    Source: Mnih and Gregor (2014), section 2.3 and algorithm 1; arXiv:1402.0030. Williams (1992).
    """

    num_samples: int = eqx.field(static=True, default=1)
    centre: bool = eqx.field(static=True, default=True)
    scale: bool = eqx.field(static=True, default=True)
    decay: float = eqx.field(static=True, default=0.8)
    baseline: Any = None
    optimizer: optax.GradientTransformation = eqx.field(static=True, default=optax.adam(1e-3))

    def __check_init__(self):
        check_positive(self.num_samples, "NVIL(num_samples=...)")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`NVIL(decay=...)` must be at least 0 and less than 1; got {self.decay}.")
        if self.baseline is not None and not callable(self.baseline):
            raise TypeError(
                f"`NVIL(baseline=...)` must be a network from x to a number; got {type(self.baseline).__name__}."
            )

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> Any:
        """Running mean and variance, the network, and the state of its optimizer."""
        data = check_has_data(data, "NVIL")
        key_rows, key_draws = jr.split(key)
        rows = jr.randint(key_rows, (min(256, len(data)),), 0, len(data))
        batch = model.space.cast(jnp.asarray(data[rows]), model_dtype(model))
        mean, variance = _moments(key_draws, model, self.baseline, batch, self.num_samples)
        optimizer_state = () if self.baseline is None else self.optimizer.init(_params(self.baseline))
        return mean, variance, self.baseline, optimizer_state

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        mean, variance, baseline, optimizer_state = state
        scored = score(key, model, batch, self.num_samples)
        signal = jax.lax.stop_gradient(scored.log_w)
        residual = _residual(signal, baseline, batch)
        centred = residual - mean if self.centre else residual
        scaled = centred / jnp.maximum(1, jnp.sqrt(variance)) if self.scale else centred
        value = jax.lax.stop_gradient(-jnp.mean(signal))
        loss = value - jnp.mean(gradient_only(scored.log_joint) + scaled * gradient_only(scored.log_q))
        baseline, optimizer_state = self._train(baseline, optimizer_state, batch, jnp.mean(signal, axis=1) - mean)
        state = (
            self.decay * mean + (1 - self.decay) * jnp.mean(residual),
            self.decay * variance + (1 - self.decay) * jnp.var(residual),
            baseline,
            optimizer_state,
        )
        return loss, (state, elbo_parts(scored))

    def _train(self, baseline: Any, optimizer_state: Any, batch: Array, target: Float[Array, " batch"]) -> tuple:
        """One step of the network towards the target."""
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


def _residual(signal: Float[Array, "batch *samples"], baseline: Any, batch: Array) -> Float[Array, "batch *samples"]:
    """What the network does not foresee."""
    if baseline is None:
        return signal

    def one(signal, x):
        value = baseline(x.astype(model_dtype(baseline)))
        if value.size != 1:
            raise ValueError(f"`NVIL(baseline=...)` must return one number; got shape {value.shape}.")
        return signal - value.reshape((1,) * signal.ndim)

    return jax.vmap(one)(signal, batch)


@eqx.filter_jit
def _moments(
    key: PRNGKeyArray, model: Any, baseline: Any, batch: Array, num_samples: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    residual = _residual(score(key, model, batch, num_samples).log_w, baseline, batch)
    return jnp.mean(residual), jnp.var(residual)
