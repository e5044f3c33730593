"""Data that are no draws of a density: whole numbers, again and again."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._mapped import forget_pages
from ._space import AbstractSpace

_NUM_CHECKED = 2**18  # numbers
_MANY = 5


def warn_of_whole_numbers(space: AbstractSpace, rows: Any, stacklevel: int) -> None:
    """A `UserWarning` if `rows` have probabilities, and models on `space` densities.

    That is where every number is whole, there are two or more different ones, and each occurs five times on average,
    among 2**18 numbers: of more, only those in evenly spaced rows are looked at.
    A table with but one column of whole numbers among others is none, nor are amounts that hardly ever repeat.
    """
    if space.base_measure != "Lebesgue":
        return
    most_rows = max(1, _NUM_CHECKED // max(1, space.num_dimensions))
    some = np.array(rows[:: max(1, -(-len(rows) // most_rows))])
    forget_pages(rows)
    if jnp.issubdtype(some.dtype, jnp.floating) and (some != np.floor(some)).any():  # also where there is none, nan
        return
    num = len(np.unique(some))
    if 2 <= num <= some.size // _MANY:
        warnings.warn(
            f"The data are whole numbers, {num} different ones, and {space} has densities: a density at whole "
            "numbers can grow without bound, so that its nats mean nothing. Add uniform noise "
            "(`lnz.latent.Dequantised(flow, space)`), or use a likelihood of bits, categories or counts.",
            stacklevel=stacklevel + 1,
        )
