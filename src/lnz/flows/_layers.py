"""Parts shared by the architectures: orders of the variables, the space of the layers, and layers with angles."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ..bijections import (
    AbstractBijection,
    AbstractTransformer,
    Chain,
    CircularSplineTransformer,
    Flip,
    Inverse,
    MixedTransformer,
    Permutation,
    Scan,
    ToSupport,
    unbounded,
)
from ..spaces import AbstractSpace


def num_variables(space: AbstractSpace, name: str, least: int = 1) -> int:
    is_euclidean = isinstance(space, AbstractSpace) and space.is_euclidean
    if not is_euclidean or len(space.shape) != 1 or space.shape[0] < least:
        words = "lnz.Euclidean(n)" + (f" with n >= {least}" if least > 1 else "")
        raise TypeError(f"`{name}(space)` needs `{words}`; got {space}.")
    return space.shape[0]


Order = Literal["reverse", "random"]


def mixing(space: AbstractSpace, order: Order, key: PRNGKeyArray, name: str) -> AbstractBijection:
    """The bijection that exchanges the variables between two layers."""
    if order == "reverse":
        return Flip(space)
    if order == "random":
        return Permutation(jr.permutation(key, jnp.arange(space.shape[0], dtype=jnp.int32)), space)
    raise ValueError(f"`{name}(order=...)` must be 'reverse' or 'random'; got {order!r}.")


def inner_space(space: AbstractSpace, name: str, least: int = 1) -> AbstractSpace:
    """The space on which the layers of a flow onto `space` work: `R^n`, with circles where `space` has circles."""
    inner = unbounded(space)
    if len(space.shape) != 1 or space.shape[0] < least:
        words = f"at least {least} variables" if least > 1 else "vectors"
        raise TypeError(f"`{name}(space)` needs a space of {words}, such as `lnz.Euclidean({least})`; got {space}.")
    return inner


def onto(space: AbstractSpace, layers: AbstractBijection) -> AbstractBijection:
    """`layers`, followed by a map of their values into `space` if they are elsewhere."""
    return layers if layers.codomain == space else Chain(layers, ToSupport(space))


def are_angles(inner: AbstractSpace) -> Int[np.ndarray, " n"]:
    """For each variable of `inner_space(...)`, 1 if it is an angle and 0 if not."""
    return np.concatenate([np.full(part.shape, part.periodic, np.int32) for part in inner.parts])


MakeMap = Callable[[PRNGKeyArray, Int[Array, " n"], Callable[[Array], AbstractTransformer], int], AbstractBijection]


def layers_with_angles(
    inner: AbstractSpace,
    transformer: AbstractTransformer,
    make: MakeMap,
    *,
    key: PRNGKeyArray,
    num_layers: int,
    order: Order,
    name: str,
) -> Scan:
    """Layers of `make(key, is_angle, choose, num_params)`, each on the variables in its own order.

    Angles get a circular spline, whatever `transformer` is; `choose(is_angle)` is the transformer of these variables.
    Each layer reorders the variables of `inner` and puts them back, so that it maps `inner` to itself. Every second
    order is the reverse of the one before it, so that two successive couplings change each variable at least once.
    """
    angles = are_angles(inner)
    circular = CircularSplineTransformer(getattr(transformer, "num_bins", 8))
    all_angles = bool(angles.all())
    num_params = circular.num_params if all_angles else max(circular.num_params, transformer.num_params)
    key_layers, key_order = jr.split(key)

    def choose(is_angle):
        return circular if all_angles else MixedTransformer(transformer, circular, is_angle)

    def layer(key, order):
        is_angle = jnp.asarray(angles)[order]
        to_order = Permutation(order, inner)
        return Chain(to_order, make(key, is_angle, choose, num_params), Inverse(to_order))

    first = jnp.broadcast_to(jnp.arange(len(angles), dtype=jnp.int32), (-(-num_layers // 2), len(angles)))
    if order == "random":
        first = jax.vmap(jr.permutation)(jr.split(key_order, len(first)), first)
    elif order != "reverse":
        raise ValueError(f"`{name}(order=...)` must be 'reverse' or 'random'; got {order!r}.")
    orders = jnp.stack([first, first[:, ::-1]], axis=1).reshape(-1, len(angles))[:num_layers]
    return Scan(eqx.filter_vmap(layer)(jr.split(key_layers, num_layers), orders))
