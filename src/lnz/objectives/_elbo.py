from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from ..core import AbstractDistribution, AbstractModel, AbstractObjective, exact_log_det
from ..distributions import closed_form_kl, is_factorised, per_component
from ..modules import check_has_data, check_positive
from ..spaces import same_set
from ._constant import constant
from ._latent import check_reparameterised, each_example, log_likelihoods, normalised_prior


class ELBO(AbstractObjective):
    """`mean E_q[log p(x | z)] - KL(q(z | x) || p(z))` in nats per example, by reparameterised draws.

    A lower bound on the log-likelihood; the gap is `KL(q(z | x) || p(z | x))`. Its negative is the loss, unless one of
    the options below changes what is minimised. The parts never change with them: `elbo`, `reconstruction` (the first
    term) and `kl` (the second, so that `elbo = reconstruction - kl`) are those of the model, unweighted. Where z
    decides x, as in `lnz.latent.Dequantised`, the first term is zero and `elbo` stands alone. What is minimised stands
    beside them as `loss` where it is not `-elbo`.

    **Arguments:**

    - `num_samples`: draws of z an example.
    - `analytic_kl`: the KL in closed form where there is one, `lnz.closed_form_kl`, else by the same draws. Either is
      unbiased; with a posterior near the true one, drawn KLs cancel noise of the reconstruction.
    - `beta`: the loss is `beta kl - reconstruction`. Above 1 it is a looser bound, below 1 none.
    - `num_warm_up`: for so many steps beta rises in equal steps from 0. The steps are the objective's state.
    - `free_bits`: in nats. For each latent dimension the loss has `max(free_bits, KL)`, the KL averaged over the batch:
      dimensions that say less are not pressed further. Prior and posterior must be products of independent components.
      Which dimensions those are is decided by the KL in closed form, also where `analytic_kl=False` or
      `sticking_the_landing` has the penalty itself drawn, so that it has no bias. Of a pair of distributions without a
      closed form the decision is drawn too: then the penalty is too large in expectation (the maximum is convex), and
      its gradient biased, near `free_bits`, by less the more examples and draws there are.
    - `sticking_the_landing`: leave out the score, the part of the gradient through the parameters of `log q` at fixed
      z, whose expectation is zero. The gradient stays unbiased, and vanishes in every draw where q is the true
      posterior; far from there it may vary more. The KL is then by draws, and log-determinants of q are exact. It needs
      log q of given points beside the draws: for a flow, an inverse.

    **Raises:** `ValueError` for options out of range, or `free_bits` with components that are not independent or of
    different shapes;
    `TypeError` for a posterior whose draws have no pathwise gradient.

    Source: Kingma and Welling (2014), equations 3 and 10; arXiv:1312.6114. `beta`: Higgins et al. (2017).
    `num_warm_up`: Bowman et al. (2016), section 3.1; arXiv:1511.06349. `free_bits`: Kingma et al. (2016), appendix C.8;
    arXiv:1606.04934. `sticking_the_landing`: Roeder, Wu and Duvenaud (2017); arXiv:1703.09194.
    """

    moves_with_data: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=1)
    analytic_kl: bool = eqx.field(static=True, default=True)
    beta: float = eqx.field(static=True, default=1.0)
    num_warm_up: int = eqx.field(static=True, default=0)
    free_bits: float = eqx.field(static=True, default=0.0)
    sticking_the_landing: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_positive(self.num_samples, "ELBO(num_samples=...)")
        if self.num_warm_up:
            check_positive(self.num_warm_up, "ELBO(num_warm_up=...)")
        for name in ("beta", "free_bits"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`ELBO({name}=...)` must not be negative; got {getattr(self, name)}.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> Any:
        """The number of steps taken, as far as it matters."""
        check_has_data(data, "ELBO")
        return jnp.zeros((), jnp.int32) if self.num_warm_up else ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        def one(key, x, q):
            z, log_q, q = self._draw(key, q)
            return jnp.mean(log_likelihoods(model, x, z)), *self._kl(q, normalised_prior(model), z, log_q)

        reconstruction, kl, gate = each_example(one, key, model, batch)
        # With free bits kl and gate are [dims].
        reconstruction, kl, gate = jnp.mean(reconstruction), jnp.mean(kl, axis=0), jnp.mean(gate, axis=0)
        total = jnp.sum(kl)
        parts = {"elbo": reconstruction - total}
        if not model.is_certain:
            parts |= {"reconstruction": reconstruction, "kl": total}
        penalty = jnp.sum(jnp.where(gate > self.free_bits, kl, self.free_bits)) if self.free_bits else total
        loss = self._beta(state, penalty.dtype) * penalty - reconstruction
        if self.free_bits or self.num_warm_up or self.beta != 1:
            parts["loss"] = loss
        return loss, (self._next(state), parts)

    def _draw(self, key, q):
        """z, log q at each (with all of its gradient that is wanted), and q as the KL by draws shall see it."""
        check_reparameterised(q)
        if self.sticking_the_landing:
            z = q.sample(key, (self.num_samples,))
            q = constant(exact_log_det(q))
            return z, jax.vmap(q.log_prob)(z), q
        return *q.sample_and_log_prob(key, (self.num_samples,)), q

    def _kl(self, q: AbstractDistribution, prior: AbstractDistribution, z: Array, log_q: Array) -> tuple[Array, Array]:
        """The KL in nats, with `free_bits` that of each latent dimension; and what is compared with `free_bits`."""
        is_analytic = self.analytic_kl and not self.sticking_the_landing
        if self.free_bits:
            return _kl_of_components(q, prior, z, is_analytic)
        kl = closed_form_kl(q, prior) if is_analytic else None
        kl = jnp.mean(log_q - jax.vmap(prior.log_prob)(z)) if kl is None else kl
        return kl, kl

    def _beta(self, state: Int32[Array, ""] | tuple[()], dtype: Any) -> Array:
        beta = jnp.asarray(self.beta, dtype)
        return beta * jnp.asarray(state).astype(dtype) / self.num_warm_up if self.num_warm_up else beta

    def _next(self, state: Int32[Array, ""] | tuple[()]) -> Any:
        return jnp.minimum(jnp.asarray(state) + 1, self.num_warm_up) if self.num_warm_up else state


def _kl_of_components(
    q: AbstractDistribution, prior: AbstractDistribution, z: Array, is_analytic: bool
) -> tuple[Float[Array, " components"], Float[Array, " components"]]:
    """The KL as it is wanted, and in closed form where there is one."""
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
        return exact, exact
    draws = jax.vmap(lambda z: per_component(lambda q, p, z: q.log_prob(z) - p.log_prob(z), q, prior, z))(z)
    drawn = jnp.mean(draws, axis=0)
    return drawn, drawn if exact is None else exact
