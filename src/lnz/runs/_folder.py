"""Run folders: starting, locking, replacing by one rename, and removing them."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

from ..files import Held, check_name, held, is_leftover, sync_folder

# In the order in which they are moved to their places.
_FILES = ("config.json", "model.lnz", "events.jsonl", "report.json", "report.html")


T = TypeVar("T")
_MOST_SECONDS = 10  # how long a reader retries while a run is being replaced again and again


_NEXT, _FINAL, _WHOLE = ".next", ".final", ".whole"


_NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def locked(folder: Path) -> Iterator[Held]:
    """Lock a run folder against a second training, and move the files of a run to their places.

    **Raises:** `ValueError` if another process holds the lock.
    """
    refusal = f"Another `lnz train` is at work in {str(folder)!r}. Choose another `--out`."
    with held(folder, refusal) as place:
        settle(folder)
        yield place


@contextmanager
def replacing(folder: Path, stage: Path | None = None) -> Iterator[Path]:
    """A folder for new files of the run in `folder`. One rename makes them the run's when the block succeeds.

    - `stage`: a folder that already has files, such as `.next`, to use instead of a new one. It stays as it is when the
      block fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    final = folder / _FINAL
    shutil.rmtree(final, ignore_errors=True)
    if stage is None:
        final.mkdir()
    try:
        yield final if stage is None else stage
        os.replace(final if stage is None else stage, folder / _WHOLE)
    except BaseException:
        shutil.rmtree(final, ignore_errors=True)
        raise
    sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Move the files of a run from `.whole` to their places. If killed at any moment, the next call completes it."""
    whole = folder / _WHOLE
    if not whole.is_dir():
        return
    if (whole / "report.json").is_file() and not (whole / "report.html").is_file():
        (folder / "report.html").unlink(missing_ok=True)  # the previous run's
    if (whole / "checkpoints").is_dir():
        _remove_checkpoints(folder)
    others = [path.name for path in whole.iterdir() if path.name not in _FILES and not is_leftover(path)]
    for name in (*others, *_FILES):
        if (whole / name).exists():
            _move(whole / name, folder / name)
    shutil.rmtree(whole)
    sync_folder(folder)


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder, and merge it into a folder that already exists."""
    if not source.is_dir() or not target.is_dir():
        os.replace(source, target)
        return
    for path in sorted(source.iterdir()):
        _move(path, target / path.name)
    source.rmdir()


def undisturbed(folder: Path, read: Callable[[], T]) -> T:
    """Call `read` on one consistent state of a run's files: call it again if they were replaced meanwhile."""
    give_up = time.monotonic() + _MOST_SECONDS
    while True:
        before = _state(folder)
        try:
            result, error = read(), None
        except (OSError, ValueError) as raised:
            result, error = None, raised
        if _state(folder) == before or time.monotonic() > give_up:
            break
        time.sleep(0.01)
    if error is not None:
        raise error
    return cast(T, result)


def _state(folder: Path) -> list[tuple[int, int] | None]:
    """Identify a run's files, so that replacing any of them is noticed."""
    places = [path for name in _FILES for path in (folder / name, folder / _WHOLE / name)]
    return [_identity(path) for path in (folder / _WHOLE, *places)]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def check_folder(folder: Path, overwrite: bool) -> None:
    """**Raises:** `ValueError` if `folder` cannot be written, or holds anything and `overwrite` is false."""
    check_name(folder, "--out")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--out {folder}` is a file; a run needs a folder. Choose another name.")
    check_name(folder / _NEXT / "checkpoints" / f".step-000000000.ckpt.{'0' * 16}", "--out")  # the longest name to come
    if folder.is_dir() and not overwrite and any(not _is_worthless(path) for path in folder.iterdir()):
        advice = "add `--resume` to continue an unfinished run" if (folder / "config.json").is_file() else ""
        raise ValueError(
            f"The folder {str(folder)!r} is not empty. Choose another `--out`, "
            f"{advice + ', ' if advice else ''}or add `--overwrite`."
        )


def _is_worthless(path: Path) -> bool:
    """Whether a killed process left this file or folder, and nothing is lost by removing it."""
    is_empty = path.name == "checkpoints" and path.is_dir() and not any(path.iterdir())
    return path.name == _FINAL or is_leftover(path) or is_empty


def start_folder(folder: Path, overwrite: bool) -> Path:
    """Prepare the folder for a new training: `folder`, or `.next` within it if `folder` has a run worth keeping.

    With `overwrite`, an unfinished training that was to replace the run is deleted.

    **Raises:** as `check_folder`.
    """
    check_folder(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / _NEXT, ignore_errors=True)
    for path in folder.iterdir():
        if is_leftover(path) and path.is_file():
            path.unlink()
    if (folder / "report.json").is_file() or is_trained(folder):
        (folder / _NEXT).mkdir()
        return folder / _NEXT
    remove_run(folder)
    return folder


def working_folder(folder: Path) -> Path:
    """The folder in which a training resumes: `.next` if the training is to replace a run."""
    return folder / _NEXT if (folder / _NEXT / "config.json").is_file() else folder


def end_folder(folder: Path, work: Path, has_diverged: bool = False) -> bool:
    """Remove the training in `work` if nothing of it is worth keeping.

    This is so if it made no step, or if it diverged and was to replace an earlier run.

    **Returns:** whether it was removed and only the earlier run remains.
    """
    if is_trained(work) and not (has_diverged and work != folder):
        return False
    if work == folder:
        remove_run(folder)
        return False
    shutil.rmtree(work)
    return True


def remove_run(folder: Path) -> None:
    """Delete the files of a run and nothing else, beginning with `report.json`, which marks a complete run."""
    for name in reversed(_FILES):
        (folder / name).unlink(missing_ok=True)
    _remove_checkpoints(folder)


def _remove_checkpoints(folder: Path) -> None:
    for pattern in ("step-*.ckpt", ".step-*.ckpt.*"):
        for path in folder.glob(f"checkpoints/{pattern}"):
            path.unlink()
    with suppress(OSError):  # it does not exist, or holds other files
        (folder / "checkpoints").rmdir()


def is_whole(folder: Path) -> bool:
    """Whether there is a complete run, even if its files have not all been moved to their places yet."""
    return any((place / "report.json").is_file() for place in (folder / _WHOLE, folder))


def is_trained(folder: Path) -> bool:
    """Whether there is a checkpoint after at least one step. A training stopped before its first step saves step 0."""
    return last_step(folder) > 0


def last_step(folder: Path) -> int:
    """The step of the newest checkpoint, or 0."""
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*.ckpt")), default=0)


def is_no_space(error: OSError) -> bool:
    """Whether the disk is full or the user's quota is used up."""
    return error.errno in _NO_SPACE
