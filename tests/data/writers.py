"""Small files of every kind, written as other programs write them."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def table(num_rows=40, num_columns=3, seed=0):
    """Continuous numbers that float32 holds exactly, so that text and other formats give the same."""
    return np.random.RandomState(seed).randn(num_rows, num_columns).astype(np.float32)


def pictures(num=20, height=5, width=4, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (num, height, width)).astype(np.uint8)


def csv_text(x, names=None, delimiter=","):
    lines = [] if names is None else [delimiter.join(names)]
    lines += [delimiter.join(repr(float(value)) for value in row) for row in x]
    return "\n".join(lines) + "\n"


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_gzip(path, content):
    return write(path, gzip.compress(content.encode() if isinstance(content, str) else content, mtime=0))


def write_npy(path, x, **options):
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.asarray(x), **options)
    return path


def write_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def idx_bytes(x):
    codes = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
    head = struct.pack(">HBB", 0, codes[x.dtype.name], x.ndim) + struct.pack(f">{x.ndim}I", *x.shape)
    return head + x.astype(x.dtype.newbyteorder(">")).tobytes()


def image_bytes(picture, kind="PNG", **options):
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def write_folder(path, members):
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def columns_of(x, names):
    return dict(zip(names, x.T, strict=True))


def parts_of(splits):
    return splits.train, splits.valid, splits.test


def sorted_rows(x):
    """Rows in a fixed order, to compare sets of rows."""
    return x[np.lexsort(x.T)]


def together(splits):
    return sorted_rows(np.concatenate(parts_of(splits)))
