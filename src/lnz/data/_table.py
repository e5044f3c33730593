"""Files that are read in blocks of rows, and so may be larger than memory."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import UNNAMED, Cells, Refusal, tidy


@dataclasses.dataclass(frozen=True)
class Table:
    """A file as blocks of rows `[k, *row_shape]`, which can be read more than once.

    - `num_bytes`: size of all rows in memory, if the file states it.
    - `whole`: a memory map of the file, if it can be mapped as it is.
    - `cells`: how the file names its rows and columns; `left_out`: the columns that were not taken.
    """

    path: Path
    read: Callable[[], Iterator[np.ndarray]]
    dtype: np.dtype
    cells: Cells = UNNAMED
    num_bytes: int | None = None
    whole: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    allows_missing: bool = False

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.cells.columns

    def resident(self, limit: int) -> np.ndarray | None:
        """All rows as one array in memory, or `None` as soon as they exceed `limit` bytes."""
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
        while parts:  # from the end, so that each part is freed once it is copied
            part = parts.pop()
            whole[end - len(part) : end] = part
            end -= len(part)
        return whole


def batch_to_array(batch: Any, dtype: np.dtype) -> np.ndarray:
    """Arrow columns as one array `[k, d]`; a missing value is nan."""
    import pyarrow as pa

    x = np.empty((batch.num_rows, batch.num_columns), dtype)
    for column, values in enumerate(batch.columns):
        x[:, column] = values.cast(pa.from_numpy_dtype(dtype), safe=False).to_numpy(zero_copy_only=False)  # null: nan
    return x


def has_missing(batch: Any) -> bool:
    return any(values.null_count for values in batch.columns)


def choose_columns(path: Path, found: tuple[str, ...], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The wanted columns, which the file must have; all columns for `None`."""
    if len(set(found)) < len(found):
        name = next(name for name in found if found.count(name) > 1)
        raise Refusal(f"`{path}` has two columns called {tidy(name)}: give each column its own name.")
    if wanted is None:
        return found
    absent = [name for name in wanted if name not in found]
    if not absent:
        return wanted
    if found == numbered(len(found)):
        raise Refusal(
            f"`{path}` has no column names, but {_listed(wanted)} are needed: write these as its first row, in the "
            "order of its columns."
        )
    if wanted == numbered(len(wanted)):
        raise Refusal(
            f"`{path}` has the columns {_listed(found)}, but {len(wanted)} columns without names are needed: save them "
            "in that order, without a first row of names."
        )
    others = [name for name in found if name not in wanted]
    near = difflib.get_close_matches(absent[0], others, n=1) if len(absent) == 1 else []
    hint = f'did you mean "{near[0]}"?' if near else f"it has {_listed(found)}."
    raise Refusal(f"`{path}` has no column{'s' if len(absent) > 1 else ''} {_listed(absent)}: {hint}")


NUM_INDEX_ROWS = 100  # rows inspected to tell an index from measurements
# pandas writes an empty name above its index, and calls the column "Unnamed: 0" once the file is read again.
_NAMELESS = re.compile(r"(Unnamed: \d+(\.\d+)*)?")


def num_nameless(found: Sequence[str]) -> int:
    """The number of leading columns without a name, before the first one with a name."""
    named = (place for place, name in enumerate(found) if not _NAMELESS.fullmatch(name))
    return next(named, min(1, len(found) - 1))


def not_an_index(path: Path, place: int, name: str, has: str) -> str:
    """The refusal of a column without a name that cannot be pandas' index."""
    column = f"column {tidy(name)}, as pandas calls one" if place else "first column"
    return (
        f"`{path}` has a {column} without a name, which is not pandas' index: it has {has}. Give it a name, or remove "
        "it."
    )


def numbered(num: int) -> tuple[str, ...]:
    """The column names for a file without names: "0", "1", ..."""
    return tuple(map(str, range(num)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(tidy, names[:10])) + more
