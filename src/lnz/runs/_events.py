"""The log of a training: `events.jsonl`, with a line of JSON for each record."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..files import field, named, number, parse_json, read_utf8
from ._config import _place, read_config
from ._folder import is_whole, working_folder
from ._form import to_json


class EventLog:
    """Writes `events.jsonl` while training. Each record is flushed at once; the first one replaces an earlier file."""

    def __init__(self, folder: Path):
        self._path = folder / "events.jsonl"
        self._file: TextIO | None = None

    def write(self, record: dict[str, int | float]) -> None:
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        try:
            self._file.write(to_json(record) + "\n")
        except OSError as error:  # the error of a write lacks the file's name
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_events(folder: Path) -> list[dict[str, int | float]]:
    """Read the records of `events.jsonl`, without an incomplete last line, which a killed run may leave.

    **Raises:** `OSError` if the file cannot be read, and `DamagedError`, naming file and line, for a damaged record.
    """
    lines = read_utf8(_place(folder, "events.jsonl")).split("\n")[:-1]
    return [_read_record(line, f"events.jsonl, line {i}") for i, line in enumerate(lines, 1)]


def follow(folder: Path, seconds: float = 1.0) -> Iterator[dict[str, int | float]]:
    """Yield the records of the training in `folder` as they are written, until its run is complete.

    - `seconds`: time between two looks at the files.

    The iterator ends too if another training takes its place, or an `--overwrite` is given up. It keeps waiting after
    a training was interrupted: leave the loop yourself.
    """
    folder, told, followed = Path(folder), 0, None
    while True:
        work = working_folder(folder)
        is_last = work == folder and is_whole(folder)
        try:
            config, records = {**read_config(work), "model": None}, read_events(work)
        except FileNotFoundError:  # not started yet, or being moved
            config, records, is_last = None, [], False
        if None not in (config, followed) and config != followed:
            return
        followed = followed if config is None else config
        yield from records[told:]
        told = max(told, len(records))  # a resumed training writes its first records again
        if is_last:
            return
        time.sleep(seconds)


def _read_record(line: str, where: str) -> dict[str, int | float]:
    record = named(number)(parse_json(line, True, where), where)
    for name in ("step", "seconds"):
        field(record, name, number, where)
    return record
