"""The versioned JSON form of likelihoods, estimates and brackets. Reading checks every value: people edit files."""

import dataclasses
import math
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np

from ..files import DamagedError, Kind, field, fields, listed, named, number, one_of, plain, text, whole
from ._bracket import Bracket
from ._estimate import Bound, Estimate
from ._likelihood import LogLikelihood, Protocol, RandomVariable
from ._weights import NAMES, Weights

VERSION = 1

# Derived from the other fields. Written for programs other than lnz, and compared on reading.
_DERIVED = ("value", "bound", "monte_carlo_error", "data_error", "bits_per_dimension", "per_example")


def to_json(result: LogLikelihood | Bracket) -> dict[str, Any]:
    """The fields of `result` as JSON types, after the `version` of this form.

    The form of a likelihood also holds its value, bound and errors in nats per example, the bits per dimension (unless
    it is one of densities), and the log-probability `per_example`. Diagnostics without a value are left out.
    """
    derived = _derived(result) if isinstance(result, LogLikelihood) else {}
    return plain({"version": VERSION, **derived, **_tree(result)})


def likelihood_from_json(value: Any, where: str) -> LogLikelihood:
    """Read a likelihood written by `to_json`.

    **Raises:** `DamagedError`, naming `where`, for another version, a missing or unknown key, values of the wrong kind,
    and contradictory numbers.
    """
    tree = _versioned(value, where)
    found = {name: tree.pop(name) for name in _DERIVED if name in tree}
    result = _object(LogLikelihood, _LIKELIHOOD)(tree, where)
    _check_errors(result, where)
    expected = _derived(result)
    for name in found.keys() - expected.keys():
        raise DamagedError(f"its {where} has {name!r}, which numbers on {result.of.space} do not have.")
    for name, value in expected.items():
        kind = _numbers if name != "bound" else text
        _check_derived(f"{where}.{name}", field(found, name, kind, where), value)
    if result.bound == "exact" and result.protocol.estimators:
        raise DamagedError(f"its {where} is exact beside estimates by {', '.join(result.protocol.estimators)}.")
    return result


def bracket_from_json(value: Any, where: str) -> Bracket:
    """Read a bracket written by `to_json`.

    **Raises:** `DamagedError`, as `likelihood_from_json` does.
    """
    return _object(Bracket, _BRACKET)(_versioned(value, where), where)


def _derived(result: LogLikelihood) -> dict[str, Any]:
    """The derived numbers, without those that the likelihood does not have, such as bits of a density."""
    found = {name: getattr(result, name) for name in _DERIVED}
    return {name: value for name, value in found.items() if value is not None}


def _tree(value: Any) -> Any:
    """The fields of a data class as nested dictionaries of numbers, words and arrays."""
    if isinstance(value, Weights):
        return value.measured()
    if dataclasses.is_dataclass(value):
        return {field.name: _tree(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _versioned(value: Any, where: str) -> dict[str, Any]:
    tree = named(lambda child, _: child)(value, where)
    version = field(tree, "version", whole, where)
    if version != VERSION:
        raise DamagedError(f"its {where} has format version {version}, and this lnz reads version {VERSION}.")
    return {name: child for name, child in tree.items() if name != "version"}


def _object(cls: type, kinds: dict[str, Kind]) -> Kind:
    """An object whose keys are the fields of a data class."""
    read = fields(kinds)

    def build(value: Any, where: str) -> Any:
        values = read(value, where)
        try:
            return cls(**values)
        except ValueError as error:  # values of the right kinds, which the class itself refuses
            raise DamagedError(f"its {where} is refused: {error}") from error

    return build


def _check_errors(result: LogLikelihood, where: str) -> None:
    for side in ("numerators", "denominator"):
        errors = np.asarray(getattr(result, side).standard_error)
        if np.any(errors < 0):
            raise DamagedError(
                f"its {where}.{side}.standard_error is {np.min(errors):g}, but an error cannot be negative."
            )


def _check_derived(where: str, found: Any, expected: Any) -> None:
    """**Raises:** `DamagedError` for a number that does not follow from the others."""
    if isinstance(expected, str):
        if found != expected:
            raise DamagedError(f"its {where} is {found}, but follows from the other fields as {expected}.")
        return
    one, other = np.asarray(found, float), np.asarray(expected, float)
    if one.shape != other.shape:
        raise DamagedError(f"its {where} has the shape {one.shape}, not {other.shape}.")
    scale = np.max(np.abs(other), initial=1, where=np.isfinite(other))
    is_same = np.isclose(one, other, rtol=1e-6 if one.ndim == 0 else 0, atol=1e-9 * (1 + scale), equal_nan=True)
    if not is_same.all():
        first = np.flatnonzero(~np.atleast_1d(is_same))[0]
        one, other = np.atleast_1d(one)[first], np.atleast_1d(other)[first]
        raise DamagedError(f"its {where} is {one:g}, but follows from the other numbers as {other:g}.")


def _numbers(value: Any, where: str) -> Any:
    """A number, or an array of them, in float64."""
    if isinstance(value, list):
        array = np.array([number(child, f"{where}[{i}]") for i, child in enumerate(value)], float)
        if not len(array):
            raise DamagedError(f"its {where} is empty.")
        return array
    return np.asarray(float(number(value, where)))


def _jax_numbers(value: Any, where: str) -> Any:
    return jnp.asarray(_numbers(value, where))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(listed(text)(value, where))


def _flag(value: Any, where: str) -> bool:
    return one_of(True, False)(value, where)


def _positive(value: Any, where: str) -> int | float:
    if not 0 < number(value, where) < math.inf:
        raise DamagedError(f"its {where} is {value}; expected a positive number.")
    return value


def _count(value: Any, where: str) -> Any:
    counts = _numbers(value, where)
    if not np.all((counts >= 1) & np.isfinite(counts)):
        raise DamagedError(f"its {where} must be at least 1.")
    return counts


def _read_weights(value: Any, where: str) -> Weights:
    tree = named(lambda child, _: child)(value, where)
    unknown = [name for name in tree if name not in NAMES]
    if unknown:
        raise DamagedError(f"its {where} has the unknown key {unknown[0]!r}.")
    found = {name: field(tree, name, _count if name == "num" else _numbers, where) for name in tree}
    if found.keys() & {"ess", "pareto_k"} and "num" not in found:  # their rules depend on it
        raise DamagedError(f"its {where} has no 'num'.")
    return Weights(**found)


def _estimate(numbers: Kind) -> Kind:
    kinds = {
        "value": numbers,
        "standard_error": numbers,
        "bound": one_of(*get_args(Bound)),
        "assumes": _texts,
        "weights": _read_weights,
        "protocol": text,
        "extras": named(_numbers),
    }

    def read(value: Any, where: str) -> Estimate:
        values = fields(kinds)(value, where)
        if values["value"].shape != values["standard_error"].shape:
            raise DamagedError(f"its {where} needs a standard error for each value.")
        return Estimate(**values)

    return read


_SIDE = _estimate(_jax_numbers)
_BRACKET: dict[str, Kind] = {"lower": _SIDE, "upper": _SIDE, "of": text}

_RANDOM_VARIABLE: dict[str, Kind] = {
    "data": text,
    "space": text,
    "base_measure": text,
    "num_dimensions": _positive,
    "has_many_values": _flag,
}

_PROTOCOL: dict[str, Kind] = {"numerator": text, "denominator": text, "estimators": _texts, "notes": _texts}

_LIKELIHOOD: dict[str, Kind] = {
    "numerators": _estimate(_numbers),
    "denominator": _estimate(_numbers),
    "of": _object(RandomVariable, _RANDOM_VARIABLE),
    "protocol": _object(Protocol, _PROTOCOL),
    "warnings": _texts,
}
