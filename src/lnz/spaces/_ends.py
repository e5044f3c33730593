"""Numbers beside the ends of a set: nothing overflows there, and outside the density is zero.

Inside a space values, logarithms of derivatives and gradients are finite. Outside, back to the line, the logarithm of
the derivative is minus infinity.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._space import AbstractSpace


def innermost(low: float, high: float, dtype: Any) -> tuple[float, float]:
    """The outermost normal numbers of `dtype` inside the ends, which may be infinite."""
    largest = 0.99 * float(jnp.finfo(dtype).max)
    width = high - low if math.isfinite(high - low) else 1.0
    # Of this part of the width even the reciprocal times a thousand is a number.
    least = float(jnp.finfo(dtype).tiny) * 1024 * (max(1.0, width) if 0 in (low, high) else 1.0)
    ends = np.asarray(low, dtype), np.asarray(high, dtype)
    above, below = float(np.nextafter(*ends)), float(np.nextafter(*ends[::-1]))
    above, below = max(above, -largest), min(below, largest)
    return (least if abs(above) < least else above), (-least if abs(below) < least else below)


def between(x: Array, low: Any, high: Any) -> Array:
    """`x` within the bounds. At a bound it is x that is differentiated: `jnp.clip` halves the derivative there."""
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def least(x: Array) -> float:
    """A number near the smallest, of which even the reciprocal times a thousand is one."""
    return float(np.finfo(x.dtype).tiny) * 1024


def log_inside(y: Array) -> Array:
    """`log y` of positive numbers; others are taken for the nearest that is finite with its reciprocal."""
    return jnp.log(between(y, least(y), float(np.finfo(y.dtype).max)))


def zero_outside(space: AbstractSpace, y: Array, log_derivative: Array) -> Array:
    """`log_derivative`, and minus infinity for numbers outside the space, where the density is zero."""
    # A denormal is zero to XLA in most programs: let it be so in all.
    normal = jnp.where(jnp.abs(y) < float(np.finfo(y.dtype).tiny), 0, y)
    return jnp.where(space.elements_within(normal), log_derivative, -jnp.inf)


def has_ends(space: AbstractSpace) -> bool:
    """Whether some variable has an end at which a density may be zero or infinite."""
    return any(_has_ends(part) for part in space.parts)


def _has_ends(part: AbstractSpace) -> bool:
    is_open = part.measure.is_continuous and not part.periodic
    return is_open and part.ends is not None and any(map(math.isfinite, part.ends))


def nearest_inside(space: AbstractSpace, x: Array) -> Array:
    """`x` `[..., *space.shape]`, whose numbers on or beyond an end are moved to the nearest inside that is normal.

    Draws are rounded, and may be rounded onto an end where the density is zero or infinite. Derivatives are those of x,
    which is not moved by more than rounding moves it. Spaces without ends, and whole numbers, are left alone.
    """
    return space.join([_nearest(*piece) for piece in zip(space.parts, space.split(x, -1), strict=True)], -1)


def _nearest(part: AbstractSpace, x: Array) -> Array:
    if not part.periodic and not _has_ends(part):
        return x
    return _moved(*_innermost(part, x.dtype), x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _moved(low: float, high: float, x: Array) -> Array:
    return between(x, low, high)


@_moved.defjvp
def _moved_jvp(low: float, high: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _moved(low, high, *primals), tangents[0]


def is_rounded(space: AbstractSpace, x: Array) -> Array:
    """Which examples `[..., *space.shape]` have a number whose distance from an end of the space lost its digits."""
    pieces = zip(space.parts, space.split(x, -1), strict=True)
    return functools.reduce(jnp.logical_or, (_is_rounded(*piece) for piece in pieces))


def _is_rounded(part: AbstractSpace, x: Array) -> Array:
    found = jnp.zeros(x.shape, bool)
    if _has_ends(part):
        low, high = _innermost(part, x.dtype)
        found = (x <= low) | (x >= high)
        for end in (end for end in part.ends or () if 0 < abs(end) < math.inf):
            # Numbers near zero keep the digits of their distance from it; near another end half of them are lost.
            found = found | (abs(x - end) < math.sqrt(float(jnp.finfo(x.dtype).eps)) * abs(end))
    return jnp.any(found, axis=tuple(range(x.ndim - len(part.shape), x.ndim)))


def _innermost(part: AbstractSpace, dtype: Any) -> tuple[float, float]:
    ends = part.ends or (-math.inf, math.inf)
    low, high = innermost(*ends, dtype)
    return (float(np.asarray(ends[0], dtype)) if part.periodic else low), high
