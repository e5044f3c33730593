"""Sources of examples: an array in memory, or a file too large for memory."""

import abc
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, Shaped

from ..files import forget_pages
from ..modules import as_numbers, check_positive
from ..spaces import AbstractSpace
from ._missing import known_entries, mark_missing


class AbstractSource(abc.ABC):
    """Rows as they are stored: in blocks of equal size for training, in their order for evaluation.

    Block `k` depends only on the key and `k`, so that a resumed run sees the same blocks as an uninterrupted one. The
    engine shuffles the rows of a block and cuts them into batches.
    """

    num_rows: int
    block_rows: int

    @abc.abstractmethod
    def block(self, key: PRNGKeyArray, index: int) -> np.ndarray | Array:
        """The rows of block `index`, `[block_rows, ...]`."""

    @abc.abstractmethod
    def rows(self, start: int, stop: int) -> np.ndarray | Array:
        """Rows `start` to `stop` in their order, `[stop - start, ...]`."""

    @abc.abstractmethod
    def check(self, space: AbstractSpace, argument: str) -> None:
        """**Raises:** `TypeError` or `ValueError`, naming row and column, if a row is not an example of `space`."""

    @property
    @abc.abstractmethod
    def is_resident(self) -> bool:
        """Whether every block is the same array, which holds all rows."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Identifies this source and the order of its blocks."""


class Resident(AbstractSource):
    """All rows in memory as they are stored: bits as bytes, `[n, ...]`."""

    def __init__(self, rows: Shaped[Any, "n ..."]):
        self._rows = rows if isinstance(rows, jax.Array) else np.asarray(rows)
        self.num_rows = self.block_rows = len(self._rows)

    def block(self, key: PRNGKeyArray, index: int) -> np.ndarray | Array:
        return self._rows

    def rows(self, start: int, stop: int) -> np.ndarray | Array:
        return self._rows[start:stop]

    def check(self, space: AbstractSpace, argument: str) -> None:
        space.check_data(self._rows, argument)

    @property
    def is_resident(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self._rows)


class Stream(AbstractSource):
    """Rows read from disk in shuffled blocks, for files larger than memory.

    Each epoch cuts the file into pieces of consecutive rows from a random offset, shuffles the pieces, and fills a
    block with 32 of them; the next block is read while the device works on this one. Rows that are stored close
    together therefore meet in a block more often than by chance: shuffle a file that is sorted by class. Rows left over
    after the last full block of an epoch are not used in that epoch.

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

    def rows(self, start: int, stop: int) -> np.ndarray | Array:
        rows = as_numbers(np.array(self._array[start:stop]), "rows")
        forget_pages(self._array)
        return rows

    def block(self, key: PRNGKeyArray, index: int) -> np.ndarray | Array:
        epoch, place = divmod(index, self._blocks_per_epoch)
        # RandomState, whose stream is frozen for all versions of NumPy; Generator's is not.
        random = np.random.RandomState([*_key_words(key), epoch])
        offset = random.randint(self.num_rows % self._piece_rows + 1)
        pieces = random.permutation(self.num_rows // self._piece_rows)
        chosen = pieces[place * self._num_pieces : (place + 1) * self._num_pieces]
        starts = offset + self._piece_rows * np.sort(chosen)  # in the order of the disk
        rows = as_numbers(np.concatenate([self._array[start : start + self._piece_rows] for start in starts]), "rows")
        forget_pages(self._array)
        return rows

    def check(self, space: AbstractSpace, argument: str) -> None:
        for start in range(0, self.num_rows, self.block_rows):
            space.check_data(self._array[start : start + self.block_rows], argument, first_row=start)
            forget_pages(self._array)

    @property
    def is_resident(self) -> bool:
        return False

    @property
    def fingerprint(self) -> str:
        """Taken from a few hundred rows, because reading all of them would take too long."""
        some = self._array[:: max(1, self.num_rows // 256)]
        return f"{fingerprint_of(some)} of {self.num_rows} rows in blocks of {self.block_rows}"


def as_source(data: Any, space: AbstractSpace, observed: Any = None) -> AbstractSource:
    """Makes `data` a source of examples of `space`. Arrays on disk (`np.memmap`) are read in blocks.

    Entries that are not `observed` are marked as missing.

    **Raises:** `TypeError` or `ValueError` if the rows are not examples of `space`.
    """
    if observed is not None:
        if isinstance(data, AbstractSource | np.memmap):
            raise ValueError("`observed` needs data in memory: missing entries cannot be streamed from disk.")
        return Resident(mark_missing(space, *known_entries(space, data, observed)))
    if isinstance(data, np.memmap):
        if data.ndim == 0 or data.shape[1:] != space.shape or data.size == 0:
            space.check_data(data, "data")  # raises, and says why
        data = Stream(data)
    if isinstance(data, AbstractSource):
        data.check(space, "data")
        return data
    return Resident(space.check_data(data, "data"))


_NUM_LOOKED_AT = 2**18  # numbers
_PIECES_LOOKED_AT = 64


def some_rows(source: AbstractSource) -> np.ndarray:
    """All rows; or, if they have more than about 2**18 numbers, as many in 64 pieces evenly spaced over the source."""
    first = np.asarray(source.rows(0, 1))
    most = max(_PIECES_LOOKED_AT, _NUM_LOOKED_AT // max(1, first.size))
    if source.num_rows <= most:
        return np.asarray(source.rows(0, source.num_rows))
    num = most // _PIECES_LOOKED_AT
    starts = np.linspace(0, source.num_rows - num, _PIECES_LOOKED_AT).astype(int).tolist()
    return np.concatenate([np.asarray(source.rows(start, start + num)) for start in starts])


def to_device(rows: Any) -> Array:
    """Copies rows to the device once (`jnp.asarray` copies twice), without aliasing memory that may change."""
    return (
        rows if isinstance(rows, jax.Array) else jax.device_put(np.asarray(rows), may_alias=False).block_until_ready()
    )


def canonical(rows: Any) -> Iterator[memoryview]:
    """The bytes of the numbers as float64, piece by piece: equal for equal numbers, regardless of dtype."""
    array = np.asarray(rows)
    num = max(1, _CANONICAL // max(1, array[:1].size))
    for start in range(0, len(array), num):
        # The sum turns -0.0 into 0.0.
        yield (np.ascontiguousarray(array[start : start + num], np.float64) + 0.0).data.cast("B")


_CANONICAL = 2**17  # numbers


def fingerprint_of(rows: Any) -> str:
    """Shape and checksum: equal for equal numbers, regardless of dtype."""
    checksum = 0
    for piece in canonical(rows):
        checksum = zlib.crc32(piece, checksum)
    return f"{rows.shape} {checksum:08x}"


def _key_words(key: PRNGKeyArray) -> list[int]:
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.asarray(words).tolist()
