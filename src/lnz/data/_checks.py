"""Checks of all readers. Each error is one sentence with the file, the place and what to try."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..files import forget_pages

_BLOCK_BYTES = 2**23
MOST_EXACT = 2**53  # up to here float64 holds every whole number


class Refusal(ValueError):
    """A refused file, with a message in our own words. Readers turn all other errors of decoders into this one."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns any error of a decoder on damaged bytes into one sentence that names the file."""
    try:
        yield
    except (Refusal, ImportError, FileNotFoundError, PermissionError):
        raise
    # Broad on purpose: no decoder documents what it raises on hostile bytes (struct.error, KeyError, zlib.error, ...),
    # and it differs between versions.
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise Refusal(
            f"`{path}` cannot be read as {kind} ({reason}): it may be damaged or cut off; "
            "try to fetch or write it again."
        ) from error


def missing_extra(what: str) -> str:
    """The sentence that says which extra `what` needs."""
    return f'{what} needs `pip install "lnz[app]"`.'


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields pairs of a row number and the block of rows that starts there, a view of a few megabytes."""
    num_rows = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), num_rows):
        yield start, array[start : start + num_rows]
        forget_pages(array)


def _from_zero(rows: np.ndarray) -> np.ndarray:
    return rows


@dataclasses.dataclass(frozen=True)
class Cells:
    """How a file itself names its rows and columns, for messages and scores.

    - `columns`: names of the columns, if any.
    - `kind`: the word for a row. `"line"` in a text table, counted from 1 with the header; `"file"` in a folder;
      `"row"` in an array, counted from 0, or `test[15]` if the file has several arrays.
    - `names_of`: maps row numbers, counted from 0, to the file's own names.
    """

    columns: tuple[str, ...] | None = None
    kind: str = "row"
    names_of: Callable[[np.ndarray], np.ndarray] = _from_zero

    def chosen(self, rows: np.ndarray) -> "Cells":
        """The cells of some rows, which are then counted from 0."""
        return dataclasses.replace(self, names_of=lambda index: self.names_of(rows[index]))

    def of_parts(self, sizes: Mapping[str, int]) -> "Cells":
        """The cells of a file with several arrays, one after another, each counted from 0."""
        if len(sizes) == 1:
            return self
        names = np.array([f"{part}[{i}]" for part, size in sizes.items() for i in range(size)])
        return dataclasses.replace(self, names_of=names.__getitem__)

    def row(self, number: int) -> str:
        """The name of a row, such as `line 17`."""
        name = self.names_of(np.array([number]))[0]
        return f"{self.kind} {tidy(name) if isinstance(name, str) else name}"

    def column(self, number: int) -> str:
        """The name of a column, such as `column "height"`, or its number if it has no name."""
        name = str(number) if self.columns is None else self.columns[number]
        return f"column {name}" if name == str(number) else f'column "{tidy(name)[1:-1]}"'

    def place(self, row: int, column: int) -> str:
        """The name of a cell, such as `line 17, column "height"`."""
        return f"{self.row(row)}, {self.column(column)}"


UNNAMED = Cells()


def check_kind(shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Refuses an array that is not a table of real numbers, before any of it is read."""
    if dtype.hasobject:
        raise Refusal(f"{where} holds Python objects, which are never unpickled here: save it as plain numbers.")
    if dtype.kind not in "biuf":
        remedy = {
            "M": "write seconds since the first, `(x - x.min()) / np.timedelta64(1, 's')`",
            "m": "write seconds, `x / np.timedelta64(1, 's')`",
            "c": "write two columns, `x.real` and `x.imag`",
        }.get(dtype.kind, _about_fields(dtype) or "write numbers for them first")
        raise Refusal(f"{where} must hold real numbers; got dtype {dtype}: {remedy}.")
    if len(shape) < 2:
        raise Refusal(
            f"{where} must have examples in rows, shape (n, d); got shape {short(shape)}: "
            "try `reshape(-1, 1)` for numbers, `reshape(1, -1)` for a single example."
        )
    if 0 in shape:
        raise Refusal(f"{where} is empty: it has shape {short(shape)}, and at least one row and one column are needed.")


def _about_fields(dtype: np.dtype) -> str | None:
    """The remedy for records, if some of their fields are numbers."""
    names = dtype.names or ()
    good = [name for name in names if dtype[name].base.kind in "biuf"]
    if not good:
        return None
    chosen = "x" if len(good) == len(names) else f"x[{good}]"
    return f"write its fields as columns, `numpy.lib.recfunctions.structured_to_unstructured({chosen})`"


def check_finite(x: np.ndarray, where: str, cells: Cells = UNNAMED, first_row: int = 0) -> None:
    """Refuses missing (nan) and infinite values in rows `[n, d]`, naming all columns that have some."""
    if x.dtype.kind != "f":
        return
    found: dict[int, tuple[str, str]] = {}
    for start, block in blocks(x):
        bad = ~np.isfinite(block)
        for column in np.flatnonzero(bad.any(axis=0)).tolist():
            row = int(np.argmax(bad[:, column]))
            kind = "missing" if np.isnan(block[row, column]) else "infinite"
            found.setdefault(column, (kind, f"{block[row, column]} in {cells.row(first_row + start + row)}"))
    refuse_columns(found, where, cells)


# What may be found in place of a number, and the remedy, from worst to least.
_KINDS = {
    "text": ("text", "encode it as numbers or remove it"),
    "date": ("dates or times", "count days or seconds"),
    "truth": ("true and false", "write 1 and 0"),
    "decimal comma": ("decimal commas", "write 1.5, not 1,5"),
    "thousands": ("commas between thousands", "write 1234, not 1,234"),
    "blanks": ("spaces between thousands", "write 1234, not 1 234"),
    "comma": ("commas, of decimals or between thousands", "write 5.251 or 5251, not 5,251"),
    "unit": ("signs or units beside numbers", "write the number alone"),
    "invisible": ("numbers with invisible signs, such as non-breaking spaces", "remove these signs"),
    "large": (
        "whole numbers beyond 2**53 that floats round",
        "subtract a constant from the column, or remove it where its numbers are names",
    ),
    "empty": ("no value in any row", "remove it"),
    "infinite": ("infinite values", "fill in or remove such rows"),
    "missing": (
        "missing values",
        'fill in or remove such rows, or try `missing="mask"` (`--set data.missing=mask` of train, evaluate, score)',
    ),
}
_MOST_NAMED = 5


def refuse_columns(found: Mapping[int, tuple[str, str]], where: str, cells: Cells) -> None:
    """Refuses all columns that are not numbers, in one sentence with the remedy for each kind.

    `found` has the kind and an example for each such column, such as `("text", "'blue' in line 7")`. If it is empty,
    nothing is refused.
    """
    if not found:
        return
    words = []
    for kind, (what, remedy) in _KINDS.items():
        columns = sorted(column for column in found if found[column][0] == kind)
        if columns:
            named = ", ".join(cells.column(column).removeprefix("column ") for column in columns[:_MOST_NAMED])
            more = f" and {len(columns) - _MOST_NAMED} more" if len(columns) > _MOST_NAMED else ""
            has = "columns {}{} have" if len(columns) > 1 else "column {}{} has"
            words.append(f"{has.format(named, more)} {what} ({found[columns[0]][1]}): {remedy}")
    raise Refusal(f"{where} needs a finite number in every cell, but {'; '.join(words)}.")


def check_varies(x: np.ndarray, where: str, cells: Cells = UNNAMED) -> None:
    """Refuses a column that is constant over the training rows of continuous data: its density has no upper bound.

    A column counts as constant if its values differ by less than float32 can hold.
    """
    varies = np.zeros(x.shape[1], bool)
    for _, block in blocks(x):
        with np.errstate(over="ignore"):
            varies |= (np.abs(block - x[0]) > np.finfo(np.float32).tiny).any(axis=0)
        if varies.all():
            return
    column = int(np.argmin(varies))
    raise Refusal(
        f"{where} has the same value {x[0, column]} in all {len(x)} training rows of {cells.column(column)}, where a "
        "density of continuous data has no upper bound: remove the column, add noise to it, or save grey values as "
        "uint8."
    )


def short(shape: tuple[int, ...]) -> str:
    """A shape for a message, cut off if long: damaged headers claim very long ones."""
    text = str(shape)
    return text if len(text) <= 60 else text[:60] + "...)"


def tidy(text: str, limit: int = 40) -> str:
    """Text of a file for a message: no line breaks or control characters, not too long."""
    text = re.sub(r"[\x00-\x1f\x7f]", "?", text)
    return repr(text if len(text) <= limit else text[:limit] + "...")
