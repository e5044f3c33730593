"""Tables and pictures that the commands write, each file whole or not at all."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from .._atomic import write_atomically
from ..data._csv import guarded


def check_ending(path: Path, endings: Iterable[str]) -> None:
    """**Raises:** `ValueError` for a file of another kind, before anything is computed."""
    if path.suffix not in tuple(endings):
        raise ValueError(f"`--out {path}` must end in one of {', '.join(endings)}; got {path.suffix or 'no ending'}.")
    if path.is_dir():
        raise ValueError(f"`--out {path}` is a folder; add the name of a file.")


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Columns of equal length to `.csv` or `.parquet`."""
    check_ending(path, TABLES)
    write_atomically(path, TABLES[path.suffix](columns))


def _csv(columns: Mapping[str, np.ndarray]) -> bytes:
    from pyarrow import csv

    buffer = io.BytesIO()
    csv.write_csv(_table(_guarded(columns)), buffer, csv.WriteOptions(quoting_style="needed"))
    return buffer.getvalue()


def _guarded(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names and texts of others, which no spreadsheet may run as formulas; numbers stay as they are."""
    return {guarded(name): _guarded_texts(values) for name, values in columns.items()}


def _guarded_texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "UO":
        return values
    texts, index = np.unique(values, return_inverse=True)
    return np.array([guarded(str(text)) for text in texts])[index]


def _parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(_table(columns), buffer)
    return buffer.getvalue()


def _table(columns: Mapping[str, np.ndarray]):
    import pyarrow

    return pyarrow.table({name: pyarrow.array(np.ascontiguousarray(values)) for name, values in columns.items()})


TABLES = {".csv": _csv, ".parquet": _parquet}
