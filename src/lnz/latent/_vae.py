from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._density import AbstractDistribution
from .._model import AbstractLatentModel
from .._register import register
from .._space import AbstractSpace


@register
class VAE(AbstractLatentModel):
    """Variational autoencoder, `p(x) = int decoder(z)(x) prior(z) dz`, with `encoder(x)` near `p(z | x)`.

    Train it with `lnz.objectives.ELBO` or `IWAE`; its likelihood is estimated by
    `lnz.evaluate(..., hidden=lnz.normalizers.Importance(5000))`, a lower bound, not by the training loss.

    **Arguments:**

    - `prior`: distribution of z.
    - `decoder`: from z to the distribution of x.
    - `encoder`: from x to a distribution of z, or `None`.

    Source: Kingma and Welling (2014); arXiv:1312.6114. Rezende, Mohamed and Wierstra (2014); arXiv:1401.4082.
    """

    prior: AbstractDistribution
    decoder: Callable[[Array], AbstractDistribution]
    encoder: Callable[[Array], AbstractDistribution] | None

    @property
    def space(self) -> AbstractSpace:
        z = jnp.zeros(self.prior.space.shape, jnp.int32 if self.prior.space.kind == "int" else float)
        return eqx.filter_eval_shape(self.decoder, z).space

    def likelihood(self, z: Array) -> AbstractDistribution:
        return self.decoder(z)

    def posterior(self, x: Array) -> AbstractDistribution | None:
        return None if self.encoder is None else self.encoder(self.space.check_example(x))
