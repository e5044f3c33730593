"""Laws of block conditionals, checked exactly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..core import AbstractBlockDensity
from ._densities import enumerate_states
from ._require import eps, require, require_close


def check_conditionals(density: AbstractBlockDensity) -> None:
    """Checks every block conditional against enumeration of the joint of all blocks, and that `pi P = pi`.

    Without auxiliary blocks, the joint is the density itself. An auxiliary first block is summed out of the density;
    the joint is then the density times that block's conditional, and all other conditionals are compared with it. A
    conditional must not depend on the present value of its own block. Conditionals given impossible values, such as
    units held at other values, are not checked.
    """
    found = _enumerate(density)
    joint = np.asarray(found.joint)
    tolerance = max(1e-10, 200 * eps()) * (1 + float(np.max(np.abs(joint), where=np.isfinite(joint), initial=0)))
    for block in range(density.num_blocks):
        enumerated = np.asarray(found.enumerated[block])
        is_possible = np.broadcast_to(np.isfinite(found.totals[block]), joint.shape)
        law = f"conditional of block {block} equals the enumerated one"
        for present, given in zip(_PRESENT, found.conditionals[block], strict=True):
            given = np.asarray(given)
            law_of_value = law if present is None else f"{law}, whatever its own value"
            never = np.isneginf(enumerated)
            require(
                np.all((np.isneginf(given) == never)[is_possible]), f"{law_of_value}: the impossible values differ."
            )
            require_close(given[is_possible & ~never], enumerated[is_possible & ~never], tolerance, law_of_value)
    _, kernel = gibbs_transition_matrix(density)
    p = np.asarray(found.p, np.float64)
    tolerance = max(1e-10, 100 * eps())
    require_close(kernel.sum(axis=1), np.ones(len(p)), tolerance, "conditionals sum to one")
    require_close(p @ kernel, p, tolerance, "a Gibbs sweep leaves the density invariant (pi P = pi)")


# The own value passed to a conditional: the one that is scored, and two others.
_PRESENT = (None, 0, -1)


class _Enumerated(NamedTuple):
    """A density, enumerated.

    - `states`, `p`: its points and their probabilities.
    - `tables`, `starts`, `ends`: all values of each block, the blocks of each point, and the point of each combination.
    - `joint`, `totals`: the log joint of all blocks with one axis for each, and its sum over each of them.
    - `enumerated`: their differences, the log conditionals that follow from the joint.
    - `conditionals`: the log conditional that the density states for each block, for each value in `_PRESENT`.
    """

    states: Array
    p: Array
    tables: list[Array]
    starts: tuple[Array, ...]
    ends: Array
    joint: Array
    totals: list[Array]
    enumerated: list[Array]
    conditionals: list[list[Array]]


@eqx.filter_jit
def _enumerate(density: AbstractBlockDensity) -> _Enumerated:
    """Enumerates in one program, compiled once for all callers."""
    states = enumerate_states(density.space)
    log_p = jax.vmap(density.log_density)(states)
    blocks = density.split(states[0])
    num = density.num_blocks
    tables = [enumerate_states(density.conditional(i, blocks).space).astype(blocks[i].dtype) for i in range(num)]
    joint = _over_blocks(tables, lambda *blocks: density.log_density(density.join(blocks)))
    conditionals = [[_log_conditional(density, tables, i, present) for present in _PRESENT] for i in range(num)]
    if joint.size > (density.space.num_points or 0):  # the first block is auxiliary
        joint = joint + conditionals[0][0]
    totals = [logsumexp(joint, axis=i, keepdims=True) for i in range(num)]
    return _Enumerated(
        states,
        jnp.exp(log_p - logsumexp(log_p)),
        tables,
        tuple(jax.vmap(density.split)(states)),
        _over_blocks(tables, lambda *blocks: density.join(blocks)),
        joint,
        totals,
        [joint - total for total in totals],
        conditionals,
    )


def _log_conditional(
    density: AbstractBlockDensity, tables: list[Array], block: int, present: int | None
) -> Float[Array, "..."]:
    """`log p(block | others)` for every combination of values, given row `present` of its table as its own value."""

    def log_conditional(*blocks):
        own = blocks[block] if present is None else tables[block][present]
        told = (*blocks[:block], own, *blocks[block + 1 :])
        return density.conditional(block, told).log_prob(blocks[block])

    return _over_blocks(tables, log_conditional)


def _over_blocks(tables: list[Array], function: Callable) -> Any:
    """`function` applied to every combination of block values, with one axis for each block."""
    for axis in reversed(range(len(tables))):
        function = jax.vmap(function, in_axes=[0 if i == axis else None for i in range(len(tables))])
    return function(*tables)


def gibbs_transition_matrix(density: AbstractBlockDensity) -> tuple[Array, np.ndarray]:
    """`(states [n, ...], P [n, n])` of one sweep over all blocks, exactly, from the conditionals' probabilities."""
    found = _enumerate(density)
    states, tables, start = found.states, found.tables, found.starts
    shape = tuple(len(table) for table in tables)
    # [n, *values of each block]: the distribution of all blocks after a part of the sweep, from each state.
    p = np.zeros((len(states), *shape))
    p[(np.arange(len(states)), *(_rows_of(x, table) for x, table in zip(start, tables, strict=True)))] = 1
    for block in range(density.num_blocks):
        conditional = np.exp(np.asarray(found.conditionals[block][0], np.float64))
        p = p.sum(axis=1 + block, keepdims=True) * conditional
    ends = np.asarray(found.ends).reshape(-1, *states.shape[1:])
    kernel = np.zeros((len(states), len(states)))
    np.add.at(kernel.T, _rows_of(ends, states), p.reshape(len(states), -1).T)
    return states, kernel


def _rows_of(x: Any, table: Array) -> np.ndarray:
    """The row of the table that each example equals."""
    index = {np.asarray(row).tobytes(): i for i, row in enumerate(np.asarray(table))}
    return np.array([index[row.tobytes()] for row in np.asarray(x).astype(table.dtype)])
