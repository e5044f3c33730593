"""Models with layers of latent variables, and the ways to infer them."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractDistribution,
    AbstractLatentModel,
    input_origins,
    origins_of_autoencoder,
)
from ..distributions import Layered, Normal, distribution_given
from ..modules import Part, model_dtype, register, replace
from ..spaces import AbstractSpace
from ._start import start_prior


class BottomUp(Part, eqx.Module):
    """`x -> q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1})`, each layer given the one below.

    **Arguments:**

    - `first`: from x to a distribution of z_1.
    - `conditionals`: from z_1 to a distribution of z_2, and so on upwards.

    Source: Rezende, Mohamed and Wierstra (2014), arXiv:1401.4082; Burda, Grosse and Salakhutdinov (2016), section 2,
    arXiv:1509.00519.
    """

    scales_input: ClassVar[bool] = True

    first: Callable[[Array], AbstractDistribution]
    conditionals: tuple[Callable[[Array], AbstractDistribution], ...]

    def __init__(self, first, *conditionals):
        self.first, self.conditionals = first, conditionals

    def __call__(self, x: Array) -> Layered:
        return Layered(self.first(x), self.conditionals, "up")

    def input_origins(self) -> tuple[Any, ...]:
        """The origins of the first layer, which alone sees x."""
        return input_origins(self.first)


class TopDown(Part, eqx.Module):
    """`x -> q(z_L | x) q(z_{L-1} | z_L, x) ... q(z_1 | z_2, x)`, each layer given x and the one above.

    **Arguments:**

    - `first`: from x to a distribution of z_L.
    - `conditionals`: from the vector `[x, z_L]` to a distribution of z_{L-1}, and so on downwards.

    Source: Tomczak and Welling (2018), for two layers; arXiv:1705.07120.
    """

    scales_input: ClassVar[bool] = True

    first: Callable[[Array], AbstractDistribution]
    conditionals: tuple[Callable[[Array], AbstractDistribution], ...]

    def __init__(self, first, *conditionals):
        self.first, self.conditionals = first, conditionals

    def __call__(self, x: Array) -> Layered:
        given_x = tuple(eqx.Partial(_with, conditional, x) for conditional in self.conditionals)
        return Layered(self.first(x), given_x, "down")

    def input_origins(self) -> tuple[Any, ...]:
        """The origins of every layer, if each has some."""
        found = [input_origins(layer) for layer in (self.first, *self.conditionals)]
        return sum(found, ()) if all(found) else ()


@register
def _with(conditional: Callable, x: Array, z: Array) -> AbstractDistribution:
    return conditional(jnp.concatenate([x.astype(z.dtype).reshape(-1), z]))


class Ladder(eqx.Module):
    """`q(z_l | z_{l+1}, x) ~ p(z_l | z_{l+1}) N(z_l; m_l(x), s_l(x)^2)`: the generative path, corrected by x.

    Networks go up from x, `d_l = networks_l(d_{l-1})` with `d_0 = x`, and each d_l gives a normal message about z_l. On
    the way down, the precisions of message and generative conditional add, and their means are averaged with these
    weights; the top layer has its message alone. The conditionals are the model's own, so that this is not a function
    of x alone: `lnz.latent.Hierarchical` makes the posterior from it.

    **Arguments:**

    - `networks`: L callables, upwards from x.
    - `messages`: L callables, from d_l to a `Normal` of z_l, such as `lnz.Conditional(lnz.Normal.standard(n), net)`.

    Source: Sønderby, Raiko, Maaløe, Sønderby and Winther (2016), section 2.1; arXiv:1602.02282.
    """

    networks: tuple[Callable[[Array], Array], ...]
    messages: tuple[Callable[[Array], Normal], ...]

    def __check_init__(self):
        if len(self.networks) != len(self.messages) or not self.networks:
            raise ValueError(
                f"`Ladder(networks, messages)` needs one of each for each layer; got {len(self.networks)} and "
                f"{len(self.messages)}."
            )

    def posterior(self, x: Array, conditionals: tuple[Callable[[Array], AbstractDistribution], ...]) -> Layered:
        """The posterior of ONE example, with the model's `conditionals` for z_{L-1}, ..., z_1."""
        if len(conditionals) != len(self.messages) - 1:
            raise ValueError(
                f"`Ladder(messages=...)` has {len(self.messages)} layers, but the model has {len(conditionals) + 1}."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):  # whole numbers, such as grey values and counts
            x = x.astype(model_dtype(self))
        d, messages = x, []
        for network, message in zip(self.networks, self.messages, strict=True):
            d = network(d)
            messages.append(message(d))
        top, *lower = reversed(messages)
        merged = tuple(Corrected(c, message) for c, message in zip(conditionals, lower, strict=True))
        return Layered(top, merged, "down")


class Climb(Part, eqx.Module):
    """`x -> ladder.posterior(x, conditionals)`."""

    scales_input: ClassVar[bool] = True

    ladder: Ladder
    conditionals: tuple[Callable[[Array], AbstractDistribution], ...]

    def __call__(self, x: Array) -> Layered:
        return self.ladder.posterior(x, self.conditionals)

    def input_origins(self) -> tuple[Any, ...]:
        """The origins of the first network, which alone sees x."""
        return input_origins(self.ladder.networks[0])


@register
class Corrected(eqx.Module):
    """`z -> N(mu, sigma^2)` proportional to `conditional(z)` times `message`, both normal: precisions add."""

    conditional: Callable[[Array], AbstractDistribution]
    message: Normal

    def __call__(self, z: Array) -> Normal:
        prior = self.conditional(z)
        if not isinstance(prior, Normal):
            raise TypeError(
                f"`Ladder` merges normal distributions, but a conditional of the model is a {type(prior).__name__}. "
                "Use `BottomUp` or `TopDown`."
            )
        # In logarithms: neither precision overflows, however small a scale is.
        log_precision = jnp.logaddexp(-2 * prior.log_scale, -2 * self.message.log_scale)
        weight = jax.nn.sigmoid(2 * (prior.log_scale - self.message.log_scale))
        loc = prior.loc + weight * (self.message.loc - prior.loc)
        return replace(prior, loc=loc, log_scale=-0.5 * log_precision, constant=False)


class Hierarchical(AbstractLatentModel):
    """`p(x) = int p(z_L) prod_l p(z_l | z_{l+1}) p(x | z_1) dz`: a variational autoencoder with L layers of latents.

    To every algorithm its latent variable is one vector `[z_1, ..., z_L]`, with a `Layered` prior and posterior. A
    `VAE` of such distributions is the same model, but its prior and posterior cannot share layers.

    **Arguments:**

    - `top`: the distribution of z_L; or a function from the posterior of z_L to it, such as `lnz.latent.VampPrior`.
    - `conditionals`: from z_L to a distribution of z_{L-1}, and so on downwards, to z_1.
    - `decoder`: from z_1 to the distribution of x.
    - `encoder`: from x to a `Layered` distribution, such as `BottomUp` or `TopDown`; or a `Ladder`, which shares
      `conditionals`; or `None`. Its networks read whole numbers rescaled: see `lnz.distributions.distribution_given`.
    - `skip`: whether the decoder sees all layers, `[z_1, ..., z_L]`.

    **Raises:** `TypeError` if `top` is a function of the posterior and the encoder does not draw z_L first.
    """

    top: AbstractDistribution | Callable[[Callable[[Array], AbstractDistribution]], AbstractDistribution]
    conditionals: tuple[Callable[[Array], AbstractDistribution], ...]
    decoder: Callable[[Array], AbstractDistribution]
    encoder: Callable[[Array], AbstractDistribution] | Ladder | None
    skip: bool = eqx.field(static=True, default=False)

    @property
    def prior(self) -> Layered:
        return self._prior_on(None if isinstance(self.top, AbstractDistribution) else self.space)

    def _prior_on(self, space: AbstractSpace | None) -> Layered:
        """The prior, made by a posterior of examples of `space`. For `None`, only its shapes are right."""
        if isinstance(self.top, AbstractDistribution):
            return Layered(self.top, self.conditionals, "down")
        top = self.top(lambda x: self._top_posterior(x, space))
        return Layered(top, self.conditionals, "down")

    @property
    def space(self) -> AbstractSpace:
        latent = eqx.filter_eval_shape(_latent_space, self)
        return eqx.filter_eval_shape(_space, self, jax.ShapeDtypeStruct(latent.shape, model_dtype(self)))

    def origins(self) -> tuple[Any, ...]:
        """The origins of decoder and encoder, if both have some; none under a prior that is made of examples."""
        if not isinstance(self.top, AbstractDistribution):
            return ()
        return origins_of_autoencoder(self.decoder, self.encoder)

    def initialise(self, key: PRNGKeyArray, data: Array) -> "Hierarchical":
        """The model with its top layer started from data, if the top layer takes its start from data.

        A function of the posterior starts from `data`, a flow from draws of `q(z_L | x)`.
        """

        def top_layer(z):  # z_L is last in the vector, whatever the order in which the posterior draws
            assert isinstance(self.top, AbstractDistribution)
            return z[-self.top.space.shape[0] :]

        return replace(self, top=start_prior(key, self.top, self, data, top_layer))

    def likelihood(self, z: Array) -> AbstractDistribution:
        if self.skip:
            return self.decoder(z)
        num = eqx.filter_eval_shape(_lowest_space, self).shape[0]
        return self.decoder(z[:num])

    def posterior(self, x: Array) -> AbstractDistribution | None:
        space = self.space
        return self._posterior(space.check_example(x), space)

    def top_posterior(self, x: Array) -> AbstractDistribution:
        """`q(z_L | x)`, if the encoder draws z_L first."""
        return self._top_posterior(x, self.space)

    def _top_posterior(self, x: Array, space: AbstractSpace | None) -> AbstractDistribution:
        posterior = self._posterior(x, space)
        if not isinstance(posterior, Layered) or posterior.order != "down":
            raise TypeError(
                f"`Hierarchical(top={type(self.top).__name__})` needs q(z_L | x), which this encoder, "
                f"{type(self.encoder).__name__}, does not know. Use `lnz.latent.TopDown` or `lnz.latent.Ladder`."
            )
        return posterior.first

    def _posterior(self, x, space):
        if self.encoder is None:
            return None
        encoder = self.encoder
        if isinstance(encoder, Ladder):
            encoder = Climb(encoder, self.conditionals)
        return encoder(x) if space is None else distribution_given(encoder, x, space)


def _latent_space(model: Hierarchical) -> AbstractSpace:
    return model._prior_on(None).space


def _lowest_space(model: Hierarchical) -> AbstractSpace:
    return model._prior_on(None).layer_spaces[0]


def _space(model: Hierarchical, z: Array) -> AbstractSpace:
    return model.likelihood(z).space
