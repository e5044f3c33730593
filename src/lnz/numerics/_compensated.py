"""Sums of very many small numbers in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def add_compensated(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """Kahan summation: 100,000 small increments to a total of hundreds lose nothing in float32.

    A total that has become infinite (the logarithm of a weight of zero) stays so: there are no digits to make up for.
    """
    term = term - lost
    new = total + term
    return new, jnp.where(jnp.isinf(new), 0, (new - total) - term)


def held_apart(part: Array) -> Array:
    """The larger of two parts of a number, kept from the smaller one.

    Where both are constants to the compiler, XLA makes `x - (high + low)` of `(x - high) - low`, and loses `low`.
    """
    return jax.lax.optimization_barrier(part)
