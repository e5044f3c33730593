from typing import TypeVar

import equinox as eqx
import jax

T = TypeVar("T")


def constant(tree: T) -> T:
    """The same with arrays that are constants to `jax.grad`."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)
