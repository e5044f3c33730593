"""Memory-mapped arrays."""

import mmap
from typing import Any

import numpy as np


def forget_pages(rows: Any) -> None:
    """Release the pages of a memory-mapped array, which otherwise count towards the memory of this process.

    Arrays in memory are left alone. So are copy-on-write maps, because their changes exist only in memory.
    """
    if getattr(rows, "mode", None) not in ("r", "r+") or not hasattr(mmap, "MADV_DONTNEED"):
        return
    while isinstance(rows, np.ndarray):
        rows = rows.base
    if isinstance(rows, mmap.mmap):
        rows.madvise(mmap.MADV_DONTNEED)
