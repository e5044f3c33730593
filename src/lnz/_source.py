"""Where training data come from: an array on the device, or a file that is larger than memory."""

import abc
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, Shaped

from ._arrays import as_numbers
from ._check import check_positive
from ._mapped import forget_pages
from ._missing import known_entries, mark_missing
from ._space import AbstractSpace


class AbstractSource(abc.ABC):
    """Rows for training, handed out in blocks of equal size.

    Block `k` is a function of the key and `k` alone, so that a resumed run sees what an uninterrupted one sees. The
    engine shuffles the rows of a block and cuts them into batches; values stay as stored until a step casts its batch.
    """

    num_rows: int
    block_rows: int

    @abc.abstractmethod
    def block(self, key: PRNGKeyArray, index: int) -> Array:
        """The rows of block `index`, `[block_rows, ...]`, on the device."""

    @abc.abstractmethod
    def check(self, space: AbstractSpace, argument: str) -> None:
        """**Raises:** `TypeError` or `ValueError`, naming row and column, if a row is no example of `space`."""

    @property
    @abc.abstractmethod
    def is_resident(self) -> bool:
        """Whether every block is the same array, which holds all rows."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Tells this source, and the order of its blocks, from others."""


class Resident(AbstractSource):
    """All rows on the device as they are stored: bits as bytes, `[n, ...]`."""

    def __init__(self, rows: Shaped[Any, "n ..."]):
        self._rows = _to_device(rows)
        self.num_rows = self.block_rows = len(self._rows)

    def block(self, key: PRNGKeyArray, index: int) -> Array:
        return self._rows

    def check(self, space: AbstractSpace, argument: str) -> None:
        space.check_data(self._rows, argument)

    @property
    def is_resident(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self._rows)


class Stream(AbstractSource):
    """Rows read from disk in shuffled blocks, for files larger than memory.

    Each epoch cuts the file into pieces of consecutive rows from a random offset, shuffles the pieces, and fills a
    block with 32 of them; the next block is read while the device works on this one. Rows that are stored close
    together therefore meet in a block more often than chance: shuffle a file that is sorted by class. What does not
    fill a last block waits for another epoch.

    **Arguments:**

    - `rows`: an array on disk, such as `np.load("rows.npy", mmap_mode="r")`, `[n, ...]`. It must not change while
      it is being read.
    - `block_bytes`: size of a block; three of them are in memory at a time.

    **Raises:** `ValueError` if `rows` is empty or a scalar.
    """

    _PIECES = 32

    def __init__(self, rows: Shaped[Any, "n ..."], block_bytes: int = 2**26):
        if rows.ndim < 1 or rows.size == 0:
            raise ValueError(f"`Stream(rows=...)` needs rows, `[n, ...]`; got an array of shape {rows.shape}.")
        check_positive(block_bytes, "block_bytes")
        self._array = rows
        self.num_rows = len(rows)
        row_bytes = rows.dtype.itemsize * (rows.size // len(rows))
        wanted = max(1, block_bytes // row_bytes)
        self._piece_rows = max(1, min(wanted, self.num_rows) // self._PIECES)
        self._num_pieces = min(self._PIECES, self.num_rows // self._piece_rows)
        self.block_rows = self._piece_rows * self._num_pieces
        self._blocks_per_epoch = self.num_rows // self.block_rows

    def block(self, key: PRNGKeyArray, index: int) -> Array:
        epoch, place = divmod(index, self._blocks_per_epoch)
        # RandomState, whose stream is frozen for all versions of NumPy; Generator's is not.
        random = np.random.RandomState([*_key_words(key), epoch])
        offset = random.randint(self.num_rows % self._piece_rows + 1)
        pieces = random.permutation(self.num_rows // self._piece_rows)
        chosen = pieces[place * self._num_pieces : (place + 1) * self._num_pieces]
        starts = offset + self._piece_rows * np.sort(chosen)  # in the order of the disk
        rows = as_numbers(np.concatenate([self._array[start : start + self._piece_rows] for start in starts]), "rows")
        forget_pages(self._array)
        return _to_device(rows)

    def check(self, space: AbstractSpace, argument: str) -> None:
        for start in range(0, self.num_rows, self.block_rows):
            space.check_data(self._array[start : start + self.block_rows], argument, first_row=start)
            forget_pages(self._array)

    @property
    def is_resident(self) -> bool:
        return False

    @property
    def fingerprint(self) -> str:
        """Of a few hundred rows: reading all of them would take too long."""
        some = self._array[:: max(1, self.num_rows // 256)]
        return f"{_fingerprint(some)} of {self.num_rows} rows in blocks of {self.block_rows}"


def as_source(data: Any, space: AbstractSpace, dtype: Any, observed: Any = None) -> AbstractSource:
    """`data` as a source of examples of `space`: arrays on disk (`np.memmap`) are streamed, others kept on the device.

    Entries that are not `observed` are marked as missing.

    **Raises:** `TypeError` or `ValueError` if they are no examples of `space`.
    """
    if observed is not None:
        if isinstance(data, AbstractSource | np.memmap):
            raise ValueError("`fit(observed=...)` needs data in memory: missing entries cannot be streamed from disk.")
        array = mark_missing(space, *known_entries(space, data, observed))
        return Resident(array.astype(dtype) if array.dtype.kind == "f" else array)
    if isinstance(data, np.memmap):
        data = Stream(data)
    if isinstance(data, AbstractSource):
        data.check(space, "data")
        return data
    array = space.check_data(data, "data")
    if array.dtype.kind == "f":  # a float64 NumPy array need not take double the memory
        array = array.astype(dtype)
    return Resident(array)


def _to_device(rows: Any) -> Array:
    """Not `jnp.asarray`, which copies twice, nor an alias of memory that its owner may change."""
    return (
        rows if isinstance(rows, jax.Array) else jax.device_put(np.asarray(rows), may_alias=False).block_until_ready()
    )


def _key_words(key: PRNGKeyArray) -> list[int]:
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.asarray(words).tolist()


def _fingerprint(rows: Any) -> str:
    as_bytes = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)  # not `tobytes`, which copies all of them
    return f"{rows.shape} {rows.dtype} {zlib.crc32(as_bytes.data):08x}"
