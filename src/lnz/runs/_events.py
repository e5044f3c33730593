"""The log of a training, a line of JSON for each record."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..files import field, named, number, parse_json, read_utf8
from ._config import _place
from ._folder import is_whole, working_folder
from ._form import to_json


class EventLog:
    """`events.jsonl` while training: a line for each record, there at once. The first replaces an earlier file."""

    def __init__(self, folder: Path):
        self._path = folder / "events.jsonl"
        self._file: TextIO | None = None

    def write(self, record: dict[str, int | float]) -> None:
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        try:
            self._file.write(to_json(record) + "\n")
        except OSError as error:  # a write does not know the name of its file
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_events(folder: Path) -> list[dict[str, int | float]]:
    """The records of `events.jsonl`; a last line without its end, from a run that was killed, is left out.

    **Raises:** `OSError`; `DamagedError` that names file and line.
    """
    lines = read_utf8(_place(folder, "events.jsonl")).split("\n")[:-1]
    return [_read_record(line, f"events.jsonl, line {i}") for i, line in enumerate(lines, 1)]


def follow(folder: Path, seconds: float = 1.0) -> Iterator[dict[str, int | float]]:
    """The records of the training in `folder` as they are written, until its run is whole.

    - `seconds`: between two looks. A training that was broken off is waited for: break off the loop.
    """
    told = 0
    while True:
        work = working_folder(folder)
        is_last = work == folder and is_whole(folder)
        records = read_events(work) if _place(work, "events.jsonl").is_file() else []
        yield from records[told:]
        told = max(told, len(records))  # a training that goes on writes its first records again
        if is_last:
            return
        time.sleep(seconds)


def _read_record(line: str, where: str) -> dict[str, int | float]:
    record = named(number)(parse_json(line, True, where), where)
    for name in ("step", "seconds"):
        field(record, name, number, where)
    return record
