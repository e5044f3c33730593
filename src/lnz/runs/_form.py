"""The JSON form of a report: written from results, and checked while it is read."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Bound, Bracket, Estimate, LogLikelihood
from ..files import (
    DamagedError,
    Kind,
    anything,
    field,
    fields,
    listed,
    named,
    number,
    one_of,
    or_null,
    text,
    whole,
    write_atomically,
)
from ._examples import Examples


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, text.encode())


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


_BLANK = "0" * 64
_BEFORE_DIGEST = '"report": "'  # in no text of JSON, whose quotation marks have backslashes


def sealed(report: dict[str, Any]) -> str:
    """A report with the digest of its own bytes, which have zeros as its digits, as the last of its `digests`."""
    digests = {**report["digests"], "report": _BLANK}
    content = to_json({**report, "digests": digests}, indent=2) + "\n"
    digest = hashlib.sha256(content.encode()).hexdigest()
    before, _, after = content.rpartition(_BEFORE_DIGEST + _BLANK)
    return before + _BEFORE_DIGEST + digest + after


def is_sealed(content: bytes) -> bool:
    """Whether a report has the digest of its own bytes."""
    before, name, after = content.rpartition(_BEFORE_DIGEST.encode())
    digest = hashlib.sha256(before + name + _BLANK.encode() + after[len(_BLANK) :])
    return after[: len(_BLANK)] == digest.hexdigest().encode()


def _describe_bracket(bracket: Bracket) -> dict[str, Any]:
    return {**vars(bracket), **{side: dict(vars(getattr(bracket, side))) for side in ("lower", "upper")}}


def _plain(value: Any) -> Any:
    """`value` in JSON's types. Numbers that are not finite, which JSON lacks, become 'nan', 'inf' or '-inf'."""
    if isinstance(value, dict):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


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
    """An object whose keys are the fields of a data class; those without a kind may be anything."""
    names = [field.name for field in dataclasses.fields(cls)]
    read = fields({name: kinds.get(name, anything) for name in names})

    def build(value: Any, where: str) -> Any:
        values = read(value, where)
        try:
            return cls(**values)
        except ValueError as error:  # what the class refuses of values that are of the right kinds
            raise DamagedError(f"its {where} cannot be: {error}") from error

    return build


def _read_rows(value: Any, where: str) -> dict[str, LogLikelihood]:
    rows = named(_read_object(LogLikelihood, _ROW))(value, where)
    if not rows:
        raise DamagedError(f"its {where} has no row.")
    return rows


def _read_stats(value: Any, where: str) -> dict[str, Any]:
    stats = named(_restored)(value, where)
    for name, kind in _STATS.items():
        if name in stats or name in ("fingerprint", "protocol", "num_dimensions", "partition_error"):
            stats[name] = field(stats, name, kind, where)
    return stats


def _restored(value: Any, where: str) -> Any:
    """With the numbers that JSON lacks, wherever they are."""
    if isinstance(value, dict):
        return {name: _restored(child, where) for name, child in value.items()}
    if isinstance(value, list):
        return [_restored(child, where) for child in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _float(value: Any, where: str) -> float:
    return float(_number(value, where))


def _number(value: Any, where: str) -> int | float:
    """A number, also one that `_restored` has made of a word."""
    return value if isinstance(value, float) else number(value, where)


def _array(value: Any, where: str) -> np.ndarray:
    array = np.array(listed(_number)(value, where), float)
    if not len(array):
        raise DamagedError(f"its {where} is empty.")
    return array


def _scalar(value: Any, where: str) -> jax.Array:
    return jnp.asarray(_float(value, where))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(listed(text)(value, where))


def _pair(value: Any, where: str) -> tuple[int, int]:
    rows_and_columns = listed(whole)(value, where)
    if len(rows_and_columns) != 2 or min(rows_and_columns) < 1:
        raise DamagedError(f"its {where} must be two sizes; got {rows_and_columns}.")
    return rows_and_columns[0], rows_and_columns[1]


def _read_weights(value: Any, where: str) -> dict[str, Any]:
    """Diagnostics of weights, of which those that others are judged by must be there."""
    stats = named(anything)(value, where)
    kinds = {name: _WEIGHTS.get(name, _numbers) for name in stats}
    if "ess" in stats or "pareto_k" in stats:
        kinds["num"] = _count
    return {name: field(stats, name, kind, where) for name, kind in kinds.items()}


def _read_arrays(value: Any, where: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(child, float) for name, child in _read_weights(value, where).items()}


def _count(value: Any, where: str) -> float:
    if not _positive(value, where) >= 1:
        raise DamagedError(f"its {where} is {value}; expected at least 1.")
    return float(value)


def _positive(value: Any, where: str) -> int | float:
    if not 0 < _number(value, where) < math.inf:
        raise DamagedError(f"its {where} is {value}; expected a positive number.")
    return value


def _numbers(value: Any, where: str) -> Any:
    return listed(_numbers)(value, where) if isinstance(value, list) else _float(value, where)


_NAMES = ("ess", "pareto_k", "normal_ess", "overlap", "edge_mass", "grid_error", "degrees")


_WEIGHTS: dict[str, Kind] = {**dict.fromkeys(_NAMES, _float), "num": _count, "log_weights": _array}


_ROW: dict[str, Kind] = {
    "value": _float,
    "monte_carlo_error": _float,
    "data_error": _float,
    "bound": one_of(*get_args(Bound)),
    "per_example": _array,
    "stats": _read_stats,
    "assumes": _texts,
}


_STATS: dict[str, Kind] = {
    "fingerprint": fields({"space": text, "base_measure": text, "data": text}),
    "protocol": text,
    "num_dimensions": _positive,
    "partition_error": _float,
    "hidden_error": _float,
    "log_partition": _float,
    "warnings": listed(text),
    "estimators": listed(text),
    "partition_weights": _read_weights,
    "hidden_weights": _read_weights,
    "partition_log_weights": _array,
    "hidden_errors": _array,
    "hidden_unreliable_rows": listed(whole),
    "hidden_useless_rows": listed(whole),
}


_ESTIMATE: dict[str, Kind] = {
    "value": _scalar,
    "standard_error": _scalar,
    "bound": one_of(*get_args(Bound)),
    "assumes": _texts,
    "stats": _read_arrays,
    "protocol": text,
}


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
    "bracket": or_null(
        _read_object(Bracket, {"of": text, **dict.fromkeys(("lower", "upper"), _read_object(Estimate, _ESTIMATE))})
    ),
    "examples": _read_object(Examples, _EXAMPLES),
    "status": text,
    "data_protocol": text,
    "num_parameters": whole,
    "seconds": fields(dict.fromkeys(("train", "compile", "evaluate"), _float)),
    "evaluate": named(anything),
    "warnings": _texts,
    "digests": fields({"model": text, "config": text, "data": or_null(text), "report": text}),
}
