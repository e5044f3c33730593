import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def normal_deviate(terms: Float[Array, " n"], least_spread: Float[Array, ""] | float = 0.0) -> Float[Array, ""]:
    """Student's t of the mean of independent terms of mean zero, as the equally improbable normal deviate.

    The standard deviation of the terms is at least `least_spread`: that under the hypothesis, where it is known.
    """
    degrees = len(terms) - 1
    spread = jnp.maximum(jnp.std(terms, ddof=1), least_spread)
    t = jnp.abs(jnp.mean(terms)) * math.sqrt(len(terms)) / jnp.where(spread > 0, spread, 1)
    return (8 * degrees + 1) / (8 * degrees + 3) * jnp.sqrt(degrees * jnp.log1p(t**2 / degrees))
