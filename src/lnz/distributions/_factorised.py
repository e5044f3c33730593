"""Distributions with independent components, and functions applied to each component."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array

from ..core import AbstractDistribution

T = TypeVar("T")


def is_factorised(distribution: AbstractDistribution) -> bool:
    """Whether the class sets `factorised = True`: components are independent, and every array has the space's shape.

    One element of each array then describes a distribution of a single number.
    """
    return type(distribution).factorised


def per_component(fun: Callable[..., T], q: AbstractDistribution, p: AbstractDistribution, *points: Array) -> T:
    """`fun(q_i, p_i, *points_i)` for each component i of two factorised distributions and of the points, stacked."""

    def flat(tree):
        return jax.tree.map(lambda leaf: leaf.reshape(-1) if eqx.is_array(leaf) else leaf, tree)

    return eqx.filter_vmap(fun)(flat(q), flat(p), *flat(points))
