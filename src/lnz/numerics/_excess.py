"""What Kullback-Leibler divergences are sums of: terms that are never negative, with all of their digits."""

import math

import jax.numpy as jnp
from jaxtyping import Array

_COEFFICIENTS = [1 / math.factorial(n) for n in range(15, 1, -1)]  # to 1e-17 at 1/2


def excess(x: Array) -> Array:
    """`e^x - 1 - x`, which is not negative: of the logarithm of a ratio, `ratio - 1 - log(ratio)`."""
    small = jnp.abs(x) < 0.5
    near, far = jnp.where(small, x, 0), jnp.where(small, 1, x)
    series = jnp.zeros_like(x)
    for coefficient in _COEFFICIENTS:  # the difference would lose the digits that make the answer
        series = series * near + coefficient
    return jnp.where(small, near * near * series, jnp.expm1(far) - far)


def divergence(log_q: Array, log_p: Array, log_ratio: Array) -> Array:
    """`q log(q / p) - q + p`: what each outcome adds to a divergence, for the probabilities sum to one in both.

    No term is negative, so that none cancels another. `log_ratio` is `log_q - log_p`, with more digits than those two
    have where they are near each other. An outcome that q never has adds p.
    """
    possible = log_q > -jnp.inf
    t = jnp.where(possible, log_ratio, 0)
    near = jnp.abs(t) < 0.5
    q, p = jnp.exp(log_q), jnp.exp(log_p)
    # Far from each other not by `excess`, which overflows where p is much the larger.
    outer = p - q + q * jnp.where(near, 0, t)
    return jnp.where(near & possible, q * excess(-jnp.where(near, t, 0)), outer)
