"""Names for the constructors and functions that a model file may mention. Nothing else can be loaded."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_OBJECT_OF: dict[str, Any] = {}
_NAME_OF: dict[Any, str] = {}


def public_name(obj: Any) -> str:
    """`lnz.energy._rbm.RBM` is known to users as `lnz.energy.RBM`: private modules are left out."""
    modules = [part for part in obj.__module__.split(".") if not part.startswith("_")]
    return ".".join([*modules, obj.__qualname__])


def register(obj: T, name: str | None = None) -> T:
    """Allow `lnz.save` and `lnz.load` to name this class or function in a model file.

    Use it as a decorator on your own `equinox.Module` classes, or call it on a function that a model
    stores (an activation, say). A name can be given once only.

    **Raises:** `ValueError` if another object already has the name; `TypeError` if it is no class or function.
    """
    if not callable(obj):
        raise TypeError(f"`register(...)` needs a class or a function; got {type(obj).__name__}.")
    name = public_name(obj) if name is None else name
    if _OBJECT_OF.get(name, obj) is not obj and not _same_place(_OBJECT_OF[name], obj):
        raise ValueError(f"`register(..., name={name!r})`: the name is taken by {_OBJECT_OF[name]!r}.")
    _NAME_OF[obj] = name  # first, for it fails if `obj` cannot be hashed
    _OBJECT_OF[name] = obj
    return obj


def _same_place(first: Any, second: Any) -> bool:
    # A notebook cell that is run again, or a reloaded module, redefines the same class.
    return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)


def registered_name(obj: Any) -> str | None:
    try:
        return _NAME_OF.get(obj)
    except TypeError:  # unhashable, so never registered
        return None


def registered_object(name: str) -> Callable | None:
    return _OBJECT_OF.get(name)


def registered_names() -> list[str]:
    return sorted(_OBJECT_OF)
