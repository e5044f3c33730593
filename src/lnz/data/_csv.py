"""Text tables: `.csv`, `.csv.gz`, `.tsv`, parsed by Arrow in blocks. Python's slower parser explains the errors."""

import csv
import dataclasses
import functools
import gzip
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ._budget import Budget, Metered
from ._checks import MOST_EXACT, Cells, Refusal, missing_extra, reading, refuse_columns, tidy
from ._header import are_names, num_compared
from ._table import (
    NUM_INDEX_ROWS,
    Table,
    batch_to_array,
    choose_columns,
    has_missing,
    not_an_index,
    num_nameless,
    numbered,
)

MISSING = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "NULL", "null", "None")
_BLOCK_BYTES = 2**22
_LINE_BYTES = 2**21  # Arrow needs lines that are shorter than its blocks
_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf(inity)?)", re.IGNORECASE)
_PLAIN = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 0,126 is a decimal
_BLANKS = re.compile(r"[+-]?[1-9]\d{0,2}([ \xa0\u202f]\d{3})+([.,]\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_EITHER_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # a decimal one, or one between thousands
_INVISIBLE = re.compile(r"[^\S \t]|[\xad\u200b-\u200f\u2060\ufeff]")  # other kinds of blanks, and zero-width characters
_UNIT = re.compile(r"[$€£¥]\s*[+-]?[\d.,]+|[+-]?[\d.,]+\s*[%‰€$£¥°]\w{0,2}")
_SEPARATOR = re.compile(r"sep=(.)")  # a first line that tells Excel the separator
_TRUTH = ("true", "false", "yes", "no")
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
    names, notes = _header(first) if header == "auto" else (tuple(first) if header == "yes" else None), ()
    if header == "auto" and names is None and _is_header_of_pandas(_Layout(path, (), num_lines - 1), first):
        names = tuple(first)
    if header == "auto" and names == numbered(len(first)) == tuple(first):
        notes = ("its first row 0, 1, 2, ... taken for column names",)
    found = numbered(len(first)) if names is None else tuple(map(_unguarded, names))
    layout = _Layout(path, found, num_lines - (names is None))
    if header == "auto":
        (_check_is_data if names is None else _check_is_header)(layout, first)
    chosen = choose_columns(path, found, columns)
    if columns is None and names is not None:
        index = _index_columns(layout)
        chosen = found[len(index) :]
        notes = (*notes, *(f"the index column {tidy(name)} left out" for name in index))
    offsets = functools.cache(functools.partial(_line_offsets, layout))  # passes through the file when first needed
    cells = Cells(chosen, "line", lambda rows: _line_numbers(rows, *offsets()))
    nameless = tuple(name for name in found[: num_nameless(found)] if name not in chosen) if names is not None else ()
    if columns is not None:
        notes = (*notes, *(f"the index column {tidy(name)} left out" for name in nameless))
    left_out = tuple(name for name in found if name not in (*chosen, *nameless))
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


def _header(first: list[str]) -> tuple[str, ...] | None:
    """The names in the first row, or `None` if it is data: only numbers and missing values."""
    if any(cell not in MISSING and not _NUMBER.fullmatch(cell) for cell in first):
        return tuple(first)
    # pandas writes 0, 1, 2, ... for columns without names, with or without its index. Data would hardly begin so.
    names = tuple(first[1:] if first[0] == "" else first)
    return tuple(first) if len(first) > 2 and names == numbered(len(names)) else None


def _is_header_of_pandas(layout: _Layout, first: list[str]) -> bool:
    """Whether a first row `0`, or `0,1`, or these after an empty cell, holds names that pandas gave to columns.

    It does if an index 0, 1, ... stands below the empty cell; or, without an empty cell, if no number below is written
    like the names, without a point.
    """
    has_index = first[0] == ""
    names = tuple(first[has_index:])
    if not names or names != numbered(len(names)):
        return False
    below = _below(layout, len(first))
    if has_index:
        return len(below) > 0 and [row[0].strip() for row in below] == list(numbered(len(below)))
    return _are_written_unlike(below)


def _below(layout: _Layout, num_cells: int) -> list[list[str]]:
    """Rows below the first one that have as many cells."""
    with _rows_of(layout) as rows:
        return [row for _, row in itertools.islice(rows, 1, 1 + num_compared(num_cells)) if len(row) == num_cells]


def _are_written_unlike(below: list[list[str]]) -> bool:
    """Whether 10 rows or more are all numbers, and none is written like a whole number, without a point."""
    cells = [cell.strip() for row in below for cell in row if cell.strip() not in MISSING]
    return len(below) >= 10 and all(_NUMBER.fullmatch(cell) and not _PLAIN.fullmatch(cell) for cell in cells)


def _check_is_data(layout: _Layout, first: list[str]) -> None:
    """**Raises:** `ValueError` if a first row of numbers looks like column names, such as years above measurements."""
    num_index = next((place for place, cell in enumerate(first) if cell not in MISSING), 0)  # leading nameless columns
    places = range(num_index, len(first))
    if any(first[place] in MISSING for place in places):
        return
    below = _below(layout, len(first))
    if all(map(_PLAIN.fullmatch, first)) and len(below) >= 30 and _are_written_unlike(below):
        raise _asked(layout.path, ", ".join(first[:3]) + (", ..." if len(first) > 3 else ""))
    if len(places) < 2:
        return
    cells = [row[place].strip() for row in below for place in places]
    if not all(_NUMBER.fullmatch(cell) or cell in MISSING for cell in cells):
        return
    x = np.array([np.nan if cell in MISSING else float(cell) for cell in cells]).reshape(-1, len(places))
    x[np.isinf(x)] = np.nan  # infinite values are refused later
    if are_names([first[place] for place in places], x):
        raise _asked(layout.path, ", ".join(first[:3]) + (", ..." if len(first) > 3 else ""))


def _asked(path: Path, cells: str) -> Refusal:
    return Refusal(
        f"`{path}` has {cells} in its first row, which may be column names or data: say which by "
        '`header="yes"` or `header="no"` (`--set data.header=yes` or `no`).'
    )


def _check_is_header(layout: _Layout, first: list[str]) -> None:
    """**Raises:** `ValueError` if a first row with text looks like data with an odd cell, such as `5.1,?,1.4`."""
    numbers = [place for place, cell in enumerate(first) if _NUMBER.fullmatch(cell)]
    odd = [place for place, cell in enumerate(first) if place not in numbers and cell not in MISSING]
    is_named = all(any(map(str.isalpha, first[place])) for place in odd)
    if not numbers or not odd or (is_named and _are_consecutive([first[place] for place in numbers])):
        return
    with _rows_of(layout) as rows:
        below = [row for _, row in itertools.islice(rows, num_compared(len(first))) if len(row) == len(first)]
    x = np.array([[_number(cell) for cell in row] for row in below]).reshape(-1, len(first))
    if np.isnan(x[:, odd]).all(axis=0).any():  # other rows have text too, which is refused later
        return
    if is_named and are_names([first[place] for place in numbers], x[:, numbers]):
        return
    raise Refusal(
        f"`{layout.path}` has {tidy(first[odd[0]])} beside {first[numbers[0]]} in its first row, which may be column "
        'names, or data with a cell that is not a number: say which by `header="yes"` or `header="no"` '
        "(`--set data.header=yes` or `no`)."
    )


def _are_consecutive(cells: list[str]) -> bool:
    """Whether cells are whole numbers that count up from 0 or 1, as column names do."""
    return any(cells == [str(start + i) for i in range(len(cells))] for start in (0, 1))


def _number(cell: str) -> float:
    cell = cell.strip()
    return float(cell) if _NUMBER.fullmatch(cell) else math.nan


def _index_columns(layout: _Layout) -> tuple[str, ...]:
    """The leading columns without a name, which are pandas' index, written once or more: whole numbers.

    **Raises:** `ValueError` if such a column, before others, holds something else.
    """
    num = num_nameless(layout.found)
    if not num:
        return ()
    seen: list[set[str]] = [set() for _ in range(num)]
    with _rows_of(layout) as rows:
        for line, row in itertools.islice(rows, NUM_INDEX_ROWS):
            for place, cell in enumerate(map(str.strip, row[:num])):
                is_number = _NUMBER.fullmatch(cell)
                if (is_number and not _WHOLE.fullmatch(cell)) or (place and (not is_number or cell in seen[place])):
                    has = f"{tidy(cell)} {'once more ' if cell in seen[place] else ''}in line {line}"
                    raise Refusal(not_an_index(layout.path, place, layout.found[place], has))
                seen[place].add(cell)
    return layout.found[:num]


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
                if len(cell) > 15 and column not in bad and _WHOLE.fullmatch(cell):
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
                advice = "remove that comment" if found[0].startswith("#") else "make all rows equally long"
                raise Refusal(
                    f"`{path}` has {len(row)} cells in line {line}, but {len(found)} in its first row: {advice}."
                ) from error
            for column, place in enumerate(index):
                cell = row[place]
                kind = None if _NUMBER.fullmatch(cell.strip(" \t")) else _kind_of(cell)
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


def _kind_of(cell: str) -> str:
    """The kind of content of a cell that is not a number."""
    text = cell.strip()
    if cell.removeprefix(" ") in MISSING:
        return "missing"
    if text.lower() in _TRUTH:
        return "truth"
    kind = next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(text)), "text")
    return "invisible" if kind == "text" and _NUMBER.fullmatch(_INVISIBLE.sub("", text)) else kind


_PATTERNS = (
    ("date", _DATE),
    ("comma", _EITHER_COMMA),
    ("thousands", _THOUSANDS),
    ("blanks", _BLANKS),
    ("decimal comma", _DECIMAL_COMMA),
    ("unit", _UNIT),
)


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
        has_commas = [bool(_DECIMAL_COMMA.fullmatch(cell.strip())) for cell in rows[-1]]
        are_numbers = has_commas if other != "," else []
        is_table = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
        if other == layout.delimiter or not is_table:
            continue
        if not any(are_numbers) and not any(_NUMBER.fullmatch(cell.strip()) for cell in rows[-1]):
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
