"""The user's own files: which reader, and what the run can record about them."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ._checks import Refusal, blocks
from ._contents import Contents
from ._csv import open_csv
from ._digest import digest_of
from ._idx import read_idx
from ._images import read_folder, read_image_zip
from ._large import map_table
from ._npy import open_npy, read_npz
from ._options import Options
from ._parquet import open_parquet
from ._prepare import as_bits, split, typed_rows
from ._splits import Rows, Splits
from ._table import Table

_TABLES = (".npy", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_READERS: dict[str, Callable[[Path], Contents]] = {
    ".npz": read_npz,
    ".idx": read_idx,
    ".idx.gz": read_idx,
    "-ubyte": read_idx,
    "-ubyte.gz": read_idx,
    ".zip": read_image_zip,
}
ENDINGS = (*_TABLES, *_READERS)


def ending_of(path: Path) -> str:
    """The known ending of a name, or `""`."""
    name = path.name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), "")


def load_file(path: Path, options: Options) -> Splits:
    """A file as three parts; `lnz.data.load` says how."""
    contents = read_file(path, options)
    return dataclasses.replace(split(contents, options), source_digest=contents.digest or digest_of(path))


def read_file(path: Path, options: Options, columns: tuple[str, ...] | None = None) -> Contents:
    """The arrays of a file or folder."""
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise Refusal(f"`{path}` is no regular file: give a file or a folder of images.")
    ending = ending_of(path)
    if ending in _READERS:
        return _READERS[ending](path)
    if ending not in _TABLES:
        raise Refusal(f"`{path}` has an unknown ending: expected are {', '.join(ENDINGS)}, or a folder of images.")
    table = _open_table(path, ending, columns, options)
    x = table.resident(options.resident_limit)
    if x is not None:
        return Contents(path, {"train": x}, columns=table.columns, notes=table.notes)
    if options.missing == "mask":
        raise Refusal(
            f'`{path}` is larger than `resident_limit`, and `missing="mask"` needs data in memory: raise the limit, or '
            "remove or fill in the missing values."
        )
    digest = digest_of(path)
    x, notes = map_table(table, options, digest)
    notes = table.notes + notes
    return Contents(path, {"train": x}, columns=table.columns, notes=notes, is_mapped=True, digest=digest)


def _open_table(path: Path, ending: str, columns: tuple[str, ...] | None, options: Options) -> Table:
    allows_missing = options.missing == "mask"
    if ending == ".npy":
        return _open_npy_table(path)
    if ending == ".parquet":
        return open_parquet(path, columns, allows_missing)
    return open_csv(path, columns, options.header, allows_missing)


def _open_npy_table(path: Path) -> Table:
    whole = open_npy(path)

    def read() -> Iterator[np.ndarray]:
        for _, block in blocks(whole):
            yield np.array(block)

    return Table(path, read, whole.dtype, num_bytes=whole.nbytes, whole=whole)


def rows_of(path: Path, columns: tuple[str, ...] | None, options: Options) -> Rows:
    """All rows of a file, in the order train, valid, test where it has parts."""
    contents = read_file(path, options, columns)
    typed = as_bits(typed_rows(contents, options), contents, options)
    array = _joined(typed.rows)
    if columns is not None and contents.columns is None and array.shape[1] != len(columns):
        raise Refusal(f"`{path}` has {array.shape[1]} columns without names, but {len(columns)} were asked for.")
    observed = None if typed.observed is None else _joined(typed.observed)
    return Rows(array, contents.columns or columns, typed.image_shape, observed)


def _joined(parts: dict[str, np.ndarray]) -> np.ndarray:
    arrays = list(parts.values())
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
