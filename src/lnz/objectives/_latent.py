"""Helpers of the objectives of latent-variable models: draws of the encoder and their weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, AbstractLatentModel
from ..gradients import AbstractGradientEstimator
from ..modules import check_positive

T = TypeVar("T")


def check_gradient(gradient: Any, num_samples: int, name: str) -> None:
    """**Raises:** `TypeError` if `gradient` is not an estimator, `ValueError` if it needs more than `num_samples`."""
    if not isinstance(gradient, AbstractGradientEstimator):
        raise TypeError(
            f"`{name}(gradient=...)` must be one of lnz.gradients, such as `lnz.gradients.Pathwise()`, with its "
            f"brackets; got {gradient!r}."
        )
    if check_positive(num_samples, f"{name}(num_samples=...)") < gradient.min_draws:
        raise ValueError(
            f"`{name}(num_samples=...)` must be at least {gradient.min_draws} with `{type(gradient).__name__}`, which "
            f"compares draws with each other; got {num_samples}. With one draw use "
            "`lnz.objectives.ELBO(gradient=lnz.gradients.Score())`, or `ReverseKL` with this gradient."
        )


def each_example(fun: Callable[[PRNGKeyArray, Array, Any], T], key: PRNGKeyArray, model: Any, batch: Array) -> T:
    """`fun(key, x, q(z | x))` for every example, stacked.

    Each example has its own key. Under `jax.vmap`, a single key would give all examples the same noise. Drawing the
    noise of the whole batch at once saves no measurable time.

    **Raises:** `TypeError` if the model has no latent variables; `ValueError` if it has no encoder.
    """
    check_latent(model)
    return jax.vmap(lambda key, x: fun(key, x, posterior(model, x)))(jr.split(key, len(batch)), batch)


def check_latent(model: Any) -> None:
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"This objective needs a latent-variable model, such as a VAE; got {type(model).__name__}.")
    prior = model.prior
    if not isinstance(prior, AbstractDistribution):
        raise TypeError(
            f"The prior is a {type(prior).__name__}, whose log Z depends on its parameters, but this objective has no "
            "term for log Z. Wrap it: `lnz.objectives.EnergyPrior(objective)`."
        )


def posterior(model: AbstractLatentModel, x: Array) -> AbstractDistribution:
    q = model.posterior(x)
    if q is None:
        raise ValueError(
            f"{type(model).__name__} has no approximate posterior (an encoder), which this objective needs."
        )
    return q


def log_likelihoods(
    model: AbstractLatentModel, x: Array, z: Float[Array, "samples *latent"] | Array
) -> Float[Array, " samples"]:
    """`log p(x | z)` of one example, for each of its draws z."""
    return jax.vmap(lambda z: model.likelihood(z).log_prob(x))(z)


def normalised_prior(model: AbstractLatentModel) -> AbstractDistribution:
    """The prior of `model`.

    **Raises:** `TypeError` if the prior is known only up to a constant.
    """
    prior = model.prior
    if not isinstance(prior, AbstractDistribution):
        raise TypeError(
            f"The prior is a {type(prior).__name__}, whose log Z depends on its parameters, but this objective has no "
            "term for log Z. Wrap it: `lnz.objectives.EnergyPrior(objective)`."
        )
    return prior
