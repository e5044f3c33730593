"""Numbers near the ends of a space, where nothing may overflow.

Inside a space, values, logarithms of derivatives and gradients are finite. Outside, the map to the line has minus
infinity as the logarithm of its derivative, so that densities are zero there.
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
    """The least and the greatest normal number of `dtype` between two ends, which may be infinite."""
    largest = 0.99 * float(jnp.finfo(dtype).max)
    width = high - low if math.isfinite(high - low) else 1.0
    # The reciprocal of this fraction of the width is finite, even times a thousand.
    least = float(jnp.finfo(dtype).tiny) * 1024 * (max(1.0, width) if 0 in (low, high) else 1.0)
    ends = np.asarray(low, dtype), np.asarray(high, dtype)
    above, below = float(np.nextafter(*ends)), float(np.nextafter(*ends[::-1]))
    above, below = max(above, -largest), min(below, largest)
    return (least if abs(above) < least else above), (-least if abs(below) < least else below)


def between(x: Array, low: Any, high: Any) -> Array:
    """`x` clipped to the bounds. At a bound the derivative is 1, where `jnp.clip` halves it."""
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def least(x: Array) -> float:
    """A positive number near the smallest one, with a reciprocal that is finite even times a thousand."""
    return float(np.finfo(x.dtype).tiny) * 1024


def log_inside(y: Array) -> Array:
    """`log y`, with y clipped to the finite positive numbers with a finite reciprocal."""
    return jnp.log(between(y, least(y), float(np.finfo(y.dtype).max)))


def zero_outside(space: AbstractSpace, y: Array, log_derivative: Array) -> Array:
    """`log_derivative` inside the space; minus infinity outside, where the density is zero."""
    # XLA treats denormals as zero in most programs. Here they are zero in all.
    normal = jnp.where(jnp.abs(y) < float(np.finfo(y.dtype).tiny), 0, y)
    return jnp.where(space.elements_within(normal), log_derivative, -jnp.inf)


def has_ends(space: AbstractSpace) -> bool:
    """Whether a variable has an end at which a density may be zero or infinite."""
    return any(_has_ends(part) for part in space.parts)


def _has_ends(part: AbstractSpace) -> bool:
    is_open = part.measure.is_continuous and not part.periodic
    return is_open and part.ends is not None and any(map(math.isfinite, part.ends))


def nearest_inside(space: AbstractSpace, x: Array) -> Array:
    """`x [..., *space.shape]`, with numbers on or beyond an end moved to the nearest normal number inside.

    Rounding may put a draw on an end, where the density may be zero or infinite. The derivative is that of the unmoved
    x, because the move is no larger than rounding. Spaces without ends, and whole numbers, are left alone.
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
    """Mask of the examples `[..., *space.shape]` with a number so near an end that its distance has lost digits."""
    pieces = zip(space.parts, space.split(x, -1), strict=True)
    return functools.reduce(jnp.logical_or, (_is_rounded(*piece) for piece in pieces))


def _is_rounded(part: AbstractSpace, x: Array) -> Array:
    found = jnp.zeros(x.shape, bool)
    if _has_ends(part):
        low, high = _innermost(part, x.dtype)
        found = (x <= low) | (x >= high)
        for end in (end for end in part.ends or () if 0 < abs(end) < math.inf):
            # Numbers near zero keep all digits of their distance from it. This near to another end, half are lost.
            found = found | (abs(x - end) < math.sqrt(float(jnp.finfo(x.dtype).eps)) * abs(end))
    return jnp.any(found, axis=tuple(range(x.ndim - len(part.shape), x.ndim)))


def _innermost(part: AbstractSpace, dtype: Any) -> tuple[float, float]:
    ends = part.ends or (-math.inf, math.inf)
    low, high = innermost(*ends, dtype)
    return (float(np.asarray(ends[0], dtype)) if part.periodic else low), high
