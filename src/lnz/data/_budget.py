"""Decompression with a limit that no honest data file reaches."""

import io
from pathlib import Path
from typing import Any

from ._checks import Refusal

MAX_DECODED = 4 * 2**30
MAX_RATIO = 200
FREE_BYTES = 64 * 2**20  # blank pictures exceed any ratio, so files that expand to less than this are never refused


class Budget:
    """Limits how far a compressed file may expand, counted while reading, because headers may lie.

    A streamed file, which is never in memory as a whole, has no limit in bytes, only in relation to its size.
    """

    def __init__(self, path: Path, is_streamed: bool = False):
        self.path, self.is_streamed = path, is_streamed
        self.packed = path.stat().st_size
        self.spent = 0

    def spend(self, num_bytes: int) -> None:
        """Counts bytes that were, or are about to be, decoded.

        **Raises:** `ValueError` beyond 4 GiB (if not streamed), or beyond 64 MiB at more than 200 times the size of
        the file.
        """
        self.spent += num_bytes
        if self.spent > MAX_DECODED and not self.is_streamed:
            raise Refusal(
                f"`{self.path}` expands to more than {MAX_DECODED >> 30} GiB: unpack it and load what is inside."
            )
        if self.spent > FREE_BYTES and self.spent > MAX_RATIO * self.packed:
            advice = "unpack it yourself"
            if self.is_streamed:
                advice = 'write it again by `pq.write_table(table, path, compression="none", use_dictionary=False)`'
            raise Refusal(
                f"`{self.path}` expands to more than {MAX_RATIO} times its size, which real data do not: {advice} if "
                "you trust it."
            )


class Metered(io.RawIOBase):
    """A stream that counts its bytes against a budget as they are decoded."""

    def __init__(self, stream: Any, budget: Budget):
        self._stream, self._budget = stream, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        part = self._stream.read(min(len(view), 2**20))
        self._budget.spend(len(part))
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._stream.close()
        super().close()


def read_up_to(stream: Any, num_bytes: int) -> bytearray:
    """`num_bytes` bytes, or fewer if the stream ends first."""
    content = bytearray()  # grows with the bytes that are there, whatever a header promises
    while len(content) < num_bytes and (part := stream.read(min(num_bytes - len(content), 2**20))):
        content += part
    return content
