"""Sums of very many small numbers in float32."""

import jax.numpy as jnp
from jaxtyping import Array


def add_compensated(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """Kahan summation: 100,000 small increments to a total of hundreds lose nothing in float32.

    A total that has become infinite (the logarithm of a weight of zero) stays so: there are no digits to make up for.
    """
    term = term - lost
    new = total + term
    return new, jnp.where(jnp.isinf(new), 0, (new - total) - term)
