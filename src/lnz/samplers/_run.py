from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractBlockDensity, AbstractDensity, AbstractDistribution, AbstractSampler
from ._fitting import advice_on_sampler, fitting_sampler
from ._gibbs import Gibbs
from ._hmc import HMC
from ._in_turn import InTurn
from ._metropolis import Metropolis

# How often the start of a chain is drawn again where the density is zero.
_NUM_REDRAWS = 100


def default_sampler(density: AbstractDensity) -> AbstractSampler:
    """`Gibbs()` where blocks can be drawn, `HMC()` on continuous spaces, `Metropolis()` on discrete ones.

    On spaces with variables of both kinds it is `InTurn()`.

    **Raises:** `TypeError` for other densities; the message names the argument to pass.
    """
    if isinstance(density, AbstractBlockDensity):
        return Gibbs()
    name = fitting_sampler(density.space)
    if name is None:
        raise TypeError(advice_on_sampler(density.space))
    return {"Metropolis": Metropolis, "HMC": HMC, "InTurn": InTurn}[name]()


def possible_positions(
    key: PRNGKeyArray, density: AbstractDensity, num: int, start: AbstractDistribution | None = None
) -> Array:
    """Positions `[num, ...]` to start chains from: draws of `start`, or of the start of the density's path.

    Draws where the density is zero or NaN are repeated up to 100 times; after that, a chain may still start there.
    """
    start = density.path().start if start is None else start

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


def start_chains(key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array) -> Any:
    """The states of chains at `positions [num, ...]`."""
    return jax.vmap(lambda k, x: sampler.init(k, density, x))(jr.split(key, len(positions)), positions)


def chain_step(
    key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, states: Any
) -> tuple[Any, dict[str, Array]]:
    """One step of every chain."""
    keys = jr.split(key, len(states.position))
    return jax.vmap(lambda k, state: sampler.step(k, density, state))(keys, states)
