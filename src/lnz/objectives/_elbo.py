from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from ..core import AbstractDistribution, AbstractModel, AbstractObjective
from ..distributions import closed_form_kl, is_factorised, per_component
from ..gradients import AbstractGradientEstimator, Draws, Pathwise, Score
from ..modules import check_has_data, check_positive, model_dtype
from ..spaces import same_set
from ._latent import check_gradient, each_example, log_likelihoods, normalised_prior


class _Terms(NamedTuple):
    """Terms of the bound in nats, per draw or with an axis of size one; `penalty` is the weighted KL."""

    reconstruction: Float[Array, "batch draws"]
    kl: Float[Array, "batch num"]
    penalty: Float[Array, "batch num"]
    score: Float[Array, "batch draws"]


class ELBO(AbstractObjective):
    """`mean E_q[log p(x | z)] - KL(q(z | x) || p(z))` in nats per example, by draws of q.

    A lower bound on the log-likelihood with gap `KL(q(z | x) || p(z | x))`. The loss is `-elbo`, or the part `loss`
    if an option changes it. The parts `elbo`, `reconstruction` (first term) and `kl` are unweighted. If z decides x,
    as in `lnz.latent.Dequantised`, only `elbo` remains.

    **Arguments:**

    - `num_samples`: draws of z per example.
    - `analytic_kl`: use `lnz.closed_form_kl` where defined, else the draws; both are unbiased.
    - `beta`: `loss = beta kl - reconstruction`; above 1 a looser bound, below none.
    - `num_warm_up`: steps over which beta rises linearly from 0.
    - `free_bits`: least KL in nats of each latent dimension in the loss; see `docs/vae.md`.
    - `gradient`: for the encoder, from `lnz.gradients`. Discrete latents need `LeaveOneOut()` or `Score()`. All but
      `Pathwise()` draw the KL.

    **Raises:** `ValueError` for options out of range, or `free_bits` with dependent components or different shapes;
    `TypeError` if `gradient` does not suit the posterior.

    Source: Kingma and Welling (2014), equations 3 and 10; arXiv:1312.6114. `beta`: Higgins et al. (2017).
    `num_warm_up`: Bowman et al. (2016), section 3.1; arXiv:1511.06349. `free_bits`: Kingma et al. (2016), appendix C.8;
    arXiv:1606.04934.
    """

    num_samples: int = eqx.field(static=True, default=1)
    analytic_kl: bool = eqx.field(static=True, default=True)
    beta: float = eqx.field(static=True, default=1.0)
    num_warm_up: int = eqx.field(static=True, default=0)
    free_bits: float = eqx.field(static=True, default=0.0)
    gradient: AbstractGradientEstimator = Pathwise()

    def __check_init__(self):
        check_gradient(self.gradient, self.num_samples, "ELBO")
        if self.num_warm_up:
            check_positive(self.num_warm_up, "ELBO(num_warm_up=...)")
        for name in ("beta", "free_bits"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`ELBO({name}=...)` must not be negative; got {getattr(self, name)}.")

    @property
    def moves_with_data(self) -> bool:
        """False with a baseline network, which would see examples in local coordinates."""
        return not (isinstance(self.gradient, Score) and self.gradient.baseline is not None)

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[Any, ...]:
        """The number of warm-up steps taken, if there is a warm-up, followed by the state of `gradient`."""
        rows = check_has_data(data, "ELBO")
        steps = (jnp.zeros((), jnp.int32),) if self.num_warm_up else ()

        def start(key):
            key_rows, key_draws = jr.split(key)
            some = rows[jr.randint(key_rows, (min(256, len(rows)),), 0, len(rows))]
            batch = model.space.cast(jnp.asarray(some), model_dtype(model))
            reconstruction, _, penalty, _ = eqx.filter_jit(self._terms)(key_draws, model, steps, batch)
            return reconstruction - penalty, batch

        return (*steps, *self.gradient.init(key, start))

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        num = bool(self.num_warm_up)
        steps, rest = state[:num], state[num:]
        reconstruction, kl, penalty, score = self._terms(key, model, steps, batch)
        score_term, rest = self.gradient.score_term(reconstruction - penalty, score, jnp.mean, rest, batch)
        mean, total = jnp.mean(reconstruction), jnp.mean(kl)
        loss = jnp.mean(penalty) - mean - score_term
        parts = {"elbo": mean - total}
        if not model.is_certain:
            parts |= {"reconstruction": mean, "kl": total}
        if self.free_bits or self.num_warm_up or self.beta != 1:
            parts["loss"] = loss
        return loss, ((*(jnp.minimum(step + 1, self.num_warm_up) for step in steps), *rest), parts)

    def _terms(self, key: PRNGKeyArray, model: Any, steps: tuple[Int32[Array, ""], ...], batch: Array) -> _Terms:
        def one(key, x, q):
            draws = self.gradient.draw(key, q, self.num_samples)
            return log_likelihoods(model, x, draws.z), *self._kl(draws, normalised_prior(model)), draws.score

        # `kl [batch, draws, components]`; `draws` is 1 if the KL is exact, `components` is 1 if it is the total.
        reconstruction, kl, gate, score = each_example(one, key, model, batch)
        penalty = kl
        if self.free_bits:
            penalty = jnp.where(jnp.mean(gate, axis=(0, 1), keepdims=True) > self.free_bits, kl, self.free_bits)
        beta = jnp.asarray(self.beta, kl.dtype)
        for step in steps:
            beta = beta * jnp.asarray(step).astype(kl.dtype) / self.num_warm_up
        return _Terms(reconstruction, jnp.sum(kl, axis=-1), beta * jnp.sum(penalty, axis=-1), score)

    def _kl(
        self, draws: Draws, prior: AbstractDistribution
    ) -> tuple[Float[Array, "draws components"], Float[Array, "num components"]]:
        """The KL in nats (per latent dimension with `free_bits`), and the KL that is compared with `free_bits`."""
        # The other estimators differentiate log q of draws, not the parameters of q.
        is_analytic = self.analytic_kl and isinstance(self.gradient, Pathwise)
        if self.free_bits:
            return _kl_of_components(draws, prior, is_analytic)
        kl = closed_form_kl(draws.q, prior) if is_analytic else None
        kl = draws.log_q - jax.vmap(prior.log_prob)(draws.z) if kl is None else kl
        return kl.reshape(-1, 1), kl.reshape(-1, 1)


def _kl_of_components(
    draws: Draws, prior: AbstractDistribution, is_analytic: bool
) -> tuple[Float[Array, "draws components"], Float[Array, "num components"]]:
    """The KL per component, exact or drawn as requested, and the KL in closed form if there is one."""
    q = draws.q
    if not (is_factorised(q) and is_factorised(prior)):
        raise ValueError(
            "`ELBO(free_bits=...)` needs the KL of each latent dimension, so prior and posterior must be products of "
            f"independent components, as `Normal` is; got {type(prior).__name__} and {type(q).__name__}. Use "
            "`num_warm_up` or `beta` instead."
        )
    if not same_set(q.space, prior.space):
        raise ValueError(
            f"`ELBO(free_bits=...)` needs a prior and a posterior on one space; got {prior.space} and {q.space}."
        )
    exact = per_component(closed_form_kl, q, prior)
    if exact is not None and is_analytic:
        return exact[None], exact[None]
    drawn = jax.vmap(lambda z: per_component(lambda q, p, z: q.log_prob(z) - p.log_prob(z), q, prior, z))(draws.z)
    return drawn, drawn if exact is None else exact[None]
