"""Equinox modules with hashable methods, built from their fields without a constructor, with checks of their types."""

import dataclasses
import numbers
import types
import typing
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import AbstractArray

M = TypeVar("M", bound=eqx.Module)


class Method:
    """A bound method as a pytree, as in Equinox. Two methods are equal if both belong to the same module object.

    Equinox compares arrays, which cannot be hashed, so JAX would refuse `jax.jit(model.log_prob)`. Modules are
    immutable, so their identity can be the key of compiled programs; a model with one other weight is another object.
    """

    def __init__(self, function: Any, owner: Any):
        self.__func__, self.__self__ = function, owner
        self.__name__, self.__doc__ = getattr(function, "__name__", "method"), getattr(function, "__doc__", None)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)

    @property
    def __wrapped__(self) -> Any:  # for its signature
        return types.MethodType(self.__func__, self.__self__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def __hash__(self) -> int:
        return hash((self.__func__, id(self.__self__)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and self.__func__ is other.__func__ and self.__self__ is other.__self__


jax.tree_util.register_pytree_node(
    Method, lambda method: ((method.__self__,), method.__func__), lambda function, parts: Method(function, *parts)
)


class HashableMethods:
    """A base of modules whose bound methods can be passed to `jax.jit`, `jax.grad` and `jax.vmap`.

    `jax.jit(model.log_prob)` treats the arrays of `model` as constants and compiles again for each model, as for a
    closure. `equinox.filter_jit` compiles once for all models of a kind.
    """

    if not typing.TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            if isinstance(value, types.MethodType) and value.__self__ is self and not name.startswith("__"):
                return Method(value.__func__, self)
            return value


def build(cls: type[M], fields: dict[str, Any]) -> M:
    """An instance of `cls` with exactly these fields, checked by `__check_init__` but not by `__init__`."""
    names = field_names(cls)
    if set(fields) != set(names):
        raise ValueError(f"{cls.__name__} needs the fields {sorted(names)}; got {sorted(fields)}.")
    module = object.__new__(cls)
    for name in names:
        object.__setattr__(module, name, fields[name])
    for ancestor in reversed(cls.__mro__):
        if "__check_init__" in vars(ancestor):
            vars(ancestor)["__check_init__"](module)
    return module


def replace(module: M, **changes: Any) -> M:
    """`module` with some fields replaced. Unlike `dataclasses.replace`, it does not call `__init__`."""
    names = field_names(type(module))
    unknown = set(changes) - set(names)
    if unknown:
        raise ValueError(f"{type(module).__name__} has no field {sorted(unknown)}; it has {names}.")
    return build(type(module), {name: changes.get(name, getattr(module, name)) for name in names})


def field_names(cls: type[eqx.Module]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]


def check_fields(cls: type[eqx.Module], fields: dict[str, Any]) -> None:
    """Check values against the declared types, and the declared shapes against each other.

    All arrays may have the same additional leading axes, as from a constructor under `jax.vmap`. A declaration that is
    not understood allows everything.

    **Raises:** `TypeError` or `ValueError`, naming the field.
    """
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # annotations of a user's class may be any text
        return
    shapes: dict[str, list[_Shaped]] = {}
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        where, hint, value = f"`{cls.__name__}.{field.name}`", hints.get(field.name, Any), fields[field.name]
        found = _match(value, hint)
        if found is None:
            raise TypeError(f"{where} must be {_describe_type(hint)}; got {_describe(value)}.")
        if field.metadata.get("static", False) and not _is_hashable(value):
            raise TypeError(
                f"{where} is static, so it cannot hold arrays, lists or dictionaries; got {_describe(value)}."
            )
        shapes[field.name] = found
    if not _agree([shaped for found in shapes.values() for shaped in found]):
        declared = "; ".join(f"{name} {list(s)} for [{dims}]" for name, found in shapes.items() for s, dims in found)
        raise ValueError(f"The shapes of `{cls.__name__}` do not fit together: {declared}.")


def leading_axes(module: eqx.Module, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
    """The leading axes, before the declared ones, of each array field of `module`.

    Arrays whose declaration leaves the number of axes open are skipped. `shape` replaces a declared `*shape`.
    """
    try:
        hints = typing.get_type_hints(type(module))
    except Exception:  # as in `check_fields`
        return []
    found = [_match(getattr(module, name), hints.get(name, Any)) or [] for name in field_names(type(module))]
    spelled = None if shape is None else " ".join("_" for _ in shape)
    stacks = []
    for axes, dims in (shaped for arrays in found for shaped in arrays):
        names = (dims if spelled is None else dims.replace("*shape", spelled)).split()
        if not any(name.startswith(("*", "...")) for name in names):
            stacks.append(axes[: max(len(axes) - len(names), 0)])
    return stacks


_Shaped = tuple[tuple[int, ...], str]  # a shape, and the names of its axes


def _match(value: Any, hint: Any) -> list[_Shaped] | None:
    """The arrays with declared shapes in `value`, or `None` if `value` is not of the declared type."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return _match_array(value, hint.dim_str, hint.dtypes)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        matches = (_match(value, arg) for arg in args)
        return next((found for found in matches if found is not None), None)
    if origin is tuple and args:
        if not isinstance(value, tuple | list):  # a list is accepted too, if the field is not static
            return None
        if args[-1] is Ellipsis:
            args = args[:1] * len(value)
        return _match_all(value, args) if len(args) == len(value) else None
    if origin in (list, dict) and args:
        if not isinstance(value, origin):
            return None
        children = list(value.values()) if isinstance(value, dict) else value
        return _match_all(children, args[-1:] * len(children))
    if origin is typing.Literal:
        return [] if any(type(value) is type(arg) and value == arg for arg in args) else None
    if hint is float and isinstance(value, jax.Array | np.ndarray):
        return _match_array(value, "", ("bfloat16", "float16", "float32", "float64"))
    return [] if _is_instance(value, origin or hint) else None


def _match_all(values: Any, hints: Any) -> list[_Shaped] | None:
    matches = [_match(value, hint) for value, hint in zip(values, hints, strict=True)]
    return None if None in matches else [shaped for found in matches for shaped in found or []]


def _match_array(value: Any, dims: str, dtypes: Any) -> list[_Shaped] | None:
    num_axes = sum(not dim.startswith(("*", "...")) for dim in dims.split())
    if not isinstance(value, jax.Array | np.ndarray | np.generic) or np.ndim(value) < num_axes:
        return None
    if isinstance(dtypes, tuple | list) and value.dtype.name not in dtypes:
        return None
    return [(np.shape(value), dims)]


def _is_instance(value: Any, cls: Any) -> bool:
    if cls in (jax.Array, np.ndarray):
        return isinstance(value, jax.Array | np.ndarray | np.generic)
    if cls in (int, float):
        number = numbers.Integral if cls is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    if cls is bool:
        return isinstance(value, bool | np.bool_)
    try:
        return not isinstance(cls, type) or isinstance(value, cls)
    except TypeError:  # a protocol that cannot be checked
        return True


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _agree(arrays: list[_Shaped]) -> bool:
    """Whether axes with the same name have the same length, after leading axes that all arrays share."""
    stacks = {
        shape[: len(shape) - len(dims.split())] for shape, dims in arrays if "*" not in dims and "..." not in dims
    }
    if len(stacks) > 1:
        return False
    stack = next(iter(stacks), ())
    lengths: dict[str, Any] = {}
    for shape, dims in arrays:
        if shape[: len(stack)] != stack or not _bind(shape[len(stack) :], dims.split(), lengths):
            return False
    return True


def _bind(shape: tuple[int, ...], dims: list[str], lengths: dict[str, Any]) -> bool:
    variadic = next((i for i, dim in enumerate(dims) if dim.startswith(("*", "..."))), None)
    if variadic is not None:
        stop = len(shape) - (len(dims) - variadic - 1)
        if stop < variadic:
            return False
        shape = (*shape[:variadic], shape[variadic:stop], *shape[stop:])  # pyright: ignore[reportAssignmentType]
    for dim, length in zip(dims, shape, strict=True):
        fixed = dim.rpartition("=")[2]
        if fixed.isdecimal() and int(fixed) != length:
            return False
        # Only names are compared: the other forms of jaxtyping (`_`, `...`, `#n`, `n+1`) allow any length.
        if dim.removeprefix("*").isidentifier() and dim != "_" and lengths.setdefault(dim, length) != length:
            return False
    return True


def _describe_type(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return f"a {hint.dtype.__name__} array [{', '.join(hint.dim_str.split())}]"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe_type(arg) for arg in typing.get_args(hint))
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _describe(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
