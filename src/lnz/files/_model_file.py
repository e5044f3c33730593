"""Model files: one safetensors file with the structure of the model as JSON in its header. Loading executes no code."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

from ..modules import (
    build,
    check_fields,
    field_names,
    registered_name,
    registered_names,
    registered_object,
    unknown_name,
)
from ._atomic import write_atomically
from ._json import DamagedError, parse_json, short
from ._safetensors import DTYPES, NotAModelError, StoredArray, check_digest, is_shape, read_header, to_bytes

_FORMAT = "lnz model 1"
_MAX_DEPTH = 100  # of nested modules and containers; at Python's own limit JAX raises SystemError


def save(path: str | os.PathLike, model: Any) -> None:
    """Write `model` to one file, whole or not at all.

    The file holds arrays bit for bit, and the names of registered classes and functions; it contains no pickle. A
    SHA-256 of all its bytes lets `load` refuse a file in which a single bit has changed. Your own `equinox.Module`
    classes need `@lnz.register`.

    **Arguments:**

    - `path`: the file; `.lnz` is the usual ending. An existing file is replaced.
    - `model`: a model, density, distribution, normaliser, or any module made of these.

    **Raises:** `TypeError`, naming the part, if a part of the model cannot be stored; `IsADirectoryError` if `path` is
    a folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`save(path, model)` needs the path of a file first; got {type(path).__name__}.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"`save(path, model)`: {str(path)!r} is a folder. Add the name of a file.")
    if not isinstance(model, eqx.Module) and hasattr(model, "model") and hasattr(model, "history"):
        kind = type(model).__name__
        raise TypeError(f"`save(path, model)` stores a model; got a {kind}: pass `{kind.lower()}.model`.")
    arrays: dict[str, np.ndarray] = {}
    try:
        tree = json.dumps(_encode(model, type(model).__name__, arrays))
        content = to_bytes(arrays, {"format": _FORMAT, "tree": tree})
    except (SafetensorError, ValueError) as error:  # a header of 100 MB, or a number of thousands of digits
        raise TypeError(f"`save`: a model file cannot hold this {type(model).__name__}: {error}.") from error
    write_atomically(Path(path), content)


def load(path: str | os.PathLike) -> Any:
    """Load a model of any registered class from `path`.

    Files of unknown origin are safe to load: names are looked up among the registered classes and functions, never
    imported, and values are checked against the declared types and shapes. The SHA-256 in a file guards against damage,
    not against an author: a model from a stranger may still be a bad model.

    Loading a float64 model needs `jax.config.update("jax_enable_x64", True)`.

    A model with a non-finite parameter is loaded, so that it can be inspected, with a `UserWarning` naming the
    parameter. Infinity is valid in fields named `logits` and `potentials`, where it marks impossible outcomes, and
    causes no warning.

    **Raises:** `FileNotFoundError`; `IsADirectoryError`; `ValueError` if the file is not a model file, is damaged,
    names a class that is not registered, or holds values that the class refuses.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`load(path)` needs the path of a file; got {type(path).__name__}.")
    path = Path(path)
    where = f"`load(path)`: {str(path)!r}"
    if path.is_dir():
        raise IsADirectoryError(f"{where} is a folder. Add the name of a file.")
    if not path.is_file():
        raise FileNotFoundError(f"`load(path)`: there is no file {str(path)!r}.")
    try:
        model = _load(path)
    except NotAModelError as error:
        raise ValueError(f"{where} is not a model file of lnz: {_line(error)} `lnz.save` writes them.") from error
    except DamagedError as error:
        raise ValueError(f"{where} is damaged: {_line(error)} Copy or save it again.") from error
    except ValueError as error:
        raise ValueError(f"{where} cannot be loaded. {_line(error)}") from error
    _warn_of_faults(model, where)
    return model


_MAY_BE_INFINITE = {"logits", "potentials"}


def _warn_of_faults(model: Any, where: str) -> None:
    for place, leaf in jax.tree_util.tree_leaves_with_path(model):
        if not eqx.is_inexact_array(leaf):
            continue
        may_be_infinite = any(getattr(key, "name", None) in _MAY_BE_INFINITE for key in place)
        array = np.asarray(leaf)
        bad = np.isnan(array) if may_be_infinite else ~np.isfinite(array)
        if bad.any():
            name = f"{type(model).__name__}{jax.tree_util.keystr(place)}"
            warnings.warn(
                f"{where}: {int(bad.sum())} of {bad.size} numbers of the parameter {name} are NaN or infinite, as "
                "after a training that diverged. Do not trust its likelihoods and samples.",
                stacklevel=3,
            )
            return


def digest_of_model(path: Path) -> str:
    """The SHA-256 in a model file, by which a run identifies its model.

    **Raises:** `DamagedError` if it does not match the file's bytes.
    """
    with open(path, "rb") as file:
        return check_digest(file)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 5000 else text[:5000] + "..."


def _load(path: Path) -> Any:
    metadata, arrays = read_header(path)
    form = metadata.get("format")
    if form != _FORMAT:
        if isinstance(form, str) and form.startswith("lnz model "):
            raise ValueError(f"Its format is {short(form)}, but this version of lnz reads {_FORMAT!r}. Update lnz.")
        raise NotAModelError(f"it is a safetensors file whose format is {short(form)}, not {_FORMAT!r}.")
    with open(path, "rb") as file:
        check_digest(file)
    if not isinstance(metadata.get("tree"), str):
        raise DamagedError(f"its structure must be text; got {short(metadata.get('tree'))}.")
    model = _decode(parse_json(metadata["tree"]), arrays)
    if arrays:
        raise DamagedError(f"its structure does not use the arrays {short(sorted(arrays))}.")
    return model


def _encode(node: Any, where: str, arrays: dict[str, np.ndarray], depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise TypeError(f"`save`: {where[:80]}... is nested more than {_MAX_DEPTH} deep, or contains itself.")
    # Exact types throughout: a subclass (a named tuple, say) would be loaded as its base class.
    if isinstance(node, np.integer | np.bool_ | np.float64):
        node = node.item()
    if node is None or type(node) in (bool, int, str):
        return node
    if type(node) is float:
        return {"float": node.hex()}
    if isinstance(node, jax.Array | np.ndarray | np.generic):
        return _encode_array(node, where, arrays)
    if type(node) in (tuple, list):
        return {
            type(node).__name__: [_encode(child, f"{where}[{i}]", arrays, depth + 1) for i, child in enumerate(node)]
        }
    if type(node) is dict and all(type(name) is str for name in node):
        return {"dict": {name: _encode(child, f"{where}[{name!r}]", arrays, depth + 1) for name, child in node.items()}}
    name = registered_name(type(node))
    if isinstance(node, eqx.Module) and name is not None:
        fields = {field: getattr(node, field) for field in field_names(type(node))}
        encoded = {field: _encode(child, f"{where}.{field}", arrays, depth + 1) for field, child in fields.items()}
        try:
            check_fields(type(node), fields)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`save`: {where} could not be loaded again. {error}") from error
        return {"module": name, "fields": encoded}
    name = registered_name(node)
    if name is not None:
        return {"function": name}
    raise TypeError(
        f"`save`: {where} is {type(node).__name__}, which a model file cannot hold. "
        "Register your own `equinox.Module` classes and functions with `lnz.register`."
    )


def _encode_array(array: Any, where: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        raise TypeError(f"`save`: {where} is a random key, which a model file does not hold.")
    if array.dtype.newbyteorder("=") not in DTYPES.values():
        known = ", ".join(dtype.name for dtype in DTYPES.values())
        raise TypeError(f"`save`: {where} has dtype {array.dtype}; a model file holds {known}. Try `.astype`.")
    name = str(len(arrays))
    arrays[name] = np.ascontiguousarray(array)
    # `ascontiguousarray` gives scalars the shape (1,), so the header holds their shape ().
    return {"array": name, "shape": list(np.shape(array))}


def _decode(node: Any, arrays: dict[str, StoredArray], depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise DamagedError(f"its structure is nested more than {_MAX_DEPTH} deep.")
    if node is None or isinstance(node, bool | int | str):
        return node
    kind = frozenset(node) if isinstance(node, dict) else None
    if kind == {"module", "fields"} and isinstance(node["fields"], dict):
        return _decode_module(node["module"], node["fields"], arrays, depth)
    if kind == {"function"}:
        return _constructor(node["function"])
    if kind == {"array", "shape"}:
        return _decode_array(node["array"], node["shape"], arrays)
    if kind == {"float"} and isinstance(node["float"], str):
        return _decode_float(node["float"])
    if kind == {"tuple"} and isinstance(node["tuple"], list):
        return tuple([_decode(child, arrays, depth + 1) for child in node["tuple"]])
    if kind == {"list"} and isinstance(node["list"], list):
        return [_decode(child, arrays, depth + 1) for child in node["list"]]
    if kind == {"dict"} and isinstance(node["dict"], dict):
        return {name: _decode(child, arrays, depth + 1) for name, child in node["dict"].items()}
    raise DamagedError(f"a part of its structure has an unknown form: {short(node)}.")


def _decode_float(text: str) -> float:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise DamagedError(f"{short(text)} is not a hexadecimal number of 64 bits.") from error


def _constructor(name: Any) -> Any:
    if not isinstance(name, str):
        raise DamagedError(f"the name of a constructor must be text; got {short(name)}.")
    obj = registered_object(name)
    if obj is None:
        # A long name is cut, because the search for the nearest known name takes time; it stays unknown.
        message = unknown_name("constructor", name if len(name) <= 100 else name[:100] + "...", registered_names())
        raise ValueError(message + " Import the module that defines it.")
    return obj


def _decode_module(name: Any, children: dict[str, Any], arrays: dict[str, StoredArray], depth: int) -> Any:
    cls = _constructor(name)
    if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
        raise ValueError(f"The file uses {name!r} as a class, but it is not a class.")
    expected = sorted(field_names(cls))
    if sorted(children) != expected:
        raise ValueError(
            f"The file describes {name} with the fields {short(sorted(children))}, but this version has {expected}."
        )
    fields = {field: _decode(child, arrays, depth + 1) for field, child in children.items()}
    try:
        check_fields(cls, fields)
        return build(cls, fields)
    except Exception as error:  # a class may raise anything for values that it never expected
        raise ValueError(f"{name} refuses its fields: {_line(error)}") from error


def _decode_array(name: Any, shape: Any, arrays: dict[str, StoredArray]) -> jax.Array:
    # Each array is used once: otherwise a small file that names one array many times could fill the memory.
    array = arrays.pop(name, None) if isinstance(name, str) else None
    if array is None:
        raise DamagedError(f"its structure names the array {short(name)}, which does not exist or was named before.")
    if not is_shape(shape) or (tuple(shape) != array.shape and (shape, array.shape) != ([], (1,))):
        raise DamagedError(f"its array {short(name)} has two shapes, {short(shape)} and {list(array.shape)}.")
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"The file holds {array.dtype} arrays, which JAX would cut to 32 bits. "
            'Run `jax.config.update("jax_enable_x64", True)` first.'
        )
    return jnp.asarray(array.read().reshape(shape))
