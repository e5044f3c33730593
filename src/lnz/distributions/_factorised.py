"""Distributions of independent components, each component as a distribution of its own."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array

from ..core import AbstractDistribution

T = TypeVar("T")


def is_factorised(distribution: AbstractDistribution) -> bool:
    """Whether its class says `factorised = True`: components are independent, and every array has the space's shape.

    Then one element of each array is the same distribution of a single number.
    """
    return type(distribution).factorised


def per_component(fun: Callable[..., T], q: AbstractDistribution, p: AbstractDistribution, *points: Array) -> T:
    """`fun(q_i, p_i, *points_i)` of each component i of two factorised distributions and of points, stacked."""

    def flat(tree):
        return jax.tree.map(lambda leaf: leaf.reshape(-1) if eqx.is_array(leaf) else leaf, tree)

    return eqx.filter_vmap(fun)(flat(q), flat(p), *flat(points))
