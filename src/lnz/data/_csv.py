"""Text tables: `.csv`, `.csv.gz`, `.tsv`, parsed by Arrow in blocks; Python's slower parser explains what is wrong."""

import csv
import functools
import gzip
import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from ._budget import Budget, Metered
from ._checks import Refusal, missing_extra, place, reading, tidy
from ._table import Table, batch_to_array, choose_columns

MISSING = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "NULL", "null", "None")
_BLOCK_BYTES = 2**22
_LINE_BYTES = 2**21  # Arrow needs lines that are shorter than its blocks
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?)", re.IGNORECASE)


def open_csv(
    path: Path, columns: tuple[str, ...] | None = None, header: str = "auto", allows_missing: bool = False
) -> Table:
    """A text table whose first row is a header (`"yes"`), is none (`"no"`), or is looked at (`"auto"`)."""
    with reading(path, "a text table"), _open(path) as stream:
        first, num_lines = _first_row(stream, path)
    names, notes = _header(first) if header == "auto" else (tuple(first) if header == "yes" else None), ()
    if header == "auto" and names == tuple(map(str, range(len(first)))) == tuple(first):
        notes = ("its first row 0, 1, 2, ... taken for column names",)
    found = tuple(map(str, range(len(first)))) if names is None else names
    chosen = choose_columns(path, found, columns)
    skip = num_lines - (names is None)
    read = functools.partial(_blocks, found=found, skip=skip)
    table = Table(path, lambda: read(table), np.dtype(np.float64), chosen, notes=notes, allows_missing=allows_missing)
    return table


def _open(path: Path) -> io.BufferedReader:
    if not path.name.endswith(".gz"):
        return open(path, "rb")
    return io.BufferedReader(Metered(gzip.open(path), Budget(path)), 2**20)


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _first_row(stream: io.BufferedReader, path: Path) -> tuple[list[str], int]:
    """The first row that is not empty, and the number of lines up to its end."""
    for number in itertools.count(1):
        line = stream.readline(_LINE_BYTES)
        if not line:
            raise Refusal(f"`{path}` is empty: a table with at least one row is needed.")
        if len(line) == _LINE_BYTES:
            raise Refusal(f"`{path}` has a first line of more than {_LINE_BYTES} bytes: put one example in each line.")
        if line.strip(b"\r\n\xef\xbb\xbf"):
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise Refusal(f"`{path}` is not text in UTF-8: save it again as such.") from None
            return [cell.strip() for cell in next(csv.reader([text], delimiter=_delimiter(path)))], number
    raise AssertionError


def _header(first: list[str]) -> tuple[str, ...] | None:
    """The names in the first row, or `None` if it is one of data: nothing but numbers and missing values."""
    if any(cell not in MISSING and not _NUMBER.fullmatch(cell) for cell in first):
        return tuple(first)
    # What pandas writes for columns without names; as a row of data it would be a strange chance.
    return tuple(first) if len(first) > 2 and first == [str(i) for i in range(len(first))] else None


def _blocks(table: Table, found: tuple[str, ...], skip: int) -> Iterator[np.ndarray]:
    try:
        import pyarrow as pa
        from pyarrow import csv as arrow
    except ImportError as error:
        raise ImportError(missing_extra("Reading CSV files")) from error
    path, num_rows = table.path, 0
    read = arrow.ReadOptions(block_size=_BLOCK_BYTES, skip_rows=skip, column_names=list(found), use_threads=False)
    # An empty line of a table with one column is a missing value.
    parse = arrow.ParseOptions(delimiter=_delimiter(path), ignore_empty_lines=len(found) > 1)
    convert = arrow.ConvertOptions(
        column_types=dict.fromkeys(found, pa.float64()),
        null_values=list(MISSING),
        include_columns=list(table.columns or ()),
    )
    # Arrow's own file: its thread that reads ahead would wait for Python in a file of Python's, and if a refused table
    # ends the program meanwhile, that aborts (3 to 7 of 25 times).
    is_plain = not path.name.endswith(".gz")
    with reading(path, "a text table"), pa.OSFile(os.fsencode(path)) if is_plain else _open(path) as stream:
        try:
            for batch in arrow.open_csv(stream, read, parse, convert):
                yield batch_to_array(batch, np.dtype(np.float64), num_rows, table)
                num_rows += batch.num_rows
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) or "Could not skip" in str(error):  # nothing behind the header
                return
            _explain(table, found, skip, error)


def _explain(table: Table, found: tuple[str, ...], skip: int, error: Exception) -> NoReturn:
    """Find the first cell or row that Arrow cannot have liked."""
    path = table.path
    delimiter = _delimiter(path)
    with _open(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        rows = (row for row in csv.reader(itertools.islice(text, skip, None), delimiter=delimiter) if row)
        for number, row in enumerate(rows):
            if len(row) != len(found):
                advice = "remove that comment" if found[0].startswith("#") else "make all rows equally long"
                raise Refusal(
                    f"`{path}` has {len(row)} cells in row {number}, but {len(found)} in its first line: {advice}."
                ) from error
            for column, name in enumerate(table.columns or ()):
                cell = row[found.index(name)].strip()
                if cell not in MISSING and not _NUMBER.fullmatch(cell):
                    other = ";" if ";" in cell and delimiter == "," else "\t" if "\t" in cell else None
                    advice = "encode the column as numbers or remove it"
                    if other:
                        advice = f"separate its cells by {delimiter!r} instead of {other!r}"
                    elif number == 0 and skip == 0:
                        advice = 'if these are names, leave out `header="no"`'
                    raise Refusal(
                        f"`{path}` has the text {tidy(cell)} at {place(number, column, table.columns)}, "
                        f"but numbers are needed: {advice}."
                    ) from error
    raise error
