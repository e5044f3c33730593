"""Locks on folders. The system releases them when a process ends, even after a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Held:
    """A folder locked by this process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._identity = _identity(folder)

    def check(self) -> None:
        """Raise `FileNotFoundError` if the folder has been deleted or moved since it was locked."""
        if _identity(self.folder) != self._identity:
            raise FileNotFoundError(
                f"The folder {str(self.folder)!r} was deleted or moved while it was in use: nothing more is saved."
            )


@contextmanager
def held(folder: Path, refusal: str) -> Iterator[Held]:
    """Lock a folder while the block runs, and create it if it does not exist.

    A system without such locks does not lock. Two locks on one folder exclude each other even within one process.

    **Raises:** `ValueError` with the message `refusal` if the folder is already locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield Held(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(refusal) from error
        yield Held(folder)
    finally:
        os.close(descriptor)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        state = os.stat(folder)
    except OSError:
        return None
    return state.st_dev, state.st_ino
