"""Sums of exponentials."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_sum(values: Array) -> Float[Array, ""]:
    """`logsumexp` with a gradient of zero, not NaN, if all values are minus infinity."""
    return jax.scipy.special.logsumexp(values, where=values != -jnp.inf)  # NaN stays NaN
