"""Bijections made of bijections."""

from collections.abc import Sequence

import jax.random as jr
from jaxtyping import Array

from ..modules import field_names, kind_of, replace
from ..numerics import over_batch
from ..spaces import AbstractSpace
from ._bijection import AbstractBijection


def _check_bijections(bijections: tuple[AbstractBijection, ...], owner: str) -> None:
    if not bijections:
        raise ValueError(f"`{owner}(...)` needs at least one bijection.")
    for i, bijection in enumerate(bijections):
        if not isinstance(bijection, AbstractBijection):
            kind = kind_of(bijection)
            advice = f" Try `{owner}(*bijections)`." if isinstance(bijection, list | tuple) else ""
            raise TypeError(f"`{owner}(...)` needs bijections, one by one; argument {i} is {kind}.{advice}")


def _split(keys: Array | None, num: int) -> list:
    """`num` keys from each key of `[*batch]`."""
    if keys is None:
        return [None] * num
    split = over_batch(lambda key: jr.split(key, num), keys.ndim)(keys)
    return list(split)


def _check_stackable(spaces: Sequence[AbstractSpace], owner: str) -> None:
    for space in spaces:
        if "shape" not in field_names(type(space)):  # the shape of a product, say, follows from its parts
            raise ValueError(f"`{owner}` needs a space that may have any shape; got {space}.")


def _stacked(space: AbstractSpace, num: int) -> AbstractSpace:
    """The space of `num` points of `space`, `[num, *space.shape]`."""
    return replace(space, shape=(num, *space.shape))
