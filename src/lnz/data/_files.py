"""The user's own files: chooses the reader for each, and makes rows of its contents."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ._checks import Refusal, blocks
from ._colours import TURNED_GREY, channel_axis, check_colours, to_grey
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
    """Reads a file as three parts, as in `lnz.data.load`."""
    contents = read_file(path, options)
    return dataclasses.replace(split(contents, options), source_digest=contents.digest or digest_of(path))


def read_file(path: Path, options: Options, columns: tuple[str, ...] | None = None) -> Contents:
    """The arrays of a file or folder."""
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise Refusal(f"`{path}` is not a regular file: give a file or a folder of images.")
    ending = ending_of(path)
    if ending in _READERS:
        return _in_grey(_READERS[ending](path))
    if ending not in _TABLES:
        raise Refusal(f"`{path}` has an unknown ending: expected one of {', '.join(ENDINGS)}, or a folder of images.")
    table = _open_table(path, ending, columns, options)
    x = table.resident(options.resident_limit)
    if x is not None:
        return Contents(path, {"train": x}, cells=table.cells, left_out=table.left_out, notes=table.notes)
    if options.missing == "mask":
        raise Refusal(
            f'`{path}` is larger than `resident_limit`, and `missing="mask"` needs data in memory: raise the limit, or '
            "remove or fill in the missing values."
        )
    digest = digest_of(path)
    x, notes = map_table(table, options, digest)
    named = {"cells": table.cells, "left_out": table.left_out, "notes": table.notes + notes}
    grey = table.read if notes and table.dtype == np.uint8 else None
    return Contents(path, {"train": x}, **named, is_mapped=True, grey=grey, digest=digest, dtype=table.dtype)


def _open_table(path: Path, ending: str, columns: tuple[str, ...] | None, options: Options) -> Table:
    allows_missing = options.missing == "mask"
    if ending == ".npy":
        return _open_npy_table(path)
    if ending == ".parquet":
        return open_parquet(path, columns, allows_missing)
    return open_csv(path, columns, options.header, allows_missing)


def _open_npy_table(path: Path) -> Table:
    whole = open_npy(path)
    axis = channel_axis(whole.shape)
    check_colours([whole], f"`{path}`")

    def read() -> Iterator[np.ndarray]:
        for _, block in blocks(whole):
            yield np.array(block) if axis is None else to_grey(block, f"`{path}`")

    if axis is None:
        return Table(path, read, whole.dtype, num_bytes=whole.nbytes, whole=whole)
    return Table(path, read, whole.dtype, num_bytes=whole.nbytes // whole.shape[axis], notes=(TURNED_GREY,))


def _in_grey(contents: Contents) -> Contents:
    """`contents` with colour pictures turned grey."""
    if not any(channel_axis(x.shape) for x in contents.arrays.values()):
        return contents
    check_colours(contents.arrays.values(), f"`{contents.path}`")
    arrays = {part: to_grey(x, contents.where(part)) for part, x in contents.arrays.items()}
    return dataclasses.replace(contents, arrays=arrays, notes=(*contents.notes, TURNED_GREY))


def rows_of(path: Path, columns: tuple[str, ...] | None, options: Options) -> Rows:
    """All rows of a file; the parts, if it has some, in the order train, valid, test."""
    contents = read_file(path, options, columns)
    typed = as_bits(typed_rows(contents, options), contents, options)
    array = _joined(typed.rows)
    if columns is not None and contents.columns is None and array.shape[1] != len(columns):
        raise Refusal(f"`{path}` has {array.shape[1]} columns without names, but {len(columns)} were asked for.")
    observed = None if typed.observed is None else _joined(typed.observed)
    names = contents.columns or columns
    stored_as = contents.dtype or np.result_type(*contents.arrays.values())
    more = {"stored_as": stored_as, "are_pixels": contents.are_pixels}
    cells = contents.cells.of_parts({part: len(x) for part, x in typed.rows.items()})
    return Rows(array, names, typed.image_shape, observed, cells, contents.left_out, typed.notes, **more)


def _joined(parts: dict[str, np.ndarray]) -> np.ndarray:
    arrays = list(parts.values())
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
