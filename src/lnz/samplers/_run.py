from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractBlockDensity, AbstractDensity, AbstractSampler
from ._gibbs import Gibbs
from ._hmc import HMC
from ._metropolis import Metropolis

# How often the start of a chain is drawn again where the density is zero.
_NUM_REDRAWS = 100


def default_sampler(density: AbstractDensity) -> AbstractSampler:
    """`Gibbs()` where blocks can be drawn, `HMC()` on continuous spaces, `Metropolis()` on discrete ones.

    **Raises:** `TypeError` for other densities, naming what to pass.
    """
    if isinstance(density, AbstractBlockDensity):
        return Gibbs()
    if density.space.propose is not None and density.space.size > 0:  # no variables at all cannot be moved
        return Metropolis()
    if density.space.unbounded is not None:
        return HMC()
    raise TypeError(
        f"No sampler fits {type(density).__name__} on {density.space} without being told: pass `sampler=...`."
    )


def possible_positions(key: PRNGKeyArray, density: AbstractDensity, num: int) -> Array:
    """Draws of the start of the density's path to start chains from, `[num, ...]`.

    Those where the density is zero or NaN are drawn again, up to 100 times: so a chain may still start there.
    """
    start = density.path().start

    def draw(key):
        positions = start.sample(key, (num,))
        return positions, jax.vmap(density.log_density)(positions) > -jnp.inf

    def redraw(carry):
        number, positions, possible = carry
        again, possible_again = draw(jr.fold_in(key, number))
        keep = possible.reshape(-1, *(1,) * (positions.ndim - 1))
        return number + 1, jnp.where(keep, positions, again), possible | possible_again

    def is_wanting(carry):
        number, _, possible = carry
        return (number < _NUM_REDRAWS) & ~jnp.all(possible)

    return jax.lax.while_loop(is_wanting, redraw, (jnp.asarray(0), *draw(key)))[1]


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
    key_init, key_steps = jr.split(key)
    states = start_chains(key_init, density, sampler, positions)

    def step(states, key):
        states, info = chain_step(key, density, sampler, states)
        return states, (record(states), info)

    return jax.lax.scan(step, states, jr.split(key_steps, num_steps))


def start_chains(key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array) -> Any:
    """The states of chains at `positions [num, ...]`."""
    return jax.vmap(lambda k, x: sampler.init(k, density, x))(jr.split(key, len(positions)), positions)


def chain_step(
    key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, states: Any
) -> tuple[Any, dict[str, Array]]:
    """One step of every chain."""
    keys = jr.split(key, len(states.position))
    return jax.vmap(lambda k, state: sampler.step(k, density, state))(keys, states)
