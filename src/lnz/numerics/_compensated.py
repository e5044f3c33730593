"""Sums of very many small numbers in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def add_compensated(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """One step of Kahan summation: 100,000 small increments to a total of hundreds lose nothing in float32.

    Returns the new total and the new rounding error `lost`. An infinite total (the logarithm of a weight of zero)
    stays infinite, with a rounding error of zero.
    """
    term = term - lost
    new = total + term
    return new, jnp.where(jnp.isinf(new), 0, (new - total) - term)


def held_apart(part: Array) -> Array:
    """`part`, the larger of two parts of a number, behind a barrier that stops the compiler from joining them.

    If both parts are constants, XLA rewrites `(x - high) - low` as `x - (high + low)`, which loses `low`.
    """
    return jax.lax.optimization_barrier(part)
