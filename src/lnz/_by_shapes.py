"""What a function of arrays says besides arrays, such as a space: by shapes alone, once for equal shapes."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np


def by_shapes(function: Callable, *args: Any) -> Any:
    """`function(*args)` with the shapes in the place of arrays; nothing is computed.

    Answers are kept, for a function that is one of a module: a lambda is a new one each time.
    """
    dynamic, static = eqx.partition(args, lambda leaf: isinstance(leaf, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)))
    leaves, structure = jax.tree.flatten(dynamic)
    static_leaves, static_structure = jax.tree.flatten(static)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return _answer(function, structure, shapes, static_structure, tuple(static_leaves))


@functools.lru_cache(maxsize=256)
def _answer(function, structure, shapes, static_structure, static_leaves):
    dynamic = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return eqx.filter_eval_shape(function, *eqx.combine(dynamic, jax.tree.unflatten(static_structure, static_leaves)))
