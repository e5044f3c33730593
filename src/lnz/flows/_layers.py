"""What architectures share."""

from typing import Literal

import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._space import AbstractSpace, Euclidean
from ..bijections import AbstractBijection, Flip, Permutation


def num_variables(space: AbstractSpace, name: str, least: int = 1) -> int:
    if not isinstance(space, Euclidean) or len(space.shape) != 1 or space.shape[0] < least:
        words = "lnz.Euclidean(n)" + (f" with n >= {least}" if least > 1 else "")
        raise TypeError(f"`{name}(space)` needs `{words}`; got {space}.")
    return space.shape[0]


Order = Literal["reverse", "random"]


def mixing(space: AbstractSpace, order: Order, key: PRNGKeyArray, name: str) -> AbstractBijection:
    """What exchanges the variables between two layers."""
    if order == "reverse":
        return Flip(space)
    if order == "random":
        return Permutation(jr.permutation(key, space.shape[0]), space)
    raise ValueError(f"`{name}(order=...)` must be 'reverse' or 'random'; got {order!r}.")
