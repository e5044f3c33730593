"""The variables of a space, and comparisons of spaces as sets."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from ..modules import field_names, replace
from ._euclidean import Euclidean
from ._product import Product
from ._space import AbstractSpace


def each_variable(space: AbstractSpace) -> tuple[AbstractSpace, ...]:
    """For each i, the space of a single number in `x[i]`. For a scalar x it is the space of x."""
    if space.spaces:
        return _each_number(space)
    return (_one(space),) * (space.shape[0] if space.shape else 1)


def _each_number(space: AbstractSpace) -> tuple[AbstractSpace, ...]:
    return tuple(one for part in space.parts for one in (_one(part),) * part.size)


def _one(part: AbstractSpace) -> AbstractSpace:
    return replace(part, shape=()) if "shape" in field_names(type(part)) else part


def joined(variables: tuple[AbstractSpace, ...]) -> AbstractSpace:
    """The space of vectors whose entries live in these spaces of one number."""
    runs = [(one, len(list(run))) for one, run in itertools.groupby(variables)]
    parts = [replace(one, shape=(num,)) for one, num in runs]
    return parts[0] if len(parts) == 1 else Product(*parts)


def side_by_side(spaces: Sequence[AbstractSpace]) -> AbstractSpace:
    """The space of concatenated vectors from these spaces: R^n if all are Euclidean, else a `Product`."""
    if all(space.is_euclidean for space in spaces):
        return Euclidean(sum(space.size for space in spaces))
    return spaces[0] if len(spaces) == 1 else Product(*spaces)


def same_numbers(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether the numbers of two spaces, in order, live on the same sets. Shapes may differ."""
    if a.size != b.size or a.measure != b.measure:
        return False
    if not a.spaces and not b.spaces:
        return _equal(_one(a), _one(b)) if a.size else True
    return all(map(_equal, _each_number(a), _each_number(b)))


def same_set(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether two spaces have the same points: equal shapes, and equal kind, ends and name of each variable."""
    return a.shape == b.shape and names_agree(a, b) and same_numbers(a, b)


def names_agree(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether both spaces have the same names of entries, or one has none. Equal places need not mean equal names."""
    return a.entry_names is None or b.entry_names is None or a.entry_names == b.entry_names


def is_within(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether every point of `a` is a point of `b`, judged by kinds and ends of the variables."""
    if same_set(a, b):
        return True
    if a.shape != b.shape or (a.measure, a.kind) != (b.measure, b.kind) or not names_agree(a, b):
        return False
    for one, other in zip(each_variable(a), each_variable(b), strict=True):
        ends, wider = one.ends, other.ends
        inside = ends is not None and wider is not None and wider[0] <= ends[0] and ends[1] <= wider[1]
        if not inside and not _equal(one, other):
            return False
    return True


def as_input(space: AbstractSpace, x: Array, dtype: Any) -> Array:
    """`x` as input of a network: `2 x / (K - 1) - 1` for one of K categories, `log(1 + x)` for counts, otherwise x."""
    x = jnp.asarray(x).astype(dtype)
    return space.join([_input(*piece) for piece in zip(space.parts, space.split(x, -1), strict=True)], -1)


def _input(part: AbstractSpace, x: Array) -> Array:
    if part.kind != "int" or part.ends is None:
        return x
    high = part.ends[1]
    return jnp.log1p(x) if high == math.inf else x * (2 / max(high, 1.0)) - 1


def inner_point(space: AbstractSpace) -> float:
    """A valid number for every variable of a space with one kind of variables."""
    low, high = space.parts[0].ends or (0.0, 0.0)
    if space.measure.is_counting or low == -math.inf:
        return max(low, 0.0)
    return low + 1.0 if high == math.inf else low / 2 + high / 2


def has_circles(space: AbstractSpace) -> bool:
    """Whether any variable is an angle."""
    return any(part.periodic for part in space.parts)


def _equal(a: AbstractSpace, b: AbstractSpace) -> bool:
    """Whether kind, shape and ends are equal. Ends that are traced arrays have no value yet and count as equal."""
    equal = eqx.tree_equal(a, b)
    return True if isinstance(equal, Tracer) else bool(equal)
