"""Parquet tables, in blocks of rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import Refusal, missing_extra, place, reading, tidy
from ._table import Table, batch_to_array, choose_columns

_BLOCK_BYTES = 2**23
_BUFFER_BYTES = 2**16  # for each column


def open_parquet(path: Path, columns: tuple[str, ...] | None = None, allows_missing: bool = False) -> Table:
    """A table of numbers: `uint8` where all columns are, otherwise `float32` or `float64`."""
    with reading(path, "a Parquet table"), _open(path) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows
        chosen = choose_columns(path, tuple(schema.names), columns)
        if not chosen or num_rows < 1:
            raise Refusal(f"`{path}` is empty: it has {num_rows} rows and {len(chosen)} columns.")
        dtypes = {_dtype(file, schema, name, number, chosen, path) for number, name in enumerate(chosen)}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float64)
    if allows_missing:
        dtype = np.result_type(dtype, np.float32)  # which has a nan
    num_bytes = num_rows * len(chosen) * dtype.itemsize
    table = Table(path, lambda: _blocks(table, dtype), dtype, chosen, num_bytes, allows_missing=allows_missing)
    return table


def _open(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(missing_extra("Reading Parquet files")) from error
    # By default, whole groups of rows are read ahead: more memory than the table needs, and slower.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _dtype(file: Any, schema: Any, name: str, number: int, columns: tuple[str, ...], path: Path) -> np.dtype:
    from pyarrow import types

    kind = schema.field(name).type
    if types.is_boolean(kind) or types.is_uint8(kind):
        return np.dtype(np.uint8)
    if types.is_float16(kind) or types.is_float32(kind):
        return np.dtype(np.float32)
    if types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind):
        return np.dtype(np.float64)
    first = next(file.iter_batches(batch_size=1, columns=[name])).column(0)[0]
    raise Refusal(
        f"`{path}` has the value {tidy(str(first))} of type {kind} at {place(0, number, columns)}, "
        "but numbers are needed: encode the column as numbers or remove it."
    )


def _blocks(table: Table, dtype: np.dtype) -> Iterator[np.ndarray]:
    columns = table.columns or ()
    batch_size = max(1, _BLOCK_BYTES // (len(columns) * dtype.itemsize))
    num_rows = 0
    with reading(table.path, "a Parquet table"), _open(table.path) as file:
        for batch in file.iter_batches(batch_size=batch_size, columns=list(columns), use_threads=False):
            batch = batch.select(list(columns))  # which come in the order of the file
            yield batch_to_array(batch, dtype, num_rows, table)
            num_rows += batch.num_rows
