"""Turns arrays as stored in files into rows of a space: shape, kind of numbers, and dtype."""

from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from ..modules import rounded_by_floats
from ..spaces import AbstractSpace, Binary, Categorical, Euclidean
from ._checks import UNNAMED, Cells, Refusal, blocks, refuse_columns, short


def layout(
    shape: tuple[int, ...], dtype: np.dtype, is_unit: Callable[[], bool], where: str
) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The shape of pictures, if examples are pictures, and words about axes that were flattened.

    - `shape`: of the whole array, `[n, ...]`.
    - `is_unit`: whether all values lie between 0 and 1.
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


def infer_space(
    arrays: Sequence[np.ndarray], where: str, binarize: str = "none", are_pixels: bool = False
) -> AbstractSpace:
    """`Binary` for zeros and ones of any dtype, `Categorical` with 256 values for other bytes, otherwise `Euclidean`.

    If bytes are to be binarized, their full scale is 255 in every row, whatever the other rows hold.
    """
    num_columns = arrays[0].shape[1]
    are_bytes = {array.dtype == np.uint8 for array in arrays}
    if within(arrays, are_bits):
        has_ones = not within(arrays, lambda x: x == 0)
        return space_of_bits(num_columns, are_bytes == {True} and has_ones, where, binarize, are_pixels)
    if are_bytes == {True, False}:
        kinds = ", ".join(str(array.dtype) for array in arrays)
        raise Refusal(f"{where} has parts of different kinds ({kinds}): save all as uint8 or all as floats.")
    return Categorical(num_columns, 256) if are_bytes == {True} else Euclidean(num_columns)


def space_of_bits(
    num_columns: int, has_bytes_of_one: bool, where: str, binarize: str, are_pixels: bool = False
) -> AbstractSpace:
    """The space of values that are all zero or one.

    If they are binarized, pixels of image files are grey values with full scale 255. Other bytes may be bits already.

    **Raises:** `ValueError` for bytes if nothing tells whether a one means 1 of 255 or a bit.
    """
    if binarize == "none" or not has_bytes_of_one:
        return Binary(num_columns)
    if are_pixels:
        return Categorical(num_columns, 256)
    raise Refusal(
        f"{where} has only bytes 0 and 1, but `binarize={binarize!r}` takes 255 as their full scale. If they are bits, "
        "leave out `binarize` (`--set data.binarize=none`), or save them as true and false; if they are dark grey "
        "values, save them as floats, divided by 255."
    )


def stored_dtype(space: AbstractSpace, dtype: np.dtype) -> np.dtype:
    """The dtype in which rows of a space are stored: bytes, or floats with at least the digits of `dtype`.

    Verbs move columns that lie far from zero before they round them to the floats that JAX computes with (`lnz.local`).
    """
    if space.measure.is_counting:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32, "safe") else np.float64)


def check_size(x: np.ndarray, where: str, cells: Cells = UNNAMED, first_row: int = 0) -> None:
    """Refuses numbers in rows `[n, d]` that are too large for the floats of JAX, or whole ones that float64 rounds."""
    if x.dtype.kind in "iu":
        _check_exact(x, where, cells, first_row)
    computed = np.dtype(jnp.result_type(float))
    if x.dtype.kind != "f" or np.can_cast(x.dtype, computed, "safe"):
        return
    for start, block in blocks(x):
        bad = np.abs(block) > np.finfo(computed).max
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            raise Refusal(
                f"{where} has the value {block[row, column]} at {cells.place(first_row + start + row, column)}, too "
                f"large for {computed}: rescale the column, or turn on `jax_enable_x64`."
            )


def _check_exact(x: np.ndarray, where: str, cells: Cells, first_row: int) -> None:
    """**Raises:** `ValueError` for whole numbers that floats round, naming all columns that have some."""
    bad: dict[int, tuple[str, str]] = {}
    for start, block in blocks(x):
        rounded = rounded_by_floats(block)
        for column in np.flatnonzero(rounded.any(axis=0)).tolist():
            row = int(np.argmax(rounded[:, column]))
            bad.setdefault(column, ("large", f"{block[row, column]} in {cells.row(first_row + start + row)}"))
    refuse_columns(bad, where, cells)
