"""Safetensors files with a digest of their own bytes. The header is checked before any array is allocated."""

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from ._json import DamagedError, parse_json, short

DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": bool,
        "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
        "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
        "F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": jnp.bfloat16,
        "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2,
        "C64": np.complex64,
    }.items()
}  # fmt: skip
_MAX_HEADER = 100_000_000  # bytes: the limit of the safetensors library, which writes the files
# Every file of lnz has these bytes after the 8 bytes of the header's length, and then the 64 digits of the digest.
_BEFORE_DIGEST = b'{"__metadata__": {"sha256": "'
_BLANK = b"0" * 64

_FOREIGN = {
    b"\x80": "a Python pickle, such as an old torch file, which lnz never reads, because reading one runs programs",
    b"PK": "a zip archive, such as an .npz or torch file, which lnz never reads, because reading one may run programs",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "compressed by gzip",
    b"\x89HDF": "an HDF5 file",
    b"<": "HTML or XML; maybe the download failed",
}


class NotAModelError(ValueError):
    """The file is not a model file."""


class StoredArray(NamedTuple):
    """The place of an array in a file: type, shape, and the positions of its first byte and after its last."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def read(self) -> np.ndarray:
        size = self.stop - self.start
        content = np.fromfile(self.path, np.uint8, count=size, offset=self.start)
        if content.size != size:
            raise DamagedError("it became shorter while it was read.")
        if self.dtype == bool and np.any(content > 1):
            raise DamagedError("a truth value in it is neither 0 nor 1.")
        return content.view(self.dtype).reshape(self.shape)


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, StoredArray]]:
    """The metadata of a safetensors file and the places of its arrays. The arrays are not read yet.

    **Raises:** `NotAModelError` or `DamagedError`, with texts that continue "it is not a model file: " or "it is
    damaged: "; `ValueError` for a file that this version cannot read.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if length > _MAX_HEADER or start[8:] != b"{":
            raise NotAModelError(_kind(start + file.read(100), length))
        if length > size - 8:
            raise DamagedError(f"it is cut short: its header claims {length} bytes, but only {size - 8} follow.")
        file.seek(8)
        text = file.read(length)
    try:
        header = parse_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DamagedError(f"its header is not UTF-8 text ({error}).") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise DamagedError(f"its metadata must be a JSON object; got {short(metadata)}.")
    arrays = {name: _entry(path, 8 + length, name, entry) for name, entry in header.items()}
    _check_tiling(arrays, 8 + length, size)
    return metadata, arrays


def _kind(start: bytes, length: int) -> str:
    if len(start) < 9:
        return f"it has only {len(start)} bytes, so maybe it was cut short." if start else "it is empty."
    for prefix, kind in _FOREIGN.items():
        if start.lstrip().startswith(prefix):
            return f"it looks like {kind}."
    if start[8:9] == b"{":
        return f"its header claims {length} bytes; expected at most {_MAX_HEADER}."
    return f"expected a safetensors header after 8 bytes; got {short(start[8:40])}."


def _entry(path: Path, origin: int, name: str, entry: Any) -> StoredArray:
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise DamagedError(f"its array {short(name)} must be described by {sorted(keys)}; got {short(entry)}.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"Its array {short(name)} has dtype {short(dtype)}; this version reads {', '.join(DTYPES)}.")
    if not is_shape(shape):
        raise DamagedError(f"its array {short(name)} must have a list of sizes as shape; got {short(shape)}.")
    if not is_shape(offsets) or len(offsets) != 2:
        raise DamagedError(f"its array {short(name)} must have two positions as data_offsets; got {short(offsets)}.")
    num_bytes = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != num_bytes:
        raise DamagedError(
            f"its array {short(name)} of dtype {dtype} and shape {short(shape)} needs {num_bytes} bytes, but its "
            f"data_offsets {short(offsets)} do not enclose that many."
        )
    return StoredArray(path, DTYPES[dtype], tuple(shape), origin + offsets[0], origin + offsets[1])


def is_shape(value: Any) -> bool:
    """Whether `value` is the shape of an array that JAX can hold, if the file has enough bytes for it."""
    is_sizes = isinstance(value, list) and len(value) <= 32 and all(type(size) is int and size >= 0 for size in value)
    # If one size is 0, no file is too short for the other sizes, but their product must not overflow.
    return is_sizes and math.prod(size or 1 for size in value) < 2**59


def _check_tiling(arrays: dict[str, StoredArray], origin: int, size: int) -> None:
    position = origin
    for name, array in sorted(arrays.items(), key=lambda item: item[1][3:]):
        if array.start != position:
            fault = "overlaps another" if array.start < position else "leaves a gap before it"
            raise DamagedError(f"its array {short(name)} {fault}: it starts at byte {array.start}, not {position}.")
        position = array.stop
    if position != size:
        fault = "it is cut short" if position > size else "something was added to it"
        raise DamagedError(f"{fault}: it should have {position} bytes, but has {size}.")


def to_bytes(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A file with these arrays and this metadata, as bytes. Equal contents give equal bytes.

    The metadata begin with `sha256`, the digest of the whole file with zeros in place of its own 64 digits. They are
    written again here, because the safetensors library writes them in an order that changes from call to call.
    """
    content = save(arrays, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = json.dumps({"__metadata__": {"sha256": _BLANK.decode(), **metadata}, **_without_metadata(header)}).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays stay aligned
    start = len(text).to_bytes(8, "little") + text
    data = memoryview(content)[end:]
    digest = hashlib.sha256(start)
    digest.update(data)
    place = 8 + len(_BEFORE_DIGEST)
    return b"".join([start[:place], digest.hexdigest().encode(), start[place + len(_BLANK) :], data])


def _without_metadata(header: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def check_digest(file: io.BufferedIOBase) -> str:
    """The digest in a file made by `to_bytes`; `file` is read from its start.

    **Raises:** `DamagedError` if there is none, or if it does not match the bytes.
    """
    place = 8 + len(_BEFORE_DIGEST)
    start = file.read(place + len(_BLANK))
    if start[8:place] != _BEFORE_DIGEST:
        raise DamagedError("it has no SHA-256 of its own bytes, which every file of lnz begins with.")
    digest = hashlib.sha256(start[:place] + _BLANK)
    while block := file.read(2**20):
        digest.update(block)
    if digest.hexdigest().encode() != start[place:]:
        raise DamagedError("its bytes do not match the SHA-256 written in it: some have changed since it was saved.")
    return digest.hexdigest()
