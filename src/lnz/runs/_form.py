"""The JSON format of `config.json` and `report.json`: writing it, and checking it while reading."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ..core import LogLikelihood, bracket_from_json, likelihood_from_json
from ..files import (
    DamagedError,
    Kind,
    anything,
    field,
    fields,
    listed,
    named,
    number,
    or_null,
    plain,
    text,
    whole,
    write_atomically,
)
from ._examples import Examples


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, text.encode())


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


_BLANK = "0" * 64
_BEFORE_DIGEST = '"report": "'  # cannot occur within a JSON string, where quotation marks have backslashes


def sealed(report: dict[str, Any]) -> str:
    """The JSON of a report, with the SHA-256 of its own bytes as the last of its `digests`.

    The digest is computed with zeros in its own place.
    """
    digests = {**report["digests"], "report": _BLANK}
    content = to_json({**report, "digests": digests}, indent=2) + "\n"
    digest = hashlib.sha256(content.encode()).hexdigest()
    before, _, after = content.rpartition(_BEFORE_DIGEST + _BLANK)
    return before + _BEFORE_DIGEST + digest + after


def is_sealed(content: bytes) -> bool:
    """Whether the digest within a report matches its bytes."""
    before, name, after = content.rpartition(_BEFORE_DIGEST.encode())
    digest = hashlib.sha256(before + name + _BLANK.encode() + after[len(_BLANK) :])
    return after[: len(_BLANK)] == digest.hexdigest().encode()


def _read_settings(value: Any, where: str) -> dict[str, Any]:
    settings = named(anything)(value, where)
    data = field(settings, "data", named(anything), where)
    field(data, "source", text, f"{where}: data")
    if "train" in settings:
        train = field(settings, "train", named(anything), where)
        if "steps" in train:
            field(train, "steps", whole, f"{where}: train")
    return settings


def _read_object(cls: type, kinds: dict[str, Kind]) -> Kind:
    """A reader of objects whose keys are the fields of a data class. Fields not in `kinds` may have any value."""
    names = [field.name for field in dataclasses.fields(cls)]
    read = fields({name: kinds.get(name, anything) for name in names})

    def build(value: Any, where: str) -> Any:
        values = read(value, where)
        try:
            return cls(**values)
        except ValueError as error:  # the class refuses values that have the right kinds
            raise DamagedError(f"its {where} cannot be: {error}") from error

    return build


def _read_rows(value: Any, where: str) -> dict[str, LogLikelihood]:
    rows = named(likelihood_from_json)(value, where)
    if not rows:
        raise DamagedError(f"its {where} has no row.")
    return rows


def _float(value: Any, where: str) -> float:
    return float(number(value, where))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(listed(text)(value, where))


def _pair(value: Any, where: str) -> tuple[int, int]:
    rows_and_columns = listed(whole)(value, where)
    if len(rows_and_columns) != 2 or min(rows_and_columns) < 1:
        raise DamagedError(f"its {where} must be two sizes; got {rows_and_columns}.")
    return rows_and_columns[0], rows_and_columns[1]


_EXAMPLES: dict[str, Kind] = {
    "image_shape": or_null(_pair),
    "columns": or_null(_texts),
    "rows": named(listed(whole)),
    "values": named(listed(listed(_float))),
    "labels": or_null(listed(whole)),
    "places": or_null(named(listed(text))),
}


_CONFIG: dict[str, Kind] = {
    "recipe": text,
    "title": text,
    "settings": _read_settings,
    "digest": or_null(text),
    "environment": named(text),
    "cwd": text,
    "model": or_null(text),
}


_REPORT: dict[str, Kind] = {
    "rows": _read_rows,
    "bracket": or_null(bracket_from_json),
    "examples": _read_object(Examples, _EXAMPLES),
    "status": text,
    "data_protocol": text,
    "num_parameters": whole,
    "seconds": fields(dict.fromkeys(("train", "compile", "evaluate"), _float)),
    "evaluate": named(anything),
    "warnings": _texts,
    "digests": fields({"model": text, "config": text, "data": or_null(text), "report": text}),
}
