"""Building modules from their fields, where a constructor would start afresh."""

import dataclasses
from typing import Any, TypeVar

import equinox as eqx

M = TypeVar("M", bound=eqx.Module)


def build(cls: type[M], fields: dict[str, Any]) -> M:
    """An instance of `cls` with exactly these fields, checked by `__check_init__` but not by `__init__`."""
    module = object.__new__(cls)
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        object.__setattr__(module, field.name, fields[field.name])
    for ancestor in reversed(cls.__mro__):
        if "__check_init__" in vars(ancestor):
            vars(ancestor)["__check_init__"](module)
    return module


def replace(module: M, **changes: Any) -> M:
    """`module` with some fields exchanged; unlike `dataclasses.replace` it does not call `__init__`."""
    names = [field.name for field in dataclasses.fields(module)]  # pyright: ignore[reportArgumentType]
    unknown = set(changes) - set(names)
    if unknown:
        raise ValueError(f"{type(module).__name__} has no field {sorted(unknown)}; it has {names}.")
    return build(type(module), {name: changes.get(name, getattr(module, name)) for name in names})
