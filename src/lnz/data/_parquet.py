"""Parquet tables, in blocks of rows."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..modules import rounded_by_floats
from ._budget import Budget
from ._checks import Cells, Refusal, missing_extra, reading, refuse_columns, tidy
from ._table import (
    Table,
    batch_to_array,
    check_counts,
    choose_columns,
    find_index,
    has_missing,
    index_candidates,
    numbered,
)

_BLOCK_BYTES = 2**23
_NUM_FIRST, _MOST_LOOKED_AT = 1000, 20  # rows and columns that may tell an index
_BUFFER_BYTES = 2**16  # for each column
_EXACT_DIGITS = 15  # whole numbers of up to this many decimal digits are exact as floats


def open_parquet(path: Path, columns: tuple[str, ...] | None = None, allows_missing: bool = False) -> Table:
    """Opens a table of numbers: `bool` or `uint8` if all columns are, otherwise `float32` or `float64`."""
    with reading(path, "a Parquet table"), _open(path) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows
        found = choose_columns(path, tuple(schema.names), columns)
        rows = enumerate(_first_rows(file, index_candidates(schema.names)))
        again = find_index(path, schema.names, ((f"row {i}", row) for i, row in rows), columns is None)
        index = tuple(dict.fromkeys((*_index_columns(schema), *again)))
        others = tuple(name for name in schema.names if name not in index)
        chosen = others if columns is None else found
        if not chosen or num_rows < 1:
            raise Refusal(f"`{path}` is empty: it has {num_rows} rows and {len(chosen)} columns.")
        cells = Cells(chosen)
        _check_kinds(file, schema, cells, path)
        _check_size(file, chosen, path)
        notes = tuple(f"the index column {tidy(name)} left out" for name in index if name not in chosen)
        if others == numbered(len(others)):
            notes += check_counts(path, _first_rows(file, others[:_MOST_LOOKED_AT]))
        dtypes = {kind for name in chosen if (kind := _dtype(schema.field(name).type)) is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float64)
    if allows_missing:
        dtype = np.result_type(dtype, np.float32)  # which has a nan
    table = Table(
        path,
        lambda: _blocks(table, dtype),
        dtype,
        cells,
        num_rows * len(chosen) * dtype.itemsize,
        notes=notes,
        left_out=tuple(name for name in others if name not in chosen),
        allows_missing=allows_missing,
    )
    return table


def _open(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(missing_extra("Reading Parquet files")) from error
    # By default, pyarrow reads whole row groups ahead, which takes more memory than the table and is slower.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _index_columns(schema: Any) -> tuple[str, ...]:
    """The columns that pandas wrote for its index, according to its metadata in the file."""
    try:
        index = list(json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", []))
    except (ValueError, AttributeError, TypeError, RecursionError):  # metadata of another form
        index = []
    return tuple(name for name in schema.names if name in index or name.startswith("__index_level_"))


def _first_rows(file: Any, names: Sequence[str]) -> list[list[str]]:
    """Columns of the first rows as text."""
    if not names or file.metadata.num_rows < 1:
        return []
    batch = next(file.iter_batches(batch_size=_NUM_FIRST, columns=list(names)))
    return [
        [str(value) for value in row] for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    ]


def _check_kinds(file: Any, schema: Any, cells: Cells, path: Path) -> None:
    """**Raises:** `ValueError` that names all columns that are not numbers."""
    bad: dict[int, tuple[str, str]] = {}
    for number, name in enumerate(cells.columns or ()):
        kind = schema.field(name).type
        if _dtype(kind) is None:
            first = next(file.iter_batches(batch_size=1, columns=[name])).column(0)[0]
            bad[number] = _kind_of(kind), f"{tidy(str(first))} of type {kind} in {cells.row(0)}"
    kinds = {number: _dtype(schema.field(name).type) for number, name in enumerate(cells.columns or ())}
    if len(set(kinds.values())) > 1:  # bools beside numbers are refused, as in a text table
        bad |= {number: ("truth", "of type bool") for number, kind in kinds.items() if kind == np.dtype(bool)}
    refuse_columns(bad, f"`{path}`", cells)


def _dtype(kind: Any) -> np.dtype | None:
    """The dtype for a column of numbers, or `None` if it holds something else."""
    from pyarrow import types

    if types.is_boolean(kind):
        return np.dtype(bool)
    if types.is_uint8(kind):
        return np.dtype(np.uint8)
    if types.is_float16(kind) or types.is_float32(kind):
        return np.dtype(np.float32)
    if types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind):
        return np.dtype(np.float64)
    return None


def _kind_of(kind: Any) -> str:
    from pyarrow import types

    if types.is_null(kind):
        return "empty"
    return "date" if types.is_temporal(kind) else "text"


def _check_size(file: Any, columns: tuple[str, ...], path: Path) -> None:
    """**Raises:** `ValueError` if the columns, by the sizes that the file states, are far larger than the file."""
    budget, names = Budget(path, is_streamed=True), set(columns)
    for group in range(file.metadata.num_row_groups):
        parts = file.metadata.row_group(group)
        for number in range(parts.num_columns):
            if parts.column(number).path_in_schema in names:
                budget.spend(max(0, parts.column(number).total_uncompressed_size))


def _blocks(table: Table, dtype: np.dtype) -> Iterator[np.ndarray]:
    columns = table.columns or ()
    batch_size = max(1, _BLOCK_BYTES // (len(columns) * dtype.itemsize))
    # The sizes that a file states may be wrong, so the decoded bytes are counted.
    budget, num_rows = Budget(table.path, is_streamed=True), 0
    with reading(table.path, "a Parquet table"), _open(table.path) as file:
        for batch in file.iter_batches(batch_size=batch_size, columns=list(columns), use_threads=False):
            batch = batch.select(list(columns))  # the batch has them in the order of the file
            budget.spend(batch.nbytes)
            if has_missing(batch) and not table.allows_missing:
                _refuse_missing(table, file, batch_size)
            _check_whole_numbers(table, batch, num_rows)
            num_rows += batch.num_rows
            yield batch_to_array(batch, dtype)


def _check_whole_numbers(table: Table, batch: Any, first_row: int) -> None:
    """**Raises:** `ValueError` for whole numbers that floats round, naming all columns that have some."""
    from pyarrow import types

    bad: dict[int, tuple[str, str]] = {}
    for number, values in enumerate(batch.columns):
        if types.is_int64(values.type) or types.is_uint64(values.type):
            whole = values.fill_null(0).to_numpy(zero_copy_only=False)
            rounded = rounded_by_floats(whole)
        elif types.is_decimal(values.type) and values.type.precision - values.type.scale > _EXACT_DIGITS:
            whole = np.array([value or 0 for value in values.to_pylist()], object)
            rounded = np.array([value % 1 == 0 and int(value) != int(float(value)) for value in whole], bool)
        else:
            continue
        if rounded.any():
            row = int(np.argmax(rounded))
            bad[number] = "large", f"{whole[row]} in {table.cells.row(first_row + row)}"
    refuse_columns(bad, f"`{table.path}`", table.cells)


def _refuse_missing(table: Table, file: Any, batch_size: int) -> NoReturn:
    found: dict[int, tuple[str, str]] = {}
    num_rows, columns = 0, list(table.columns or ())
    for batch in file.iter_batches(batch_size=batch_size, columns=columns, use_threads=False):
        for number, values in enumerate(batch.select(columns).columns):
            if values.null_count and number not in found:
                row = num_rows + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
                found[number] = "missing", f"the first in {table.cells.row(row)}"
        num_rows += batch.num_rows
    refuse_columns(found, f"`{table.path}`", table.cells)
    raise Refusal(f"`{table.path}` changed while it was read: load it again.")
