"""The data feed: reads the block of rows for a step, and the next block in a thread meanwhile."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import Local
from ..data import AbstractSource, to_device
from ._loop import Order

_SOME_ROWS = 1000


class Feed:
    """The blocks of a source in the order of training, in local coordinates on the device.

    Use it in a `with` block, which ends the reading thread. The training loop stores the permutation of the current
    block's rows in `order`.
    """

    def __init__(self, source: AbstractSource | None, local: Local, key: PRNGKeyArray, batch_size: int | None):
        self._source, self._local, self._key = source, local, key
        self.order: Order | None = None
        rows = 1 if source is None or batch_size is None else source.block_rows // batch_size
        self._steps_per_block = rows
        self._reader = None if source is None or source.is_resident else ThreadPoolExecutor(1, "lnz-feed")
        self._blocks: dict[int, Future[Array]] = {}  # the current block and the next one
        self._resident: Array | None = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def rows(self, step: int) -> Array | None:
        """The block of rows from which a step takes its batch."""
        if self._source is None:
            return None
        if self._reader is None:
            if self._resident is None:
                self._resident = self._read(0)
            return self._resident
        wanted = (step // self._steps_per_block, step // self._steps_per_block + 1)
        for index in wanted:
            if index not in self._blocks:
                self._blocks[index] = self._reader.submit(self._read, index)
        self._blocks = {index: self._blocks[index] for index in wanted}
        return self._blocks[wanted[0]].result()

    def reach(self, step: int) -> tuple[float, float] | None:
        """The smallest and largest number in some rows; `None` without rows, or if the model standardises them."""
        rows = self.rows(step)
        if rows is None or self._local.origin is not None:
            return None
        some = np.asarray(jax.tree.leaves(rows)[0][:_SOME_ROWS]).astype(np.float64)
        return (float(np.nanmin(some)), float(np.nanmax(some))) if np.isfinite(some).any() else None

    def _read(self, index: int) -> Array:
        assert self._source is not None
        return to_device(self._local.to_local(self._source.block(self._key, index)))

    def end_of_block(self, step: int) -> int | float:
        """The first later step that needs another block."""
        if self._reader is None:
            return float("inf")
        return (step // self._steps_per_block + 1) * self._steps_per_block
