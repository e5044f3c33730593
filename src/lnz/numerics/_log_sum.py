"""Sums of exponentials."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_sum(values: Array) -> Float[Array, ""]:
    """`logsumexp` with a gradient of zero, not NaN, where all are minus infinity."""
    return jax.scipy.special.logsumexp(values, where=values != -jnp.inf)  # a NaN stays one
