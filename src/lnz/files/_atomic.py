"""Atomic writing of files: a file is written whole or not at all."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MOST_BYTES = 200  # of a file's name, kept in the name of its temporary file; most systems allow 255 in all
_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{16}")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path`, replacing any other file, only if the block ends without an error.

    **Raises:** `OSError` with the name of the file, such as for a full disk.
    """
    # Not `tempfile`: other users may not read its files.
    temporary = path.with_name(f".{_shortened(path.name)}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        try:
            temporary.unlink(missing_ok=True)
        finally:
            # The error of a failed write names no file, or the temporary one, which means nothing to a user.
            if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
                error.filename, error.filename2 = str(path), None
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a file, whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)


def is_leftover(path: Path) -> bool:
    """Whether a file is a temporary one, left behind by `atomic_file` when the process was killed."""
    return _LEFTOVER.fullmatch(path.name) is not None


def check_name(path: Path, argument: str) -> None:
    """Refuse, with a `ValueError`, a name that no file can have here: too long, or not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"`{argument}`: the name {os.fsencode(path)!r} is not UTF-8. Choose another.") from error
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # too long, or a file where a folder must be
        raise ValueError(f"`{argument} {path}`: {error.strerror}. Choose another name.") from error


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut. Does nothing if the system cannot open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shortened(name: str) -> str:
    while len(os.fsencode(name)) > _MOST_BYTES:
        name = name[:-1]
    return name


def short_path(path: Path) -> str:
    """`path` relative to the working directory if it lies below it, else the absolute path."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
