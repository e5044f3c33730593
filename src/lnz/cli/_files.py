"""Writing tables to files. Each file is written whole or not at all."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..data import guarded
from ..files import atomic_file, check_name


def check_ending(path: Path, endings: Iterable[str]) -> None:
    """**Raises:** `ValueError` for a file name with another ending, or a folder. Called before anything is computed."""
    if path.suffix not in tuple(endings):
        raise ValueError(f"`--out {path}` must end in one of {', '.join(endings)}; got {path.suffix or 'no ending'}.")
    check_name(path, "--out")
    if path.is_dir():
        raise ValueError(f"`--out {path}` is a folder; add the name of a file.")


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length to `.csv` or `.parquet`, a piece at a time."""
    check_ending(path, TABLES)
    with atomic_file(path) as file:
        TABLES[path.suffix](file, columns)


def _csv(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
    from pyarrow import csv

    first, *others = _pieces(columns)
    schema = _table(_guarded(first)).schema
    with csv.CSVWriter(file, schema, write_options=csv.WriteOptions(quoting_style="needed")) as writer:
        for piece in (first, *others):
            writer.write_table(_table(_guarded(piece)))


def _guarded(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Guard names and texts, so that a spreadsheet does not run them as formulas. Numbers stay as they are."""
    return {guarded(name): _guarded_texts(values) for name, values in columns.items()}


def _guarded_texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "UO":
        return values
    texts, index = np.unique(values, return_inverse=True)
    return np.array([guarded(str(text)) for text in texts], str)[index]


def _parquet(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
    from pyarrow import parquet

    first, *others = _pieces(columns)
    with parquet.ParquetWriter(file, _table(first).schema) as writer:
        for piece in (first, *others):
            writer.write_table(_table(piece))


_ROWS_WRITTEN = 2**16  # at a time


def _pieces(columns: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Split the columns into views of consecutive rows. There is at least one view, which may be empty."""
    num = len(next(iter(columns.values())))
    starts = range(0, max(num, 1), _ROWS_WRITTEN)
    return [{name: values[i : i + _ROWS_WRITTEN] for name, values in columns.items()} for i in starts]


def _table(columns: Mapping[str, np.ndarray]):
    import pyarrow

    return pyarrow.table({name: pyarrow.array(np.ascontiguousarray(values)) for name, values in columns.items()})


TABLES = {".csv": _csv, ".parquet": _parquet}
