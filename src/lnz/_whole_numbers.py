"""Data that are no draws of a density: whole numbers, again and again."""

import warnings
from typing import Any

import numpy as np

from ._space import AbstractSpace

_NUM_CHECKED = 2**18  # numbers, of the first rows
_MANY = 5


def warn_of_whole_numbers(space: AbstractSpace, rows: Any, stacklevel: int) -> None:
    """A `UserWarning` if `rows` have probabilities, and models on `space` densities.

    That is where every number is whole, there are two or more different ones, and each occurs five times on average.
    A table with but one column of whole numbers among others is none, nor are amounts that hardly ever repeat.
    """
    if space.base_measure != "Lebesgue":
        return
    some = np.asarray(rows[: max(1, _NUM_CHECKED // max(1, space.num_dimensions))])
    if some.dtype.kind == "f" and (some % 1 != 0).any():  # also where there is none, nan
        return
    num = len(np.unique(some))
    if 2 <= num <= some.size // _MANY:
        warnings.warn(
            f"The data are whole numbers, {num} different ones, and {space} has densities: a density at whole "
            "numbers can grow without bound, so that its nats mean nothing. Add uniform noise "
            "(`lnz.latent.Dequantised(flow, space)`), or use a likelihood of bits, categories or counts.",
            stacklevel=stacklevel + 1,
        )
