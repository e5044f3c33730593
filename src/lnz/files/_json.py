"""Strict reading of untrusted JSON: a wrong value is a `DamagedError` that names it, never a `KeyError`."""

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

# `kind(value, where)` turns a JSON value into a Python value, or raises a `DamagedError` that names `where`.
Kind = Callable[[Any, str], Any]


class DamagedError(ValueError):
    """The file is incomplete, malformed or contradicts itself."""


def short(value: Any) -> str:
    """`repr`, cut to fit into a message."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 80
    return brief.repr(value)


def plain(value: Any) -> Any:
    """`value` as JSON types. Non-finite numbers become 'nan', 'inf' or '-inf', because JSON lacks them."""
    if isinstance(value, dict):
        return {name: plain(child) for name, child in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def parse_json(text: str, with_fractions: bool = False, what: str = "header") -> Any:
    """Parse JSON, but refuse repeated keys, infinite numbers and NaN, which Python's parser accepts.

    Without `with_fractions`, every number must be whole.

    **Raises:** `DamagedError`, with a text that continues "it is damaged: ".
    """

    def fraction(digits: str) -> float:
        value = float(digits) if with_fractions else math.nan
        if not math.isfinite(value):
            expected = "finite numbers" if with_fractions else "whole numbers, and others as hexadecimal text"
            raise DamagedError(f"its {what} has the number {short(digits)}; expected {expected}.")
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = {}
        for key, value in pairs:
            if key in result:
                raise DamagedError(f"its {what} has the key {short(key)} twice.")
            result[key] = value
        return result

    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=fraction, parse_constant=fraction)
    except RecursionError as error:
        raise DamagedError(f"its {what} is nested too deeply.") from error
    except DamagedError:
        raise
    except ValueError as error:  # also for whole numbers of thousands of digits
        raise DamagedError(f"its {what} is not JSON ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Control characters, which a terminal would obey, become U+FFFD in all texts.

    **Raises:** `OSError`; `DamagedError`, naming the file.
    """
    value = parse_json(read_utf8(path), True, path.name)
    if not _is_flat(value):
        raise DamagedError(f"its {path.name} is nested too deeply.")
    value = _without_controls(value)
    if not isinstance(value, dict):
        raise DamagedError(f"its {path.name} must be an object; got {short(value)}.")
    return value


_DEEPEST = 50  # levels of nesting


def _is_flat(value: Any) -> bool:
    """Whether `value` has few enough levels of nesting for recursive functions."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for parent in level
            if isinstance(parent, list | dict)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
        if not level:
            return True
    return False


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line feeds


def _without_controls(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_without_controls(child) for child in value]
    if isinstance(value, dict):
        return {_without_controls(key): _without_controls(child) for key, child in value.items()}
    return value


def read_utf8(path: Path) -> str:
    """The text of a file. **Raises:** `OSError`; `DamagedError`, naming the file, if it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"its {path.name} is not UTF-8 text ({error}).") from error


def field(source: dict[str, Any], key: str, kind: Kind, where: str) -> Any:
    """`source[key]` as `kind`; `where` names the file and the path to `source` in it.

    **Raises:** `DamagedError`, naming the file and the key, if it is missing or of another kind.
    """
    if key not in source:
        raise DamagedError(f"its {where} has no {key!r}.")
    return kind(source[key], f"{where}: {key}")


def fields(kinds: dict[str, Kind]) -> Kind:
    """An object with exactly these keys."""

    def read(value: Any, where: str) -> dict[str, Any]:
        source = named(anything)(value, where)
        result = {key: field(source, key, kind, where) for key, kind in kinds.items()}
        unknown = [key for key in source if key not in kinds]
        if unknown:
            raise DamagedError(f"its {where} has the unknown key {short(unknown[0])}.")
        return result

    return read


def anything(value: Any, where: str) -> Any:
    return value


def text(value: Any, where: str) -> str:
    return value if isinstance(value, str) else _refuse(value, where, "text")


def whole(value: Any, where: str) -> int:
    return value if type(value) is int else _refuse(value, where, "a whole number")


def number(value: Any, where: str) -> int | float:
    """A number, or 'nan', 'inf' or '-inf', which stand for the numbers that JSON lacks."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**1023:
        return value
    return _refuse(value, where, "a number")


def one_of(*words: str | bool) -> Kind:
    def read(value: Any, where: str) -> Any:
        is_one = type(value) in (str, bool) and value in words
        return value if is_one else _refuse(value, where, f"one of {', '.join(map(str, words))}")

    return read


def listed(kind: Kind) -> Kind:
    """A list with elements of one kind."""

    def read(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            return _refuse(value, where, "a list")
        return [kind(child, f"{where}[{i}]") for i, child in enumerate(value)]

    return read


def named(kind: Kind) -> Kind:
    """An object with any keys and with values of one kind."""

    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return _refuse(value, where, "an object")
        return {key: kind(child, f"{where}.{key}") for key, child in value.items()}

    return read


def or_null(kind: Kind) -> Kind:
    def read(value: Any, where: str) -> Any:
        return None if value is None else kind(value, where)

    return read


def _refuse(value: Any, where: str, expected: str) -> Any:
    raise DamagedError(f"its {where} is {short(value)}; expected {expected}.")
