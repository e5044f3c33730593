"""Remainders of Stirling's formula for the log-gamma function, with all of their digits.

Log-densities with gamma functions are differences of numbers as large as millions. The callers write out the large
parts of those differences, and these functions give the small remainders.
"""

import math

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array

_LARGE = 20.0


def stirling_error(z: Array) -> Array:
    """`log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2` for z > 0; about `1 / (12 z)` for large z."""
    large, small = jnp.maximum(z, _LARGE), jnp.minimum(z, _LARGE)
    inverse = 1 / large
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    direct = gammaln(small) - (small - 0.5) * jnp.log(small) + small - 0.5 * math.log(2 * math.pi)
    return jnp.where(z > _LARGE, series, direct)


def half_step(z: Array) -> Array:
    """`log Gamma(z + 1/2) - log Gamma(z) - log(z) / 2` for z > 0; about `-1 / (8 z)` for large z."""
    large, small = jnp.maximum(z, _LARGE), jnp.minimum(z, _LARGE)
    inverse = 1 / large
    square = inverse * inverse
    series = -inverse * (1 / 8 - square * (1 / 192 - square * (1 / 640 - square * 17 / 14336)))
    direct = gammaln(small + 0.5) - gammaln(small) - 0.5 * jnp.log(small)
    return jnp.where(z > _LARGE, series, direct)
