"""Flow architectures: functions that return a bijection. `lnz.Transformed(base, bijection)` is the flow."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ._space import Euclidean
from .bijections import TriangularAffine


def affine(space: Euclidean, *, key: PRNGKeyArray) -> TriangularAffine:
    """`y = L x + loc` with L lower triangular: a standard normal pushed through it is any normal distribution.

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`.
    - `key`: for small random off-diagonal entries around the identity.

    **Raises:** `TypeError` if `space` is not a Euclidean space of vectors.
    """
    if not isinstance(space, Euclidean) or len(space.shape) != 1:
        raise TypeError(f"`affine(space)` needs `lnz.Euclidean(n)`; got {space}.")
    (num,) = space.shape
    noise = jr.normal(key, (num, num))
    return TriangularAffine(jnp.zeros(num), jnp.eye(num) + 0.1 * jnp.tril(noise, -1))
