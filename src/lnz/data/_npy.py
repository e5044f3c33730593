"""NumPy's own files, `.npy` and `.npz`, without pickles and without memory for bytes that a header only claims."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from ._budget import read_up_to
from ._checks import Refusal, check_kind, reading, short, tidy
from ._contents import PARTS, Contents
from ._zip import Members, open_zip

MAX_SIZE = 2**60  # numbers in one array: no disk holds more
_HEADER_BYTES = 16384  # NumPy refuses longer headers itself, but reads them first
_EXPECTED = (
    "`train` with `valid` and `test`, or `x_train` with `x_valid` and `x_test` (missing parts are split off `train`), "
    "or exactly one array; labels are `y`, or `y_train`, `y_valid` and `y_test`"
)


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of an `.npy`; `offset` is the byte at which the numbers start."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    offset: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(head: bytes | bytearray, where: str) -> Header:
    """Reads the header from the first bytes of a file."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # 3.0 is for fields with names outside Latin-1
        raise Refusal(f"{where} is in version {version} of NumPy's format: save it as a plain array.")
    shape, is_fortran, dtype = readers[version](stream)
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_SIZE:
        raise Refusal(f"{where} claims the impossible shape {short(shape)}: write it again.")
    if dtype.hasobject:
        raise Refusal(f"{where} holds pickled Python objects, which are never loaded here: save it as plain numbers.")
    return Header(shape, dtype, is_fortran, stream.tell())


def open_npy(path: Path) -> np.ndarray:
    """A read-only memory map of an `.npy`, after a check that its header fits the size of the file."""
    with reading(path, "a NumPy array (.npy)"):
        with open(path, "rb") as file:
            header = read_header(file.read(_HEADER_BYTES), f"`{path}`")
        check_kind(header.shape, header.dtype, f"`{path}`")
        _check_size(header, path.stat().st_size - header.offset, f"`{path}`")
        order = "F" if header.is_fortran else "C"
        return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)


def _check_size(header: Header, num_bytes: int, where: str) -> None:
    if header.num_bytes != num_bytes:
        raise Refusal(
            f"{where} states shape {short(header.shape)} of {header.dtype}, {header.num_bytes} bytes, but has "
            f"{num_bytes}: it may be cut off; try to fetch or write it again."
        )


def read_npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`, numbers or text."""
    with open_zip(path, "NumPy arrays (.npz)") as members:
        others = [name for name in members.names if not name.endswith(".npy")]
        if others:
            raise Refusal(f"`{path}` has a member {tidy(others[0])}, which is not an array: write it with `np.savez`.")
        return {name.removesuffix(".npy"): _read_member(members, name) for name in members.names}


def _read_member(members: Members, name: str) -> np.ndarray:
    where = f"`{members.path}` (array {tidy(name.removesuffix('.npy'))})"
    with members.open(name) as stream:
        head = read_up_to(stream, _HEADER_BYTES)
        header = read_header(head, where)
        if header.dtype.kind not in "biufcmMSU":
            check_kind(header.shape, header.dtype, where)
        _check_size(header, members.size(name) - header.offset, where)
        content = head[header.offset :]
        content += read_up_to(stream, header.num_bytes - len(content) + 1)  # one more, so that zipfile checks the CRC
    _check_size(header, len(content), where)
    flat = np.frombuffer(content, header.dtype) if content else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")


def read_npz(path: Path) -> Contents:
    """The parts of an `.npz` and their labels, by the names of its arrays."""
    arrays = read_npz_arrays(path)
    y = {key: arrays.pop(key) for key in ("y", *(f"y_{part}" for part in PARTS)) if key in arrays}
    parts = _parts(arrays)
    if parts is None or (set(y) - {f"y_{part}" for part in parts} and set(y) != ({"y"} if len(parts) == 1 else set())):
        found = ", ".join(map(tidy, sorted([*arrays, *y]))) or "none"
        raise Refusal(f"`{path}` has the arrays {found}, but must have {_EXPECTED}: save no others.")
    labels = {"train": y["y"]} if "y" in y else {key.removeprefix("y_"): value for key, value in y.items()}
    contents = Contents(path, parts, labels)
    _check_labels(contents)
    return contents


def _parts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    for prefix in ("", "x_"):
        keys = [prefix + part for part in PARTS]
        if prefix + "train" in arrays and set(arrays) <= set(keys):
            return {part: arrays[key] for part, key in zip(PARTS, keys, strict=True) if key in arrays}
    return {"train": next(iter(arrays.values()))} if len(arrays) == 1 else None


def _check_labels(contents: Contents) -> None:
    for part, x in contents.arrays.items():
        check_kind(x.shape, x.dtype, contents.where(part))
        if not contents.labels:
            continue
        y: Any = contents.labels.get(part)
        if y is None:
            raise Refusal(f"`{contents.path}` has labels, but none for `{part}`: save all of them or none.")
        if y.shape != (len(x),):
            raise Refusal(
                f"`{contents.path}` must have one label for each of the {len(x)} rows of `{part}`; got shape {y.shape}."
            )
