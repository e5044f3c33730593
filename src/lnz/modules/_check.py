"""Checks of arguments, shared by all verbs."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray


def check_key(key: Any) -> PRNGKeyArray:
    """Return `key`, or raise an error that says how to make one."""
    is_typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    is_legacy = isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.shape[-1:] == (2,)
    if not (is_typed or is_legacy):
        got = f"the number {key}" if isinstance(key, int) else f"{type(key).__name__}"
        seed = key if isinstance(key, int) else 0
        raise TypeError(f"`key` must be a JAX random key; got {got}. Try `jax.random.key({seed})`.")
    if key.ndim != (0 if is_typed else 1):
        raise ValueError(f"`key` must be one key; got an array of {key.shape[0]}. Pick one, `key[0]`.")
    return key


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return the `shape` of a batch of draws as a tuple, or raise an error that says how to write one."""
    if isinstance(shape, numbers.Integral) and not isinstance(shape, bool):
        raise TypeError(f"`shape` must be a tuple of lengths; got the number {shape}. Try `({shape},)`.")
    is_sequence = isinstance(shape, tuple | list)
    if not is_sequence or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in shape):
        raise TypeError(f"`shape` must be a tuple of whole numbers, such as `(100,)` or `()`; got {shape!r}.")
    if any(n < 0 for n in shape):
        raise ValueError(f"`shape` must not have negative lengths; got {tuple(shape)}.")
    return tuple(int(n) for n in shape)


def is_false(condition: Array | bool) -> bool:
    """Whether `condition` is known to be false. Inside a compiled function it is unknown, and the result is `False`."""
    return not isinstance(condition, Tracer) and not bool(condition)


def as_floats(x: Any) -> Array:
    """`x` (numbers, lists, NumPy or JAX) as a floating-point array. Floating-point arrays keep their precision."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def kind_of(value: Any) -> str:
    """The type of an argument, in words short enough for an error."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    return type(value).__name__


def check_positive(value: Any, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{argument}` must be a whole number, at least 1; got {value!r}.")
    return int(value)


def check_has_data(data: Array | None, user: str) -> Array:
    if data is None:
        raise ValueError(f"`{user}` learns from data; `fit` got `data=None`. Pass examples `[n, ...]`.")
    return data


_FEW_NAMES = 60


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name, with the nearest known name, and with all known names if they are few."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = f" Known: {', '.join(known)}." if len(known) <= _FEW_NAMES else ""
    return f"Unknown {what} {name!r}.{hint}{listed}"


def model_dtype(model: Any):
    """The type of the first floating-point array in a model, or JAX's default if it has none."""
    for leaf in jax.tree.leaves(model):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.dtype
    return jnp.result_type(float)
