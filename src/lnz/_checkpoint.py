"""Model files: one safetensors file whose header holds the structure as JSON. Nothing in it is executed."""

import dataclasses
import json
import os
import secrets
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from ._check import unknown_name
from ._module import build
from ._register import registered_name, registered_names, registered_object

_FORMAT = "lnz model 1"


def save(path: str | os.PathLike, model: Any) -> None:
    """Write `model` to one file, whole or not at all.

    The file holds arrays bit for bit and names of registered classes and functions; no pickle.
    Your own `equinox.Module` classes need `@lnz.register`.

    **Arguments:**

    - `path`: the file; `.lnz` is the usual ending. An existing file is replaced.
    - `model`: a model, density, distribution, normaliser or any module made of such.

    **Raises:** `TypeError` if a part of the model cannot be stored, saying which; `IsADirectoryError` if `path` is a
    folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`save(path, model)` needs the path of a file first; got {type(path).__name__}.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"`save(path, model)`: {str(path)!r} is a folder. Add the name of a file.")
    if not isinstance(model, eqx.Module) and hasattr(model, "model") and hasattr(model, "history"):
        kind = type(model).__name__
        raise TypeError(f"`save(path, model)` stores a model; got a {kind}: pass `{kind.lower()}.model`.")
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(model, type(model).__name__, arrays)
    header = {"format": _FORMAT, "tree": json.dumps(tree)}
    _write_atomically(Path(path), to_safetensors(arrays, metadata=header))


def load(path: str | os.PathLike) -> Any:
    """The model in `path`, without knowing its class beforehand.

    Loading a float64 model needs `jax.config.update("jax_enable_x64", True)`.

    **Raises:** `FileNotFoundError`; `ValueError` if the file is no model file, is damaged, or names a class that is not
    registered.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`load(path)`: there is no file {str(path)!r}.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} is no model file of lnz, or is damaged: {error}.") from error
    if header.get("format") != _FORMAT:
        raise ValueError(f"{str(path)!r} is no model file of lnz: its format is {header.get('format')!r}.")
    try:
        return _decode(json.loads(header["tree"]), arrays)
    except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is damaged: its structure cannot be read ({error!r}).") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # a temporary file is private; the result is an ordinary one
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _encode(node: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    if node is None or isinstance(node, bool | int | str):
        return node
    if isinstance(node, float):
        return {"float": node.hex()}
    if isinstance(node, jax.Array | np.ndarray | np.generic):
        if isinstance(node, jax.Array) and jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
            raise TypeError(f"`save`: {where} is a random key, which a model file does not hold.")
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(node)
        # safetensors drops the shape () of scalars when made contiguous, so it stands in the header.
        return {"array": name, "shape": list(np.shape(node))}
    if isinstance(node, tuple | list):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_encode(child, f"{where}[{i}]", arrays) for i, child in enumerate(node)]}
    if isinstance(node, dict) and all(isinstance(name, str) for name in node):
        return {"dict": {name: _encode(child, f"{where}[{name!r}]", arrays) for name, child in node.items()}}
    if isinstance(node, eqx.Module) and registered_name(type(node)) is not None:
        fields = {
            field.name: _encode(getattr(node, field.name), f"{where}.{field.name}", arrays)
            for field in dataclasses.fields(node)  # pyright: ignore[reportArgumentType]
        }
        return {"module": registered_name(type(node)), "fields": fields}
    if registered_name(node) is not None:
        return {"function": registered_name(node)}
    raise TypeError(
        f"`save`: {where} is {type(node).__name__}, which a model file cannot hold. "
        "Register your own classes and functions with `lnz.register`."
    )


def _decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(node, dict):
        return node
    if "float" in node:
        return float.fromhex(node["float"])
    if "array" in node:
        return _decode_array(arrays[node["array"]].reshape(node["shape"]))
    if "tuple" in node:
        return tuple(_decode(child, arrays) for child in node["tuple"])
    if "list" in node:
        return [_decode(child, arrays) for child in node["list"]]
    if "dict" in node:
        return {name: _decode(child, arrays) for name, child in node["dict"].items()}
    name = node["function"] if "function" in node else node["module"]
    obj = registered_object(name)
    if obj is None:
        raise ValueError(unknown_name("constructor", name, registered_names()) + " Import the module that defines it.")
    if "function" in node:
        return obj
    if not (isinstance(obj, type) and issubclass(obj, eqx.Module)):
        raise ValueError(f"The file uses {name!r} as a class, which it is not.")
    fields = {field: _decode(child, arrays) for field, child in node["fields"].items()}
    expected = {field.name for field in dataclasses.fields(obj)}  # pyright: ignore[reportArgumentType]
    if set(fields) != expected:
        raise ValueError(
            f"The file describes {name} with the fields {sorted(fields)}, but this version has {sorted(expected)}."
        )
    return build(obj, fields)


def _decode_array(array: np.ndarray) -> jax.Array:
    if array.dtype.itemsize == 8 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"The file holds {array.dtype} arrays, which JAX would cut to 32 bits. "
            'Run `jax.config.update("jax_enable_x64", True)` first.'
        )
    return jnp.asarray(array)
