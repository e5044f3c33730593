"""Training of latent-variable models whose prior is an energy model, known only up to a constant."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractBlockDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractLatentModel,
    AbstractModel,
    AbstractObjective,
)
from ..modules import check_has_data, check_positive, model_dtype, without_gradient
from ..spaces import AbstractSpace
from ._contrastive import advance_chains, start_chains


class EnergyPrior(AbstractObjective):
    """Adds the negative phase of a prior `p(z) = exp(-E(z)) / Z` to any objective of latent-variable models.

    `loss = objective with log p~(z) in place of log p(z), + mean log p~(z')`. The z' are persistent chains of the
    prior, treated as constants, so the gradient of the last term estimates the gradient of log Z. Only the gradient of
    the loss is meaningful. With `ELBO`-like objectives it is the gradient of
    `-E_q[log p(x | z) + log p~(z) - log q(z | x)] + log Z`, nearly unbiased while the chains keep up, as in `PCD`.
    Parts that lack log Z are named `unnormalised_...`: `unnormalised_elbo` is the ELBO plus log Z.

    **Arguments:**

    - `objective`: an objective that suits the posterior. For bits, give it `gradient=lnz.gradients.LeaveOneOut()`.
    - `num_chains`: number of persistent chains.
    - `sweeps`: Gibbs sweeps per update.

    **Raises:** `TypeError` for a prior whose blocks cannot be sampled, or that is already normalised.

    Source: Rolfe (2017); arXiv:1609.02200. The paper relaxes the bits; here they stay bits, and `objective` handles the
    gradient of the posterior. Chains: Tieleman (2008), section 3; Younes (1989).
    """

    objective: AbstractObjective
    num_chains: int = eqx.field(static=True, default=100)
    sweeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if not isinstance(self.objective, AbstractObjective):
            raise TypeError(f"`EnergyPrior(objective=...)` must be one of lnz.objectives; got {self.objective!r}.")
        check_positive(self.num_chains, "EnergyPrior(num_chains=...)")
        check_positive(self.sweeps, "EnergyPrior(sweeps=...)")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[Any, tuple[Array, ...]]:
        """The state of `objective`, and chains that start at draws of the posterior given examples of `data`."""
        latent, prior = _check_model(model)
        data = check_has_data(data, "EnergyPrior")
        key_rows, key_z, key_chains, key_objective = jr.split(key, 4)
        rows = data[jr.randint(key_rows, (self.num_chains,), 0, len(data))]
        rows = latent.space.cast(rows, model_dtype(latent))

        def draw(key, x):
            posterior = latent.posterior(x)
            start = prior.path().start if posterior is None else posterior
            return start.sample(key)

        z = jax.vmap(draw)(jr.split(key_z, self.num_chains), rows)
        chains = start_chains(key_chains, prior, z)
        return self.objective.init(key_objective, UpToConstant(latent), data), chains

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        _, prior = _check_model(model)
        inner, chains = state
        key_objective, key_chains = jr.split(key)
        loss, (inner, parts) = self.objective.loss(key_objective, UpToConstant(model), inner, batch)
        chains = advance_chains(key_chains, without_gradient(prior), chains, self.sweeps)
        z = jax.lax.stop_gradient(jax.vmap(prior.join)(chains))
        negative = jnp.mean(jax.vmap(prior.log_density)(z))
        # Of the usual parts, only `reconstruction` does not involve the prior.
        parts = {name if name == "reconstruction" else f"unnormalised_{name}": value for name, value in parts.items()}
        return loss + negative, ((inner, chains), {**parts, "free_energy_chains": -negative})


def _check_model(model: Any) -> tuple[AbstractLatentModel, AbstractBlockDensity]:
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"`EnergyPrior` needs a latent-variable model, such as a VAE; got {type(model).__name__}.")
    prior = model.prior
    if isinstance(prior, AbstractDistribution):
        raise TypeError(
            f"`EnergyPrior`: the prior, {type(prior).__name__}, is normalised. Use the objective without this wrapper."
        )
    if not isinstance(prior, AbstractBlockDensity):
        raise TypeError(
            f"`EnergyPrior` needs a prior whose blocks can be sampled, such as `lnz.energy.RBM`; got "
            f"{type(prior).__name__}."
        )
    return model, prior


class UpToConstant(AbstractLatentModel):
    """A view of a latent-variable model for objectives, which treat its prior as normalised."""

    model: AbstractLatentModel

    @property
    def space(self) -> AbstractSpace:
        return self.model.space

    @property
    def prior(self) -> "TakenForNormalised":
        return TakenForNormalised(self.model.prior)

    def likelihood(self, z: Array) -> AbstractDistribution:
        return self.model.likelihood(z)

    def posterior(self, x: Array) -> AbstractDistribution | None:
        return self.model.posterior(x)


class TakenForNormalised(AbstractDistribution):
    """A density treated as normalised: the caller accounts for its log normaliser. It cannot be sampled."""

    density: AbstractDensity

    @property
    def space(self) -> AbstractSpace:
        return self.density.space

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        return self.density.log_density(x)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        raise TypeError(
            f"This objective draws from the prior, but {type(self.density).__name__} has no exact draws. Use an "
            "objective that draws from the posterior only, such as `lnz.objectives.ELBO`."
        )

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return self.sample(key, shape), jnp.zeros(shape)
