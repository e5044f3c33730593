"""Priors that start from data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..bijections import rows_for_start
from ..core import AbstractDensity, AbstractDistribution, AbstractLatentModel
from ..modules import Part, model_dtype


def start_prior(
    key: PRNGKeyArray,
    prior: Any,
    model: AbstractLatentModel,
    data: Array,
    part: Callable[[Array], Array] = lambda z: z,
) -> Any:
    """`prior`, started from `data [n, ...]`, rows of the model's space, if it takes its start from data.

    `part` selects the part of a latent that `prior` describes.
    """
    if not isinstance(prior, Part) or prior.initialise is None:
        return prior
    if not isinstance(prior, AbstractDensity):  # a function of the encoder, which knows the data's space
        return prior.initialise(key, data)
    if not isinstance(prior, AbstractDistribution):
        return prior  # an energy: an untrained encoder would give it wrong base rates
    key_rows, key_z, key_prior = jr.split(key, 3)
    rows = model.space.cast(rows_for_start(key_rows, data), model_dtype(model))

    def draw(key, x):
        posterior = model.posterior(x)
        return None if posterior is None else part(posterior.sample(key))

    z = jax.vmap(draw)(jr.split(key_z, len(rows)), rows)
    return prior if z is None else prior.initialise(key_prior, z)
