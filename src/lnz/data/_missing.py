"""Examples with missing entries."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..modules import as_numbers, check_same_columns
from ..spaces import AbstractSpace


def known_entries(
    space: AbstractSpace, data: Any, observed: Any, argument: str = "data", mask: str = "observed"
) -> tuple[np.ndarray, np.ndarray]:
    """Examples with zeros where nothing is known, and where something is, both `[n, *space.shape]`.

    **Raises:** `TypeError` if `observed` is not true and false; `ValueError` if its shape or columns are not those of
    the data, or a known value is outside `space`.
    """
    check_same_columns(data, observed, argument, mask)
    data, observed = np.asarray(as_numbers(data, argument)), np.asarray(as_numbers(observed, mask))
    if observed.dtype != bool:
        raise TypeError(f"`{mask}` must be true and false; got {observed.dtype}. Try `{mask}.astype(bool)`.")
    if observed.shape != data.shape:
        raise ValueError(
            f"`{mask}` must have the shape of the {argument}, {data.shape}; got {observed.shape}. Try "
            f"`~np.isnan({argument})`."
        )
    array = np.asarray(space.check_data(np.where(observed, data, np.zeros((), data.dtype)), argument))
    return array, observed


def mark_missing(space: AbstractSpace, array: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """`array` with -1 (counted values) or nan (measured ones) for unknown entries, in the smallest dtype that fits."""
    if not space.measure.is_counting:
        return np.where(observed, array, np.asarray(np.nan, np.result_type(array.dtype, np.float16)))
    highest = int(array.max(initial=0))
    return np.where(observed, array, -1).astype(
        np.int8 if highest < 2**7 else np.int16 if highest < 2**15 else np.int32
    )


def is_missing(space: AbstractSpace, x: Array) -> Bool[Array, "..."]:
    """The entries that `mark_missing` marked; none if the data are complete."""
    if not space.measure.is_counting:
        return jnp.isnan(x)
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger) or x.dtype == bool:
        return jnp.zeros(x.shape, bool)
    return x < 0
