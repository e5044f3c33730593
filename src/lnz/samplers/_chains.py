"""Independent chains of one sampler."""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractDensity, AbstractSampler
from ._adapt import adapt_step_size, waits_for_step_size
from ._run import chain_step, start_chains

_LEAST_MOVES, _MOST_MOVES = 50, 500  # of the chains that set a step size


def run_chains(
    key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array, num_steps: int
) -> tuple[Array, dict[str, Any]]:
    """Advance independent chains from `positions [num, ...]`; returns the last positions and mean diagnostics.

    Diagnostics are averaged over chains and steps; a diagnostic that is an array for each chain stays an array.

    If the step size of `HMC` is free, other chains from the same positions first adapt it to a mean acceptance of 0.8,
    in half of `num_steps` moves (at least 50, at most 500). Then it is fixed.
    """
    states, info = _scan(key, density, sampler, positions, num_steps, lambda states: ())
    return states.position, jax.tree.map(lambda a: a.mean(axis=(0, 1)), info[1])


def trace_chains(
    key: PRNGKeyArray,
    density: AbstractDensity,
    sampler: AbstractSampler,
    positions: Array,
    num_steps: int,
    record: Callable[[Array], Any],
) -> tuple[Any, dict[str, Any]]:
    """`record(position)` of every chain after every step, `[num_steps, num, ...]`, and all diagnostics.

    Record the quantity to watch, such as `density.log_density`, rather than every position: see `autocorrelation_time`.
    A free step size is adapted as by `run_chains`.
    """
    return _scan(key, density, sampler, positions, num_steps, lambda states: jax.vmap(record)(states.position))[1]


def _scan(key, density, sampler, positions, num_steps, record):
    if waits_for_step_size(sampler):
        key, key_adapt = jr.split(key)
        num_moves = min(max(num_steps // 2, _LEAST_MOVES), _MOST_MOVES)
        sampler, _ = adapt_step_size(key_adapt, density, sampler, positions, num_moves)
    key_init, key_steps = jr.split(key)
    states = start_chains(key_init, density, sampler, positions)

    def step(states, key):
        states, info = chain_step(key, density, sampler, states)
        return states, (record(states), info)

    return jax.lax.scan(step, states, jr.split(key_steps, num_steps))
