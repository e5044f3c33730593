"""Text tables: `.csv`, `.csv.gz`, `.tsv`, parsed by Arrow in blocks. Python's slower parser explains the errors."""

import csv
import dataclasses
import functools
import gzip
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ._budget import Budget, Metered
from ._checks import MOST_EXACT, Cells, Refusal, missing_extra, reading, refuse_columns, tidy
from ._header import find_names, num_compared
from ._table import (
    Table,
    batch_to_array,
    choose_columns,
    find_index,
    has_missing,
    numbered,
)
from ._text import DECIMAL_COMMA, MISSING, WHOLE, count_up, is_number, kind_of_cell

_BLOCK_BYTES = 2**22
_LINE_BYTES = 2**21  # Arrow needs lines that are shorter than its blocks
_SEPARATOR = re.compile(r"sep=(.)")  # a first line that tells Excel the separator
_NUM_ADVISED = 1000  # rows looked at, to tell why others have another length
_MOST_EXPLAINED = 2**21  # cells looked at, once something is wrong
# The start of a text that a spreadsheet would run as a formula, or that hides what comes after it.
_FORMULA = re.compile(r"[=+\-@\x00-\x1f\x7f＝＋－＠]")


def guarded(text: str) -> str:
    """`text` for a cell, after an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and _FORMULA.match(text, 1) else text


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How to read the bytes of a table: `found` are its column names, `skip` lines come before the first data row."""

    path: Path
    found: tuple[str, ...]
    skip: int

    @property
    def delimiter(self) -> str:
        return "\t" if self.path.name.lower().endswith((".tsv", ".tsv.gz")) else ","


def open_csv(
    path: Path, columns: tuple[str, ...] | None = None, header: str = "auto", allows_missing: bool = False
) -> Table:
    """Opens a text table. `header`: its first row is a header (`"yes"`), data (`"no"`), or to be judged (`"auto"`)."""
    with reading(path, "a text table"), _open(path) as stream:
        first, num_lines = _first_row(stream, path)
    names, notes = tuple(first) if header == "yes" else None, ()
    if header == "auto":
        beneath = _Layout(path, numbered(len(first)), num_lines)
        names, notes = find_names(path, first, lambda: _some_rows(beneath, num_compared(len(first)), len(first)))
    found = numbered(len(first)) if names is None else tuple(map(_unguarded, names))
    layout = _Layout(path, found, num_lines - (names is None))
    chosen, index = choose_columns(path, found, columns), ()
    if names is not None:
        with _rows_of(layout) as rows:
            index = find_index(path, found, ((f"line {line}", row) for line, row in rows), columns is None)
        chosen = found[len(index) :] if columns is None else chosen
    left_out = tuple(name for name in found if name not in chosen and name not in index)
    notes = (*notes, *(f"the index column {tidy(name)} left out" for name in index if name not in chosen))
    offsets = functools.cache(functools.partial(_line_offsets, layout))  # passes through the file when first needed
    cells = Cells(chosen, "line", lambda rows: _line_numbers(rows, *offsets()))
    dtype = np.dtype(np.float64)
    table = Table(
        path,
        lambda: _blocks(table, layout),
        dtype,
        cells,
        notes=notes,
        left_out=left_out,
        allows_missing=allows_missing,
    )
    return table


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _open(path: Path) -> io.BufferedReader:
    if not _is_packed(path):
        return open(path, "rb")
    return io.BufferedReader(Metered(gzip.open(path), Budget(path)), 2**20)


def _first_row(stream: io.BufferedReader, path: Path) -> tuple[list[str], int]:
    """The first row that is not empty, and the number of lines up to its end."""
    for number in itertools.count(1):
        line = stream.readline(_LINE_BYTES)
        if not line:
            raise Refusal(f"`{path}` is empty: a table with at least one row is needed.")
        if len(line) == _LINE_BYTES:
            raise Refusal(f"`{path}` has a first line of more than {_LINE_BYTES} bytes: put one example in each line.")
        if line.strip(b"\r\n\xef\xbb\xbf"):
            num_more = 0
            while line.count(b'"') % 2 and len(line) < _LINE_BYTES and (more := stream.readline(_LINE_BYTES)):
                line, num_more = line + more, num_more + 1  # a quoted name continues in the next line
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise Refusal(f"`{path}` is not text in UTF-8: save it again as such.") from None
            if "\r" in text.rstrip("\r\n") and '"' not in text:
                raise Refusal(
                    f"`{path}` ends its lines with a carriage return alone, as on old Macs: save it again with the "
                    "line ends of today."
                )
            delimiter = _Layout(path, (), 0).delimiter
            if separator := _SEPARATOR.fullmatch(text.strip()):
                if separator[1] == delimiter:
                    continue
                _check_delimiter(_Layout(path, (), 0), None)
                raise Refusal(_other_delimiter(path, delimiter, separator[1], is_said=True))
            return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))], number + num_more
    raise AssertionError


def _num_empty_at_end(layout: _Layout) -> int:
    """The number of empty lines at the end of the file."""
    num = 0
    with _open(layout.path) as stream:
        for line in stream:
            num = 0 if line.strip(b"\r\n") else num + 1
    return num


def _but_last(batches: Iterable[Any], num: int) -> Iterator[Any]:
    """Arrow's batches of rows, without the last `num` rows of the file."""
    held: list[Any] = []
    num_held = 0
    for batch in batches:
        held.append(batch)
        num_held += batch.num_rows
        while held and num_held - held[0].num_rows >= num:
            num_held -= held[0].num_rows
            yield held.pop(0)
    for batch in held:
        if num_held > num:
            yield batch.slice(0, num_held - num)
        num_held -= batch.num_rows


def _blocks(table: Table, layout: _Layout) -> Iterator[np.ndarray]:
    try:
        import pyarrow as pa
        from pyarrow import csv as arrow
    except ImportError as error:
        raise ImportError(missing_extra("Reading CSV files")) from error
    path, found = table.path, layout.found
    is_exact = False  # whether large whole numbers were checked
    read = arrow.ReadOptions(
        block_size=_BLOCK_BYTES, skip_rows=layout.skip, column_names=list(found), use_threads=False
    )
    # An empty line of a table with one column is a missing value, unless it is at the end. Quoted cells of columns that
    # are left out may have line breaks, where a block must not end.
    parse = arrow.ParseOptions(delimiter=layout.delimiter, ignore_empty_lines=len(found) > 1, newlines_in_values=True)
    convert = arrow.ConvertOptions(
        column_types=dict.fromkeys(found, pa.float64()),
        null_values=[blank + cell for blank in ("", " ") for cell in MISSING],  # `1, 2` has blanks after its commas
        include_columns=list(table.columns or ()),
    )
    # Arrow's own file object: with a Python file, Arrow's read-ahead thread waits for Python, and if a refused table
    # ends the program meanwhile, the process aborts (3 to 7 of 25 times).
    source = _open(path) if _is_packed(path) else pa.OSFile(os.fsencode(path))
    num_empty = _num_empty_at_end(layout) if len(found) == 1 else 0
    with reading(path, "a text table"), source as stream:
        try:
            for batch in _but_last(arrow.open_csv(stream, read, parse, convert), num_empty):
                if has_missing(batch) and not table.allows_missing:
                    _explain(table, layout, None)
                block = batch_to_array(batch, np.dtype(np.float64))
                if not is_exact and (np.abs(block) >= MOST_EXACT).any():
                    _check_whole_numbers(table, layout)
                    is_exact = True
                yield block
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) or "Could not skip" in str(error):  # nothing after the header
                return
            _explain(table, layout, error)


@contextmanager
def _rows_of(layout: _Layout) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The rows as Python parses them, each with the number of its first line, counted from 1."""
    with _open(layout.path) as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        yield _numbered_rows(csv.reader(itertools.islice(text, layout.skip, None), delimiter=layout.delimiter), layout)


def _some_rows(layout: _Layout, num: int, num_cells: int | None = None) -> list[list[str]]:
    """The first `num` rows; if `num_cells` is given, those of them with as many cells."""
    with _rows_of(layout) as rows:
        return [row for _, row in itertools.islice(rows, num) if num_cells in (None, len(row))]


def _numbered_rows(reader, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    is_row = len(layout.found) == 1  # an empty line of a table with one column is a missing value, except at the end
    empty: list[int] = []
    while True:
        line = layout.skip + reader.line_num + 1
        row = next(reader, None)
        if row is None:
            return
        if row:
            yield from ((number, [""]) for number in empty)
            empty.clear()
            yield line, row
        elif is_row:
            empty.append(line)


def _line_numbers(rows: np.ndarray, first_rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The lines of the file in which rows start. Lines count from 1, including the header and empty lines."""
    return rows + offsets[np.searchsorted(first_rows, rows, side="right") - 1]


def _line_offsets(layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """First rows and offsets: from each first row on, line = row + offset. Few, unless many rows span several lines."""
    try:
        with _open(layout.path) as stream:
            return _offsets_of(_plain_lines(stream, layout), layout)
    except _SpansLines:
        with _rows_of(layout) as rows:
            return _offsets_of((line for line, _ in rows), layout)


class _SpansLines(Exception):
    """A row may span several lines, which only a parser can tell."""


def _plain_lines(stream: io.BufferedReader, layout: _Layout) -> Iterator[int]:
    """The lines of rows, if each row takes one line; five times as fast as a parser."""
    is_row = len(layout.found) == 1
    for line, content in enumerate(stream, 1):
        if b'"' in content or b"\r" in content[:-2]:
            raise _SpansLines
        if line > layout.skip and (is_row or content.strip(b"\r\n")):
            yield line


def _offsets_of(lines: Iterable[int], layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    found = [(0, layout.skip + 1)]
    for row, line in enumerate(lines):
        if line - row != found[-1][1]:
            found.append((row, line - row))
    first_rows, offsets = np.array(found).T
    return first_rows, offsets


def _check_whole_numbers(table: Table, layout: _Layout) -> None:
    """**Raises:** `ValueError` for whole numbers that floats round, naming all columns that have some."""
    index = [layout.found.index(name) for name in table.columns or ()]
    bad: dict[int, tuple[str, str]] = {}
    with _rows_of(layout) as rows:
        for line, row in rows:
            for column, place in enumerate(index):
                cell = row[place].strip()
                if len(cell) > 15 and column not in bad and WHOLE.fullmatch(cell):
                    value = cell.partition(".")[0]
                    if len(value) < 40 and int(float(value)) != int(value):
                        bad[column] = "large", f"{tidy(cell)} in line {line}"
    refuse_columns(bad, f"`{table.path}`", table.cells)


def _explain(table: Table, layout: _Layout, error: Exception | None) -> NoReturn:
    """Refuses the first row of another length, or all columns with cells that Arrow cannot parse."""
    path, found = table.path, layout.found
    _check_delimiter(layout, error)
    index = [found.index(name) for name in table.columns or ()]
    bad: dict[int, tuple[str, str]] = {}
    commas: dict[int, set[str]] = {}  # for each column, the kinds that tell how to read a comma as in 5,251
    with _rows_of(layout) as rows:
        for number, (line, row) in enumerate(rows):
            if len(row) != len(found):
                raise Refusal(
                    f"`{path}` has {len(row)} cells in line {line}, but {len(found)} in its first row: "
                    f"{_advice(layout, len(row))}."
                ) from error
            for column, place in enumerate(index):
                cell = row[place]
                kind = None if is_number(cell.strip(" \t")) else kind_of_cell(cell)
                if kind is None or (kind == "missing" and (table.allows_missing or column in bad)):
                    continue
                if number == layout.skip == 0 and kind == "text":
                    raise Refusal(
                        f"`{path}` has the text {tidy(cell)} in its first row, but numbers are needed: if these are "
                        'names, leave out `header="no"`.'
                    ) from error
                if kind in ("decimal comma", "thousands"):
                    commas.setdefault(column, set()).add(kind)
                if column not in bad or bad[column][0] == "missing":
                    example = "the first" if kind == "missing" else tidy(cell)
                    bad[column] = kind, f"{example} in line {line}"
            if bad and number * len(index) > _MOST_EXPLAINED:
                break
    everywhere = set().union(*commas.values())
    for column, (kind, at) in bad.items():
        meant = commas.get(column, everywhere)
        if kind == "comma" and len(meant) == 1:
            bad[column] = next(iter(meant)), at
    refuse_columns(bad, f"`{path}`", table.cells)
    raise error or Refusal(f"`{path}` has missing values: fill them in.")


def _advice(layout: _Layout, num: int) -> str:
    """The remedy for rows of `num` cells, which is not the number of cells in the first row."""
    if layout.found[0].startswith("#"):
        return "remove that comment"
    rows = [[cell.strip() for cell in row] for row in _some_rows(layout, _NUM_ADVISED)]
    has_names = layout.found != numbered(len(layout.found))
    are_alike = {len(row) for row in rows} == {num} and all(is_number(row[-1]) or row[-1] == "NA" for row in rows)
    has_counts = are_alike and count_up([row[0] for row in rows], (1,))
    pairs = [",".join(row[i : i + 2]) for row in rows if len(row) % 2 == 0 for i in range(0, len(row), 2)]
    is_twice = max(num, len(layout.found)) == 2 * min(num, len(layout.found))
    if is_twice and not has_counts and pairs and all(map(DECIMAL_COMMA.fullmatch, pairs)):
        return "if it has decimal commas, write decimals with '.' instead; otherwise make all rows equally long"
    if has_names and are_alike and num == len(layout.found) + 1:
        return (
            "its row names lack a name of their own, as in R's `write.table`; write it with `row.names=FALSE` or "
            "`col.names=NA`"
        )
    return "make all rows equally long"


def _check_delimiter(layout: _Layout, error: Exception | None) -> None:
    """**Raises:** `ValueError` if the first two rows, header or not, have another separator."""
    with _open(layout.path) as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        lines = list(itertools.islice(filter(None, (line.strip() for line in text)), 3))
    is_said = bool(lines and _SEPARATOR.fullmatch(lines[0]))
    lines = lines[1:] if is_said else lines[:2]
    for other in (";", "\t", "|", " ", ","):
        rows = [line.split() if other == " " else line.split(other) for line in lines]
        if other == " " and any("\t" in line for line in lines):
            continue
        has_commas = [bool(DECIMAL_COMMA.fullmatch(cell.strip())) for cell in rows[-1]]
        are_numbers = has_commas if other != "," else []
        is_table = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
        if other == layout.delimiter or not is_table:
            continue
        if not any(are_numbers) and not any(is_number(cell.strip()) for cell in rows[-1]):
            continue
        raise Refusal(_other_delimiter(layout.path, layout.delimiter, other, any(are_numbers), is_said)) from error


def _other_delimiter(
    path: Path, delimiter: str, other: str, has_decimal_commas: bool = False, is_said: bool = False
) -> str:
    words, options = f"separate its cells by {delimiter!r} instead of {other!r}", ", skiprows=1" if is_said else ""
    separator = r'r"\s+"' if other == " " else repr(other)  # several blanks may stand between two cells
    if has_decimal_commas:
        words, options = f"{words}, and write decimals with '.' instead of ','", f'{options}, decimal=","'
    return (
        f"`{path}` is not a table of cells between {delimiter!r}: {words} "
        f"(pandas reads it by `pd.read_csv(path, sep={separator}{options})`)."
    )
