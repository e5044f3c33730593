"""From the line to an interval and to positive numbers, and back, number by number: what happens at the ends.

Inside the space values, logarithms of derivatives and gradients are finite. Outside, back to the line, the logarithm of
the derivative is minus infinity: the density is zero.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..numerics import softplus
from ..spaces import AbstractSpace, Interval, Positive, nearest_inside


def onto_interval(space: Interval, x: Array) -> tuple[Array, Array]:
    """`y = low + (high - low) sigmoid(x)` and `log dy/dx`."""
    low, high, width = space.low, space.high, space.high - space.low
    # Each half from its own end, so that y keeps the digits of a small distance and rounding never leaves the interval.
    y = jnp.where(x > 0, high - width * jax.nn.sigmoid(-x), low + width * jax.nn.sigmoid(x))
    return nearest_inside(space, y), math.log(width) - softplus(x) - softplus(-x)


def from_interval(space: Interval, y: Array) -> tuple[Array, Array]:
    """The inverse of `onto_interval` and `log dx/dy`."""
    width = space.high - space.low
    # The distance from either end, each from the end itself: 1 - u would lose the digits of a small one.
    below = jnp.log(between((y - space.low) / width, least(y), 1))
    above = jnp.log(between((space.high - y) / width, least(y), 1))
    return below - above, zero_outside(space, y, -math.log(width) - below - above)


def onto_positive(x: Array) -> tuple[Array, Array]:
    """`y = log(1 + e^x)` and `log dy/dx`."""
    return jnp.maximum(softplus(x), least(x)), -softplus(-x)


def from_positive(space: Positive, y: Array) -> tuple[Array, Array]:
    """The inverse of `onto_positive` and `log dx/dy`."""
    inside = _inside(y)
    log_slope = jnp.log(-jnp.expm1(-inside))  # of softplus, at the x that is sought
    return inside + log_slope, zero_outside(space, y, -log_slope)


def log_inside(y: Array) -> Array:
    """`log y` of positive numbers; others are taken for the nearest that is finite with its reciprocal."""
    return jnp.log(_inside(y))


def _inside(y):
    return between(y, least(y), float(np.finfo(y.dtype).max))


def between(x: Array, low: Any, high: Any) -> Array:
    """`x` within the bounds. At a bound it is x that is differentiated: `jnp.clip` halves the derivative there."""
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def zero_outside(space: AbstractSpace, y: Array, log_derivative: Array) -> Array:
    """`log_derivative`, and minus infinity for numbers outside the space, where the density is zero."""
    inside = space.elements_within(y)
    if isinstance(space, Positive):  # a denormal is zero to XLA in most programs: let it be so in all
        inside = inside & (y >= float(np.finfo(y.dtype).tiny))
    return jnp.where(inside, log_derivative, -jnp.inf)


def least(x: Array) -> float:
    """A number near the smallest, of which even the reciprocal times a thousand is one."""
    return float(np.finfo(x.dtype).tiny) * 1024
