"""Laws of block conditionals, exactly."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from .._density import AbstractBlockDensity
from ._densities import enumerate_states
from ._require import eps, require, require_close


def check_conditionals(density: AbstractBlockDensity) -> None:
    """Every block conditional equals the one found by enumerating the joint of all blocks, and `pi P = pi`.

    Where no block is auxiliary the joint is the density itself. An auxiliary first block is summed out of the density,
    so the joint is the density times that block's conditional, and the conditionals of all others are held to it.
    A conditional must not depend on the present value of its own block. Given what cannot be, as of units held at other
    values, nothing is asked of it.
    """
    tables, joint = _enumerate_blocks(density)
    tolerance = max(1e-10, 200 * eps()) * (1 + float(np.max(np.abs(joint), where=np.isfinite(joint), initial=0)))
    for block in range(density.num_blocks):
        total = logsumexp(joint, axis=block, keepdims=True)
        enumerated = joint - total
        is_possible = np.broadcast_to(np.isfinite(total), joint.shape)
        law = f"conditional of block {block} equals the enumerated one"
        for present in (None, 0, -1):  # its own value: the one that is scored, and two others
            given = _log_conditional(density, tables, block, present)
            law_of_value = law if present is None else f"{law}, whatever its own value"
            never = np.isneginf(enumerated)
            require(np.all((np.isneginf(given) == never)[is_possible]), f"{law_of_value}: other values are impossible.")
            require_close(given[is_possible & ~never], enumerated[is_possible & ~never], tolerance, law_of_value)
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
        joint = joint + _log_conditional(density, tables, 0, None)
    return tables, joint


def _log_conditional(
    density: AbstractBlockDensity, tables: list[Array], block: int, present: int | None
) -> Float[Array, "..."]:
    """log p(block | others) of every combination of values, told the row `present` of its table as its own value."""

    def log_conditional(*blocks):
        own = blocks[block] if present is None else tables[block][present]
        told = (*blocks[:block], own, *blocks[block + 1 :])
        return density.conditional(block, told).log_prob(blocks[block])

    return _over_blocks(tables, log_conditional)


def _over_blocks(tables: list[Array], function: Callable) -> Any:
    """`function` of every combination of block values, with one axis for each block."""
    for axis in reversed(range(len(tables))):
        function = jax.vmap(function, in_axes=[0 if i == axis else None for i in range(len(tables))])
    return jax.jit(function)(*tables)


def gibbs_transition_matrix(density: AbstractBlockDensity) -> tuple[Array, np.ndarray]:
    """`(states [n, ...], P [n, n])` of one sweep over all blocks, exactly, from the conditionals' probabilities."""
    states = enumerate_states(density.space)
    tables, _ = _enumerate_blocks(density)
    shape = tuple(len(table) for table in tables)
    start = jax.vmap(density.split)(states)
    # [n, *values of each block]: the distribution of all blocks after a part of the sweep, from each state.
    p = np.zeros((len(states), *shape))
    p[(np.arange(len(states)), *(_rows_of(x, table) for x, table in zip(start, tables, strict=True)))] = 1
    for block in range(density.num_blocks):
        conditional = np.exp(np.asarray(_log_conditional(density, tables, block, None), np.float64))
        p = p.sum(axis=1 + block, keepdims=True) * conditional
    ends = np.asarray(_over_blocks(tables, lambda *blocks: density.join(blocks))).reshape(-1, *states.shape[1:])
    kernel = np.zeros((len(states), len(states)))
    np.add.at(kernel.T, _rows_of(ends, states), p.reshape(len(states), -1).T)
    return states, kernel


def _rows_of(x: Any, table: Array) -> np.ndarray:
    """Which row of a table each example is."""
    index = {np.asarray(row).tobytes(): i for i, row in enumerate(np.asarray(table))}
    return np.array([index[row.tobytes()] for row in np.asarray(x).astype(table.dtype)])
