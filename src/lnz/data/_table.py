"""Files that are read in blocks of rows, and so may be larger than memory."""

import dataclasses
import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import Refusal, missing_value, place, tidy


@dataclasses.dataclass(frozen=True)
class Table:
    """A file as blocks of rows `[k, *row_shape]`, which can be gone through more than once.

    `num_bytes` is the size of all of it in memory, where the file says; `whole` a memory map of it, where it has one.
    """

    path: Path
    read: Callable[[], Iterator[np.ndarray]]
    dtype: np.dtype
    columns: tuple[str, ...] | None = None
    num_bytes: int | None = None
    whole: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    allows_missing: bool = False

    def resident(self, limit: int) -> np.ndarray | None:
        """All of the rows as one array in memory, or `None` as soon as they are more than `limit` bytes."""
        if self.num_bytes is not None and self.num_bytes > limit:
            return None
        parts, num_bytes = [], 0
        for block in self.read():
            parts.append(block)
            num_bytes += block.nbytes
            if num_bytes > limit:
                return None
        if not parts:
            raise Refusal(f"`{self.path}` has no rows of data: at least one is needed.")
        whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
        end = len(whole)
        while parts:  # from the end, so that each part is given back once it is copied
            part = parts.pop()
            whole[end - len(part) : end] = part
            end -= len(part)
        return whole


def batch_to_array(batch: Any, dtype: np.dtype, first_row: int, table: Table) -> np.ndarray:
    """Columns of Arrow as one array `[k, d]`; a missing value is nan, if there may be any."""
    import pyarrow as pa

    x = np.empty((batch.num_rows, batch.num_columns), dtype)
    for column, values in enumerate(batch.columns):
        if values.null_count and not table.allows_missing:
            row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            missing_value("empty or NaN", f"`{table.path}`", place(first_row + row, column, table.columns))
        x[:, column] = values.cast(pa.from_numpy_dtype(dtype), safe=False).to_numpy(zero_copy_only=False)  # null: nan
    return x


def choose_columns(path: Path, found: tuple[str, ...], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The wanted columns, which the file must have; all of them for `None`."""
    if len(set(found)) < len(found):
        name = next(name for name in found if found.count(name) > 1)
        raise Refusal(f"`{path}` has two columns called {tidy(name)}: give each column its own name.")
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(map(tidy, found[:10]))}."
            raise Refusal(f"`{path}` has no column {tidy(name)}: {hint}")
    return wanted
