"""Locks on folders, which the system releases when a process ends, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Held:
    """A folder that nobody else works in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._identity = _identity(folder)

    def check(self) -> None:
        """**Raises:** `FileNotFoundError` if the folder was deleted or moved since."""
        if _identity(self.folder) != self._identity:
            raise FileNotFoundError(
                f"The folder {str(self.folder)!r} was deleted or moved while it was in use: nothing more is saved."
            )


@contextmanager
def held(folder: Path, refusal: str) -> Iterator[Held]:
    """Locks a folder while the block runs, where the system has such locks; makes it if there is none.

    Two locks on one folder exclude each other in one process too.

    **Raises:** `ValueError` with the words `refusal` if someone else holds the lock.
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
