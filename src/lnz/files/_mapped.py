"""Arrays on disk."""

import mmap
from typing import Any

import numpy as np


def forget_pages(rows: Any) -> None:
    """Hand what was read of an array on disk back to the system, which would otherwise count it as ours.

    Arrays in memory are left alone, and so is a copy-on-write map, whose changes are nowhere else.
    """
    if getattr(rows, "mode", None) not in ("r", "r+") or not hasattr(mmap, "MADV_DONTNEED"):
        return
    while isinstance(rows, np.ndarray):
        rows = rows.base
    if isinstance(rows, mmap.mmap):
        rows.madvise(mmap.MADV_DONTNEED)
