"""The terms of Kullback-Leibler divergences, never negative and computed without cancellation."""

import math

import jax.numpy as jnp
from jaxtyping import Array

_COEFFICIENTS = [1 / math.factorial(n) for n in range(15, 1, -1)]  # to 1e-17 at 1/2


def excess(x: Array) -> Array:
    """`e^x - 1 - x`, which is never negative. For `x = log(ratio)` it is `ratio - 1 - log(ratio)`."""
    small = jnp.abs(x) < 0.5
    near, far = jnp.where(small, x, 0), jnp.where(small, 1, x)
    series = jnp.zeros_like(x)
    for coefficient in _COEFFICIENTS:  # the difference would cancel most digits
        series = series * near + coefficient
    return jnp.where(small, near * near * series, jnp.expm1(far) - far)


def divergence(log_q: Array, log_p: Array, log_ratio: Array) -> Array:
    """`q log(q / p) - q + p`, the contribution of one outcome to a divergence: q and p each sum to one.

    No term is negative, so terms do not cancel. `log_ratio` is `log_q - log_p`, with more digits than the difference of
    the two where they are near each other. An outcome with `q = 0` contributes p.
    """
    possible = log_q > -jnp.inf
    t = jnp.where(possible, log_ratio, 0)
    near = jnp.abs(t) < 0.5
    q, p = jnp.exp(log_q), jnp.exp(log_p)
    # Where q and p are far apart, `excess` would overflow if p is much larger.
    outer = p - q + q * jnp.where(near, 0, t)
    return jnp.where(near & possible, q * excess(-jnp.where(near, t, 0)), outer)
