from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractDensity,
    AbstractDistribution,
    AbstractLatentModel,
    origins_of_autoencoder,
    space_made_by,
    space_of_conditional,
)
from ..distributions import Conditional, distribution_given
from ..modules import model_dtype, replace
from ..spaces import AbstractSpace, same_set
from ._start import start_prior


class VAE(AbstractLatentModel):
    """Variational autoencoder, `p(x) = int decoder(z)(x) prior(z) dz`, with `encoder(x)` near `p(z | x)`.

    Train it with `lnz.objectives.ELBO` or `IWAE`. Estimate its likelihood by
    `lnz.evaluate(..., hidden=lnz.normalizers.Importance(5000))`, a lower bound, not by the training loss.

    **Arguments:**

    - `prior`: a distribution of z; or a function from the encoder to one, such as `lnz.latent.VampPrior`, so that the
      encoder is not stored twice; or a density known up to a constant, such as `lnz.energy.RBM`, whose log Z is then
      the denominator of the likelihood (train with `lnz.objectives.EnergyPrior`). The field `given_prior` keeps it as
      given; `vae.prior` is always the density, made from the current encoder.
    - `decoder`: from z to the distribution of x.
    - `encoder`: from x to a distribution of z, or `None`.

    A `lnz.Conditional` as encoder or decoder reads whole numbers rescaled: see `lnz.distributions.distribution_given`.

    **Raises:** `ValueError` if the prior is a function of the encoder and there is none, or if shapes do not fit;
    `TypeError` if a decoder or an encoder does not return a distribution, or is passed as the prior.

    Source: Kingma and Welling (2014); arXiv:1312.6114. Rezende, Mohamed and Wierstra (2014); arXiv:1401.4082.
    """

    given_prior: AbstractDensity | Callable[[Callable[[Array], AbstractDistribution]], AbstractDistribution]
    decoder: Callable[[Array], AbstractDistribution]
    encoder: Callable[[Array], AbstractDistribution] | None

    def __init__(
        self,
        prior: AbstractDensity | Callable[[Callable[[Array], AbstractDistribution]], AbstractDistribution],
        decoder: Callable[[Array], AbstractDistribution],
        encoder: Callable[[Array], AbstractDistribution] | None,
    ):
        self.given_prior, self.decoder, self.encoder = prior, decoder, encoder

    def __check_init__(self):
        if isinstance(self.given_prior, Conditional):
            raise TypeError(
                "`VAE(prior, decoder, encoder)`: the prior comes first, and is a distribution, such as "
                "`lnz.Normal.standard(20)`; got a Conditional."
            )
        if self.encoder is None and not isinstance(self.given_prior, AbstractDensity):
            raise ValueError(
                f"`VAE(prior={type(self.given_prior).__name__}, encoder=None)`: this prior is a function of the "
                "encoder. Pass an encoder, or a distribution such as `lnz.Normal.standard(20)` as prior."
            )
        self._check_parts()

    def _check_parts(self):
        """Raises as the class says. Only shapes are traced: nothing is computed."""
        latent = eqx.filter_eval_shape(_latent_space, self)
        z = jax.ShapeDtypeStruct(latent.shape, jnp.int32 if latent.kind == "int" else model_dtype(self))
        words = f"a latent variable of shape {latent.shape}, as the prior has (in `VAE(prior, decoder, encoder)`)"
        x_space = space_of_conditional(self.decoder, z, "VAE(decoder=...)", words)
        if self.encoder is None:
            return
        x = jax.ShapeDtypeStruct(x_space.shape, jnp.int32 if x_space.kind == "int" else model_dtype(self))
        words = f"an example of shape {x_space.shape}, as the decoder makes"
        q_space = space_of_conditional(self.encoder, x, "VAE(encoder=...)", words)
        if not same_set(q_space, latent):
            raise ValueError(
                f"`VAE(prior, decoder, encoder)` needs one latent space; the prior lives on {latent}, the encoder's "
                f"distributions on {q_space}."
            )

    @property
    def prior(self) -> AbstractDensity:
        if isinstance(self.given_prior, AbstractDensity):
            return self.given_prior
        return self._prior_on(self.space)

    def _prior_on(self, space: AbstractSpace | None) -> AbstractDensity:
        """The prior, made by an encoder of examples of `space`. For `None`, only its shapes are right."""
        if isinstance(self.given_prior, AbstractDensity):
            return self.given_prior
        encoder = self.encoder
        assert encoder is not None
        return self.given_prior(encoder if space is None else lambda x: distribution_given(encoder, x, space))

    @property
    def space(self) -> AbstractSpace:
        latent = eqx.filter_eval_shape(_latent_space, self)
        z = jax.ShapeDtypeStruct(latent.shape, jnp.int32 if latent.kind == "int" else model_dtype(self))
        return eqx.filter_eval_shape(space_made_by, self.decoder, z)

    def origins(self) -> tuple[Any, ...]:
        """The origins of decoder and encoder, if both have some; none under a prior that is made of examples."""
        if not isinstance(self.given_prior, AbstractDensity):
            return ()
        return origins_of_autoencoder(self.decoder, self.encoder)

    def initialise(self, key: PRNGKeyArray, data: Array) -> "VAE":
        """The model with its prior started from data, if the prior takes its start from data.

        A function of the encoder starts from `data`, a flow from draws of `encoder(x)`.
        """
        return replace(self, given_prior=start_prior(key, self.given_prior, self, data))

    def likelihood(self, z: Array) -> AbstractDistribution:
        if jnp.issubdtype(z.dtype, jnp.floating):
            return self.decoder(z)
        return distribution_given(self.decoder, z, self.prior.space)

    def posterior(self, x: Array) -> AbstractDistribution | None:
        if self.encoder is None:
            return None
        space = self.space
        return distribution_given(self.encoder, space.check_example(x), space)


def _latent_space(vae: VAE) -> AbstractSpace:
    return vae._prior_on(None).space
