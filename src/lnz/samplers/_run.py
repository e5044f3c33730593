from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from .._algorithm import AbstractSampler
from .._density import AbstractBlockDensity, AbstractDensity
from .._space import Euclidean
from ._gibbs import Gibbs
from ._hmc import HMC


def default_sampler(density: AbstractDensity) -> AbstractSampler:
    """`Gibbs()` where blocks can be drawn, `HMC()` on Euclidean spaces.

    **Raises:** `TypeError` for other densities, naming what to pass.
    """
    if isinstance(density, AbstractBlockDensity):
        return Gibbs()
    if isinstance(density.space, Euclidean):
        return HMC()
    raise TypeError(
        f"No sampler fits {type(density).__name__} on {density.space} without being told: pass `sampler=...`."
    )


def run_chains(
    key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array, num_steps: int
) -> tuple[Array, dict[str, Any]]:
    """Advance independent chains from `positions [num, ...]`; returns the last positions and mean diagnostics.

    Diagnostics are averaged over chains and steps; one that is an array for each chain stays an array.
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

    Record what is to be watched, such as `density.log_density`, rather than every position: see
    `autocorrelation_time`.
    """
    return _scan(key, density, sampler, positions, num_steps, lambda states: jax.vmap(record)(states.position))[1]


def _scan(key, density, sampler, positions, num_steps, record):
    num = positions.shape[0]
    key_init, key_steps = jr.split(key)
    states = jax.vmap(lambda k, x: sampler.init(k, density, x))(jr.split(key_init, num), positions)

    def step(states, key):
        states, info = jax.vmap(lambda k, s: sampler.step(k, density, s))(jr.split(key, num), states)
        return states, (record(states), info)

    return jax.lax.scan(step, states, jr.split(key_steps, num_steps))
