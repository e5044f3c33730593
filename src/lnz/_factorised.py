"""Distributions of independent components, each component as a distribution of its own."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ._density import AbstractDistribution


def is_factorised(distribution: AbstractDistribution) -> bool:
    """Whether its class says `factorised = True`: components are independent, and every array has the space's shape.

    Then one element of each array is the same distribution of a single number.
    """
    return getattr(type(distribution), "factorised", False)


def per_component(
    fun: Callable[..., Float[Array, ""]], q: AbstractDistribution, p: AbstractDistribution, *points: Array
) -> Float[Array, " components"]:
    """`fun(q_i, p_i, *points_i)` of each component i of two factorised distributions and of points in their space."""

    def flat(tree):
        return jax.tree.map(lambda leaf: leaf.reshape(-1) if eqx.is_array(leaf) else leaf, tree)

    return eqx.filter_vmap(fun)(flat(q), flat(p), *flat(points))
