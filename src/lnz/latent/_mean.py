"""Means of distributions, in closed form where there is one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._bijection import Transformed
from .._density import AbstractDistribution
from ..bijections import Affine, TriangularAffine
from ..distributions import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Laplace,
    Logistic,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
)
from ._dequantised import PointMass

_SYMMETRIC = Laplace, Logistic, LowRankNormal, MultivariateNormal, Normal  # about `loc`


def closed_form_mean(distribution: AbstractDistribution) -> Float[Array, "..."] | None:
    """`E[x]`, `[*shape]`, or `None` where no closed form is known here."""
    if isinstance(distribution, _SYMMETRIC):
        return distribution.loc
    if isinstance(distribution, Bernoulli):
        return distribution.probs
    if isinstance(distribution, Poisson):
        return jnp.exp(distribution.log_rate)
    if isinstance(distribution, NegativeBinomial):
        return distribution.mean
    if isinstance(distribution, ContinuousBernoulli):
        return distribution.mean().reshape(distribution.space.shape)
    if isinstance(distribution, DiscretisedLogistic):
        # The sum over k of P(x >= k).
        edges = jnp.arange(1, distribution.num_values, dtype=distribution.loc.dtype) / distribution.num_values
        edges = edges.reshape(-1, *(1,) * distribution.loc.ndim)
        return jnp.sum(jax.nn.sigmoid((distribution.loc[None] - edges) / distribution.scale[None]), axis=0)
    if isinstance(distribution, PointMass):
        return distribution.value.astype(jnp.result_type(float))
    if isinstance(distribution, Mixture):
        means = jax.vmap(closed_form_mean)(distribution.components)
        return None if means is None else jnp.tensordot(distribution.weights, means, 1)
    # Of the maps only an affine one takes the mean to the mean.
    if isinstance(distribution, Transformed) and isinstance(distribution.bijection, Affine | TriangularAffine):
        mean = closed_form_mean(distribution.base)
        return None if mean is None else distribution.bijection.forward_and_log_det(mean)[0]
    return None


def mean_or_average(distribution: AbstractDistribution, key: PRNGKeyArray, num_draws: int) -> Float[Array, "..."]:
    """`E[x]`, or the average of independent draws, an unbiased estimate."""
    mean = closed_form_mean(distribution)
    if mean is not None:
        return mean
    draws = distribution.sample(key, (num_draws,))
    dtype = draws.dtype if jnp.issubdtype(draws.dtype, jnp.floating) else jnp.result_type(float)
    return jnp.mean(draws.astype(dtype), axis=0)
