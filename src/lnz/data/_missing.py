"""Examples with missing entries."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..modules import as_numbers, check_same_columns
from ..spaces import AbstractSpace, inner_point


def known_entries(
    space: AbstractSpace, data: Any, observed: Any, argument: str = "data", mask: str = "observed"
) -> tuple[np.ndarray, np.ndarray]:
    """Examples and the mask of their known entries, both `[n, *space.shape]`; unknown ones become a valid number.

    **Raises:** `TypeError` if `observed` is not true and false; `ValueError` if its shape or columns are not those of
    the data, or a known value is outside `space`.
    """
    check_same_columns(data, observed, argument, mask)
    given, data, observed = observed, np.asarray(as_numbers(data, argument)), np.asarray(as_numbers(observed, mask))
    if observed.dtype.kind == "f" and np.isnan(observed).any():
        fill = f"`{mask}.fillna(False)`" if hasattr(given, "fillna") else "false"
        raise TypeError(f"`{mask}` must be true and false, but has missing cells. Fill them in, with {fill}.")
    if observed.dtype != bool:
        raise TypeError(f"`{mask}` must be true and false; got {observed.dtype}. Try `{mask}.astype(bool)`.")
    if observed.shape != data.shape:
        raise ValueError(
            f"`{mask}` must have the shape of the {argument}, {data.shape}; got {observed.shape}. Try "
            f"`~np.isnan({argument})`."
        )
    inside = space.join([np.full(part.shape, inner_point(part)) for part in space.parts])
    inside = inside.astype(np.result_type(data, np.float16) if (inside % 1).any() else data.dtype)
    return np.asarray(space.check_data(np.where(observed, data, inside), argument)), observed


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
