"""Files that are read in blocks of rows, and so may be larger than memory."""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import UNNAMED, Cells, Refusal, tidy
from ._text import PLAIN, WHOLE, count_up, is_number


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


_NUM_INDEX_ROWS = 100  # rows inspected to tell an index from measurements
# pandas writes an empty name above its index, and calls the column "Unnamed: 0" once the file is read again.
_NAMELESS = re.compile(r"(Unnamed: \d+(\.\d+)*)?")
_INDEX_NAMES = ("level_0", "index")  # of an index that pandas or polars turned into a column
_FEW_COUNTS, _MANY_COUNTS, _SHUFFLED = 3, 5, 60


def num_nameless(found: Sequence[str]) -> int:
    """The number of leading columns without a name, before the first one with a name."""
    named = (place for place, name in enumerate(found) if not _NAMELESS.fullmatch(name))
    return next(named, min(1, len(found) - 1))


def index_candidates(found: Sequence[str]) -> list[str]:
    """The leading columns that may be an index: those without a name, then those called as pandas calls an index."""
    num = num_nameless(found)
    while num < len(found) - 1 and found[num] in _INDEX_NAMES:
        num += 1
    return list(found[:num])


def find_index(
    path: Path, found: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], is_needed: bool
) -> tuple[str, ...]:
    """The leading columns that are an index: without a name, or with the usual name and counting the rows from 0.

    - `rows`: words on the place of each row, such as `line 2`, and its cells.
    - `is_needed`: whether a column without a name would be data if it is not an index.

    **Raises:** `ValueError` if it is not: it has numbers that are not whole, or, unless it is the first column, text or
    a number more than once.
    """
    candidates = index_candidates(found)
    if not candidates:
        return ()
    num, seen = num_nameless(found), [[] for _ in candidates]
    for where, row in itertools.islice(rows, _NUM_INDEX_ROWS):
        for place, cell in enumerate(map(str.strip, row[: len(candidates)])):
            is_wrong = is_number(cell) and not WHOLE.fullmatch(cell)
            if is_needed and place < num and (is_wrong or (place and (not is_number(cell) or cell in seen[place]))):
                column = f"column {tidy(found[place])}, as pandas calls one" if place else "first column"
                again = "once more " if cell in seen[place] else ""
                raise Refusal(
                    f"`{path}` has a {column} without a name, which is not pandas' index: it has {tidy(cell)} "
                    f"{again}in {where}. Give it a name, or remove it."
                )
            seen[place].append(cell)
    while num < len(candidates) and len(seen[num]) > 1 and count_up(seen[num], (0,)):
        num += 1
    return tuple(found[:num])


def check_counts(path: Path, rows: Sequence[Sequence[str]], keep: str = "") -> tuple[str, ...]:
    """Notes on the first column of a table without names if it may be an index: distinct whole numbers.

    `keep` is what to pass, besides new names, to keep that column.

    **Raises:** `ValueError` if it counts the rows.
    """
    if len(rows) < _FEW_COUNTS or len(rows[0]) < 2:
        return ()
    cells, are_measured = [row[0].strip() for row in rows], any("." in cell for row in rows for cell in row[1:])
    if count_up(cells) and (are_measured or len(rows) >= _MANY_COUNTS):
        raise Refusal(
            f"`{path}` has no column names, and its first column counts the rows, {', '.join(cells[:3])}, ...: if "
            "pandas wrote its index there, write the file with `index=False` or remove that column. If it is data, "
            f"name the columns{keep and f', or pass {keep}'}."
        )
    if not are_measured or len(rows) < 2 * _MANY_COUNTS or not all(map(PLAIN.fullmatch, cells)):
        return ()
    values = [int(cell) for cell in cells]
    rises = all(value < after for value, after in itertools.pairwise(values))
    is_shuffled = len(values) >= _SHUFFLED and len(set(values)) == len(values) and min(values) >= 0
    if rises or (is_shuffled and max(values) < 4 * len(values)):
        return ("its first column has distinct whole numbers: leave it out if it is an index",)
    return ()


def numbered(num: int) -> tuple[str, ...]:
    """The column names for a file without names: "0", "1", ..."""
    return tuple(map(str, range(num)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(tidy, names[:10])) + more
