"""From arrays as files have them to rows of a space: shape, kind of numbers, and how they are stored."""

from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from .._space import AbstractSpace, Binary, Categorical, Euclidean
from ._checks import UNNAMED, Cells, Refusal, blocks, short


def layout(
    shape: tuple[int, ...], dtype: np.dtype, is_unit: Callable[[], bool], where: str
) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The shape of pictures, if examples are pictures, and words about axes that were flattened.

    `shape` is that of the whole array, `[n, ...]`; `is_unit` says whether all values lie between 0 and 1.
    """
    row = shape[1:]
    if len(row) == 3 and 1 in (row[0], row[2]):
        row = row[1:] if row[0] == 1 else row[:2]
    if len(row) == 2 and (dtype == np.uint8 or is_unit()):
        return (row[0], row[1]), ()
    return None, () if len(shape) == 2 else (f"examples of shape {short(shape[1:])} flattened to rows",)


def within(arrays: Iterable[np.ndarray], test: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether all values pass a test; stops at the first block that does not."""
    return all(test(block).all() for array in arrays for _, block in blocks(array))


def are_bits(x: np.ndarray) -> np.ndarray:
    return (x == 0) | (x == 1)


def are_unit(x: np.ndarray) -> np.ndarray:
    return (x >= 0) & (x <= 1)


def infer_space(arrays: Sequence[np.ndarray], where: str) -> AbstractSpace:
    """`Binary` for zeros and ones of any type, `Categorical` of 256 for other bytes, otherwise `Euclidean`."""
    num_columns = arrays[0].shape[1]
    if within(arrays, are_bits):
        return Binary(num_columns)
    are_bytes = {array.dtype == np.uint8 for array in arrays}
    if are_bytes == {True, False}:
        kinds = ", ".join(str(array.dtype) for array in arrays)
        raise Refusal(f"{where} has parts of different kinds ({kinds}): save all as uint8 or all as floats.")
    return Categorical(num_columns, 256) if are_bytes == {True} else Euclidean(num_columns)


def stored_dtype(space: AbstractSpace, dtype: np.dtype) -> np.dtype:
    """How rows of a space are kept: bytes, or the floats that JAX computes with."""
    if not isinstance(space, Euclidean):
        return np.dtype(np.uint8)
    is_short = dtype in (np.float16, np.float32)
    return np.dtype(np.float32 if is_short else jnp.result_type(float))


def store(x: np.ndarray, dtype: np.dtype, where: str, cells: Cells = UNNAMED, first_row: int = 0) -> np.ndarray:
    """Finite rows in another precision, or an error for the first value that would become infinite."""
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore", under="ignore"):
        result = x.astype(dtype)
    if dtype.kind == "f":
        for start, block in blocks(result):
            bad = np.isinf(block)
            if bad.any():
                row, column = np.argwhere(bad)[0].tolist()
                spot = cells.place(first_row + start + row, column)
                raise Refusal(
                    f"{where} has the value {x[start + row, column]} at {spot}, too large for {dtype}: "
                    "rescale the column, or turn on `jax_enable_x64`."
                )
    return result
