"""Tables larger than memory: mapped from disk as they are, or converted once into a file that can be mapped."""

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ..files import atomic_file, cache_folder
from ..spaces import AbstractSpace, Categorical, Euclidean
from ._binarize import full_scale, in_words, to_bits
from ._checks import Refusal, check_finite
from ._digest import digest_of
from ._npy import open_npy
from ._options import Options
from ._rows import are_bits, check_size, space_of_bits, stored_dtype, within
from ._table import Table


def map_table(table: Table, options: Options, digest: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A read-only memory map of all rows, `[n, *row_shape]`, checked and stored as the table would be in memory.

    A converted file is keyed by the table's `digest`, its format and the options. Also returns what was done, in words.
    """
    plain = dataclasses.replace(options, binarize="none", threshold=Options().threshold)
    target, plain_target = _target(table, options, digest), _target(table, plain, digest)
    to_words = (in_words(255 if table.dtype == np.uint8 else 1, options),) if target != plain_target else ()
    if target.exists():
        return open_npy(target), to_words
    if table.dtype != np.uint8 and plain_target.exists() and within([x := open_npy(plain_target)], are_bits):
        return x, ()
    space, shape = _survey(table, options.binarize)
    if space.num_values == 2:
        target, options, to_words = plain_target, plain, ()
    dtype = np.dtype(np.uint8) if to_words else stored_dtype(space, table.dtype)
    whole = table.whole
    if whole is not None and whole.dtype == dtype and whole.flags.c_contiguous and not to_words:
        return whole, ()
    _write(target, table, space, shape, dtype, options, digest)
    return open_npy(target), to_words


def _target(table: Table, options: Options, digest: str) -> Path:
    wanted = (options.binarize, options.threshold, options.seed) if options.binarize != "none" else ()
    # The suffixes decide how the bytes are read. The name and the time of a file do not determine its contents.
    key = (4, digest, table.path.suffixes, table.columns, options.header, wanted, str(jnp.result_type(float)))
    name = hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", table.path.name)[:40]
    return cache_folder() / "tables" / f"{stem}-{name}.npy"


def _survey(table: Table, binarize: str) -> tuple[AbstractSpace, tuple[int, ...]]:
    """Goes through all rows once, checks them, and finds the space of their values and the shape of the whole."""
    num_rows, all_bits, has_ones, row_shape = 0, True, False, (0,)
    for rows, block in _flat(table):
        check_finite(rows, f"`{table.path}`", table.cells, num_rows)
        check_size(rows, f"`{table.path}`", table.cells, num_rows)
        all_bits = all_bits and bool(are_bits(rows).all())
        has_ones = has_ones or bool(np.any(rows))
        num_rows, row_shape = num_rows + len(rows), block.shape[1:]
    if num_rows == 0:
        raise Refusal(f"`{table.path}` has no rows of data: at least one is needed.")
    num_columns = int(np.prod(row_shape))
    if all_bits:
        has_bytes_of_one = table.dtype == np.uint8 and has_ones
        space = space_of_bits(num_columns, has_bytes_of_one, f"`{table.path}`", binarize)
    else:
        space = Categorical(num_columns, 256) if table.dtype == np.uint8 else Euclidean(num_columns)
    return space, (num_rows, *row_shape)


def _flat(table: Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for block in table.read():
        yield block.reshape(len(block), -1), block


def _write(
    target: Path,
    table: Table,
    space: AbstractSpace,
    shape: tuple[int, ...],
    dtype: np.dtype,
    options: Options,
    digest: str,
) -> None:
    where, first_row = f"`{table.path}`", 0
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = int(np.prod(shape)) * dtype.itemsize
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"{where} needs {needed / 2**30:.1f} GiB in `{target.parent}`, where {free / 2**30:.1f} GiB are free: "
            "set LNZ_CACHE to a folder on a larger disk."
        )
    with atomic_file(target) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for rows, _ in _flat(table):
            stored = rows.astype(stored_dtype(space, rows.dtype), copy=False)
            if options.binarize != "none":
                stored = to_bits(stored, full_scale(space), options, where, table.cells, first_row)
            file.write(np.ascontiguousarray(stored).data)
            first_row += len(rows)
        if first_row != shape[0] or digest_of(table.path) != digest:
            raise Refusal(f"{where} changed while it was read: load it again.")
