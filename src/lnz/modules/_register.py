"""Names that a model file may contain: public modules of lnz, and registered classes and functions. No others load."""

import inspect
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import equinox as eqx

T = TypeVar("T")

_OBJECT_OF: dict[str, Any] = {}
_NAME_OF: dict[Any, str] = {}


def public_name(obj: Any) -> str:
    """The name that users see, without private modules: `lnz.energy.RBM` for `lnz.energy._rbm.RBM`."""
    modules = [part for part in obj.__module__.split(".") if not part.startswith("_")]
    return ".".join([*modules, obj.__qualname__])


def register(obj: T, name: str | None = None) -> T:
    """Allow `lnz.save` and `lnz.load` to name this class or function in a model file.

    Use it as a decorator on your own `equinox.Module` classes, or call it on a function that a model stores (an
    activation, say). The public modules of lnz need no registration. A name can be registered only once.

    **Raises:** `ValueError` if another object already has the name; `TypeError` if `obj` is neither a class derived
    from `equinox.Module` nor a function.
    """
    given: Any = obj
    if not callable(given) or (isinstance(given, type) and not issubclass(given, eqx.Module)):
        got = f"the class {given.__name__}: derive it from `equinox.Module`" if callable(given) else type(obj).__name__
        raise TypeError(f"`register(...)` needs an `equinox.Module` class or a function; got {got}.")
    name = public_name(obj) if name is None else name
    known = registered_object(name) if name.startswith("lnz.") else _OBJECT_OF.get(name)
    if known is not None and known is not obj and not _same_place(known, obj):
        raise ValueError(f"`register(..., name={name!r})`: the name is taken by {known!r}.")
    _NAME_OF[obj] = name  # first, because it fails if `obj` cannot be hashed
    _OBJECT_OF[name] = obj
    return obj


def _same_place(first: Any, second: Any) -> bool:
    # Running a notebook cell again, or reloading a module, redefines the same class.
    return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)


def registered_name(obj: Any) -> str | None:
    """The name of a class or function in model files; `None` if it has none."""
    try:
        name = _NAME_OF.get(obj)
    except TypeError:  # unhashable, so never registered
        return None
    if name is None and isinstance(obj, type) and _public_class(public_name(obj)) is obj:
        return public_name(obj)
    return name


def registered_object(name: str) -> Callable | None:
    """The class or function with this name, or `None`. Its part of lnz is imported if it has not been yet."""
    found = _public_class(name)  # also imports the part of lnz, which may register the name
    return _OBJECT_OF.get(name, found)


def _public_class(name: str) -> type | None:
    """The class `lnz.part.Name`, if the part exports it and it is an `equinox.Module` that can be built."""
    names = re.fullmatch(r"lnz\.([a-z]+)\.(\w+)", name)
    part = _part(names[1]) if names else None
    value = None if part is None or names is None else vars(part).get(names[2])
    if not (isinstance(value, type) and issubclass(value, eqx.Module)) or inspect.isabstract(value):
        return None
    return value if public_name(value) == name and not value.__name__.startswith(("_", "Abstract")) else None


def _part(name: str) -> Any:
    if name not in _parts():
        return None
    try:
        return import_module(f"lnz.{name}")
    except ImportError:  # it needs an extra
        return None


def _parts() -> list[str]:
    package = import_module("lnz")
    return [info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_")]


def registered_names() -> list[str]:
    """All names that `registered_object` knows."""
    parts = [(part, vars(module)) for part in _parts() if (module := _part(part)) is not None]
    public = {f"lnz.{part}.{name}" for part, names in parts for name in list(names)}
    return sorted({*_OBJECT_OF, *(name for name in public if _public_class(name) is not None)})
