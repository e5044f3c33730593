"""Circles and products, and when two spaces are the same set or one lies within the other."""

import functools
import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from ..modules import field_names, replace
from ._binary import Binary
from ._categorical import Categorical
from ._counts import Counts
from ._euclidean import Euclidean
from ._grid import innermost
from ._interval import Interval
from ._positive import Positive
from ._product import Product
from ._space import AbstractSpace
from ._torus import Torus


def each_variable(space: AbstractSpace) -> tuple[AbstractSpace, ...]:
    """The space of a single number of `x[i]`, for each i; of x itself if it is one number."""
    if isinstance(space, Product):
        return tuple(one for part in space.spaces for one in each_variable(part))
    one = replace(space, shape=()) if "shape" in field_names(type(space)) else space
    return (one,) * (space.shape[0] if space.shape else 1)


def joined(variables: tuple[AbstractSpace, ...]) -> AbstractSpace:
    """The space of vectors whose variables live on these spaces of one number."""
    runs = [(one, len(list(run))) for one, run in itertools.groupby(variables)]
    parts = [replace(one, shape=(num,)) for one, num in runs]
    return parts[0] if len(parts) == 1 else Product(*parts)


def same_numbers(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether the numbers of two spaces, in their order, live on the same sets, in whatever shapes they are."""
    if a.num_dimensions != b.num_dimensions or a.base_measure != b.base_measure:
        return False
    if not isinstance(a, Product) and not isinstance(b, Product):
        return _equal(each_variable(a)[0], each_variable(b)[0]) if a.num_dimensions else True
    return all(map(_equal, _each_number(a), _each_number(b)))


def same_set(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether two spaces hold the same points: one shape, one kind and the same ends for each variable."""
    return a.shape == b.shape and same_numbers(a, b)


def is_within(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether every point of `a` is one of `b`, as far as their kinds and ends tell."""
    if same_set(a, b):
        return True
    if a.shape != b.shape or (a.base_measure, a.kind) != (b.base_measure, b.kind):
        return False
    for one, other in zip(each_variable(a), each_variable(b), strict=True):
        ends, wider = ends_of(one), ends_of(other)
        inside = ends is not None and wider is not None and wider[0] <= ends[0] and ends[1] <= wider[1]
        if not inside and not _equal(one, other):
            return False
    return True


def ends_of(space: AbstractSpace) -> tuple[float, float] | None:
    """The ends between which a space of one number has every real, or every whole, number; `None` if it has none."""
    if isinstance(space, Euclidean):
        return -math.inf, math.inf
    if isinstance(space, Positive):
        return 0.0, math.inf
    if isinstance(space, Interval | Torus):
        return space.low, space.high
    if isinstance(space, Binary):
        return 0.0, 1.0
    if isinstance(space, Categorical):
        return 0.0, space.num_categories - 1.0
    return (0.0, math.inf) if isinstance(space, Counts) else None


def as_input(space: AbstractSpace, x: Array, dtype: Any) -> Array:
    """`x` for a network: `2 x / (K - 1) - 1` for one of K categories, `log(1 + x)` for counts, otherwise `x` itself."""
    x = jnp.asarray(x).astype(dtype)
    _, high = (ends_of(space) if space.kind == "int" else None) or (0.0, None)
    if high is None:
        return x
    return jnp.log1p(x) if high == math.inf else x * (2 / max(high, 1.0)) - 1


def inner_point(space: AbstractSpace) -> float:
    """A number that each variable of a space of one kind may have."""
    low, high = ends_of(each_variable(space)[0]) or (0.0, 0.0)
    if space.base_measure == "counting" or low == -math.inf:
        return max(low, 0.0)
    return low + 1.0 if high == math.inf else low / 2 + high / 2


def nearest_inside(space: AbstractSpace, x: Array) -> Array:
    """`x` `[..., *space.shape]`, whose numbers on or beyond an end are moved to the nearest inside that is normal.

    Draws are rounded, and may be rounded onto an end where the density is zero or infinite. Derivatives are those of x,
    which is not moved by more than rounding moves it. Spaces without ends, and whole numbers, are left alone.
    """
    if isinstance(space, Product):
        parts = zip(space.spaces, space.split(x, -1), strict=True)
        return jnp.concatenate([nearest_inside(part, piece) for part, piece in parts], axis=-1)
    if not isinstance(space, Interval | Positive | Torus):
        return x
    return _moved(*_innermost(space, x.dtype), x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _moved(low: float, high: float, x: Array) -> Array:
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


@_moved.defjvp
def _moved_jvp(low: float, high: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _moved(low, high, *primals), tangents[0]


def has_circles(space: AbstractSpace) -> bool:
    """Whether some variable is an angle."""
    parts = space.spaces if isinstance(space, Product) else (space,)
    return any(isinstance(part, Torus) for part in parts)


def has_ends(space: AbstractSpace) -> bool:
    """Whether some variable has an end at which a density may be zero or infinite."""
    parts = space.spaces if isinstance(space, Product) else (space,)
    return any(isinstance(part, Interval | Positive) for part in parts)


def is_rounded(space: AbstractSpace, x: Array) -> Array:
    """Which examples `[..., *space.shape]` have a number whose distance from an end of the space lost its digits."""
    if isinstance(space, Product):
        parts = zip(space.spaces, space.split(x, -1), strict=True)
        return functools.reduce(jnp.logical_or, (is_rounded(part, piece) for part, piece in parts))
    found = jnp.zeros(x.shape, bool)
    if isinstance(space, Interval | Positive):
        low, high = _innermost(space, x.dtype)
        found = (x <= low) | (x >= high)
        for end in (end for end in (ends_of(space) or ()) if 0 < abs(end) < math.inf):
            # Numbers near zero keep the digits of their distance from it; near another end half of them are lost.
            found = found | (abs(x - end) < math.sqrt(float(jnp.finfo(x.dtype).eps)) * abs(end))
    return jnp.any(found, axis=tuple(range(x.ndim - len(space.shape), x.ndim)))


def _innermost(space: Interval | Positive | Torus, dtype: Any) -> tuple[float, float]:
    """The outermost normal numbers inside the ends."""
    if isinstance(space, Positive):
        info = jnp.finfo(dtype)
        return float(info.tiny) * 1024, 0.99 * float(info.max)
    low, high = innermost(space.low, space.high, dtype)
    return (float(np.asarray(space.low, dtype)) if isinstance(space, Torus) else low), high


def _each_number(space: AbstractSpace) -> tuple[AbstractSpace, ...]:
    num = math.prod(space.shape[1:])
    return tuple(one for one in each_variable(space) for _ in range(num))


def _equal(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Equality of kind, shape and ends. Ends that are traced arrays have no value yet, so they are taken for equal."""
    equal = eqx.tree_equal(a, b)
    return True if isinstance(equal, Tracer) else bool(equal)
