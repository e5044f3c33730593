"""The IDX format, in which MNIST was published, plain or packed with gzip.

Source: LeCun, Cortes and Burges (1998), The MNIST database of handwritten digits, "file formats".
"""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from ._budget import Budget, Metered, read_up_to
from ._checks import Refusal, check_kind, reading, short
from ._contents import Contents

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> Contents:
    """The array of an IDX file."""
    with reading(path, "an IDX file"):
        budget = Budget(path)
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as raw, Metered(raw, budget) as stream:
            return Contents(path, {"train": _read(stream, budget, path)})


def _read(stream: Metered, budget: Budget, path: Path) -> np.ndarray:
    zero, code, num_axes = struct.unpack(">HBB", read_up_to(stream, 4))
    if zero != 0 or code not in _DTYPES or not 1 <= num_axes <= 8:
        raise Refusal(f"`{path}` does not start as an IDX file does: check that it is one.")
    shape = struct.unpack(f">{num_axes}I", read_up_to(stream, 4 * num_axes))
    dtype = np.dtype(_DTYPES[code])
    if len(shape) == 1:
        raise Refusal(f"`{path}` holds a list of {shape[0]} numbers, perhaps labels: load the file of images instead.")
    check_kind(shape, dtype, f"`{path}`")
    num_bytes = math.prod(shape) * dtype.itemsize
    content = read_up_to(stream, num_bytes + 1)  # stops at the end of the stream, or when the budget is spent
    if len(content) != num_bytes:
        size = f"only {len(content)}" if len(content) < num_bytes else "more"
        raise Refusal(
            f"`{path}` states shape {short(shape)} of {dtype}, {num_bytes} bytes, but has {size}: "
            "it may be cut off; try to fetch it again."
        )
    return np.frombuffer(content, dtype).reshape(shape)
