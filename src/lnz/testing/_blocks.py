"""Laws of block conditionals, exactly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from .._density import AbstractBlockDensity
from ._densities import enumerate_states
from ._require import eps, require_close


def check_conditionals(density: AbstractBlockDensity) -> None:
    """Every block conditional equals the one found by enumerating the joint of all blocks, and `pi P = pi`.

    Where no block is auxiliary the joint is the density itself. An auxiliary first block is summed out of the density,
    so the joint is the density times that block's conditional, and the conditionals of all others are held to it.
    A conditional must not depend on the present value of its own block.
    """
    tables, joint = _enumerate_blocks(density)
    tolerance = max(1e-10, 200 * eps()) * (1 + float(np.max(np.abs(joint))))
    for block in range(density.num_blocks):
        enumerated = joint - logsumexp(joint, axis=block, keepdims=True)
        given = _over_blocks(
            tables, lambda *blocks, block=block: density.conditional(block, blocks).log_prob(blocks[block])
        )
        require_close(given, enumerated, tolerance, f"conditional of block {block} equals the enumerated one")
    states, kernel = gibbs_transition_matrix(density)
    log_p = jax.vmap(density.log_density)(states)
    p = np.asarray(jnp.exp(log_p - logsumexp(log_p)), np.float64)
    tolerance = max(1e-10, 100 * eps())
    require_close(kernel.sum(axis=1), np.ones(len(p)), tolerance, "conditionals sum to one")
    require_close(p @ kernel, p, tolerance, "a Gibbs sweep leaves the density invariant (pi P = pi)")


def _enumerate_blocks(density: AbstractBlockDensity) -> tuple[list[Array], Float[Array, "..."]]:
    """All values of each block, and the log joint of all blocks with one axis for each."""
    blocks = density.split(enumerate_states(density.space)[0])
    tables = [
        enumerate_states(density.conditional(i, blocks).space).astype(blocks[i].dtype)
        for i in range(density.num_blocks)
    ]
    joint = _over_blocks(tables, lambda *blocks: density.log_density(density.join(blocks)))
    if joint.size > (density.space.num_points or 0):  # the first block is auxiliary
        joint = joint + _over_blocks(tables, lambda *blocks: density.conditional(0, blocks).log_prob(blocks[0]))
    return tables, joint


def _over_blocks(tables: list[Array], function: Callable) -> Float[Array, "..."]:
    """`function` of every combination of block values, with one axis for each block."""
    for axis in reversed(range(len(tables))):
        function = jax.vmap(function, in_axes=[0 if i == axis else None for i in range(len(tables))])
    return jax.jit(function)(*tables)


def gibbs_transition_matrix(density: AbstractBlockDensity) -> tuple[Array, np.ndarray]:
    """`(states [n, ...], P [n, n])` of one sweep over all blocks, exactly, from the conditionals' probabilities."""
    states = enumerate_states(density.space)
    index = {np.asarray(state).tobytes(): i for i, state in enumerate(states)}
    kernel = np.zeros((len(states), len(states)))
    for row, state in enumerate(states):
        branches: dict[bytes, tuple[tuple[Array, ...], float]] = {b"": (density.split(state), 1.0)}
        for block in range(density.num_blocks):
            branches = _branch(density, block, branches)
        for blocks, probability in branches.values():
            kernel[row, index[np.asarray(density.join(blocks)).tobytes()]] += probability
    return states, kernel


def _branch(density: AbstractBlockDensity, block: int, branches: dict) -> dict:
    """Each partial sweep goes on to every value of the next block."""
    result: dict[bytes, tuple[tuple[Array, ...], float]] = {}
    for blocks, probability in branches.values():
        conditional = density.conditional(block, blocks)
        values = enumerate_states(conditional.space)
        weights = np.exp(np.asarray(jax.vmap(conditional.log_prob)(values), np.float64))
        for value, weight in zip(values, weights, strict=True):
            new = (*blocks[:block], value.astype(blocks[block].dtype), *blocks[block + 1 :])
            name = b"".join(np.asarray(part).tobytes() for part in new)
            result[name] = (new, result.get(name, (new, 0.0))[1] + probability * weight)
    return result
