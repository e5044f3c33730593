import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..bijections import TriangularAffine
from ..spaces import Euclidean
from ._layers import num_variables


def affine(space: Euclidean, *, key: PRNGKeyArray) -> TriangularAffine:
    """`y = L x + loc` with L lower triangular: it maps a standard normal to any normal distribution.

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`.
    - `key`: for small random off-diagonal entries around the identity.

    **Raises:** `TypeError` if `space` is not a Euclidean space of vectors.
    """
    num = num_variables(space, "affine")
    noise = jr.normal(key, (num, num))
    return TriangularAffine(jnp.zeros(num), jnp.eye(num) + 0.1 * jnp.tril(noise, -1))
