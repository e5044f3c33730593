from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractDensity,
    AbstractPath,
    AbstractSampler,
    PathChoice,
    as_betas,
    check_betas,
    check_path,
    check_sampler,
    resolve_path,
)
from ..modules import is_false
from ._adapt import samplers_along, waits_for_step_size, with_step_size
from ._run import default_sampler, possible_positions


class TemperedState(eqx.Module):
    """Chains at all temperatures, the start (beta = 0) first.

    - `log_step_sizes`: for all temperatures but the start, if the step size of the sampler is free.
    - `came_from`: the end of the path that the walker at each temperature saw last: 1 the start, -1 the target after
      the start, 0 neither yet.
    - `num_round_trips`: how many walkers came back to the start.
    """

    chains: Any
    log_step_sizes: Float[Array, " moved"] | None
    num_steps: Int[Array, ""]
    came_from: Int[Array, " temperatures"]
    num_round_trips: Int[Array, ""]
    position: Array  # of the last chain; not a property, which would take the last of a batch of states


class ParallelTempering(AbstractSampler):
    """Chains at all temperatures of a path that exchange places: for targets whose modes lie far apart.

    Each step draws the chain at `beta = 0` anew, exactly, moves every other chain by `sampler` at its own temperature,
    and then exchanges neighbours at `beta_i` and `beta_{i+1}` with probability

        min(1, exp(r(x_i) - r(x_{i+1}))),  r(x) = log p~_{beta_{i+1}}(x) - log p~_{beta_i}(x),

    for even i in one step and odd i in the next. The product of all tempered densities stays invariant; `position` is
    the chain at the target. Fresh draws reach it only by going all the way: trust it after several round trips,
    `info["round_trips"]`.

    **Arguments:**

    - `betas`: number of evenly spaced intervals, or an increasing array from 0 to 1; see `step`.
    - `sampler`: moves one chain; by default that of `AIS`.
    - `path`: a path to the density, or a function from the density to one; by default the density's own.

    **Raises:** `ValueError` for temperatures that do not increase from 0 to 1; `TypeError` for another sampler or path.

    Source: Swendsen and Wang (1986), equation 4; alternation, Okabe, Kawata, Okamoto and Mikami (2001); round trips,
    Katzgraber, Trebst, Huse and Troyer (2006), section 2.
    """

    betas: Float[Array, " temperatures"] | int
    sampler: AbstractSampler | None
    path: PathChoice

    def __init__(self, betas: int | Array = 10, sampler: AbstractSampler | None = None, path: PathChoice = None):
        self.betas = check_betas(betas, "ParallelTempering")
        self.sampler = check_sampler(sampler, "ParallelTempering")
        self.path = check_path(path, "ParallelTempering")

    def __check_init__(self):  # also for models read from a file
        betas = check_betas(self.betas, "ParallelTempering")
        if not isinstance(betas, int) and is_false(jnp.all(jnp.diff(betas) > 0)):
            raise ValueError("`ParallelTempering(betas=...)` must not have the same temperature twice.")
        if isinstance(self.sampler, ParallelTempering):
            raise TypeError("`ParallelTempering(sampler=...)` moves one chain: give it a sampler such as `Gibbs()`.")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> TemperedState:
        """The target's chain at `position`, and all others at draws of the path's start.

        Where the target's density is zero, it is zero at every temperature but the start. Draws there are repeated, up
        to 100 times; chains that are still there start at `position`.

        A free step size of `HMC` is set here for each temperature, to a mean acceptance of 0.8, by the pilot run of
        `AIS`. It stays fixed from then on, also while a model is trained.
        """
        path, betas, sampler = self._resolve(density)
        num = len(betas)
        key_start, key_init = jr.split(key)
        others = possible_positions(key_start, density, num - 1, path.start)
        possible = jax.vmap(density.log_density)(others) > -jnp.inf
        others = jnp.where(possible.reshape(-1, *(1,) * position.ndim), others, position[None].astype(others.dtype))
        positions = jnp.concatenate([others, position[None].astype(others.dtype)])
        chains = jax.vmap(lambda k, beta, x: sampler.init(k, path.at(beta), x))(
            jr.split(key_init, num), betas, positions
        )
        came_from = jnp.zeros(num, jnp.int32).at[0].set(1)
        zero = jnp.zeros((), jnp.int32)
        return TemperedState(chains, self._log_step_sizes(key, path, betas), zero, came_from, zero, positions[-1])

    def _log_step_sizes(
        self, key: PRNGKeyArray, path: AbstractPath, betas: Float[Array, " temperatures"]
    ) -> Float[Array, " moved"] | None:
        sampler = default_sampler(path.at(1.0)) if self.sampler is None else self.sampler
        if not waits_for_step_size(sampler):
            return None
        # A pilot run sets the step sizes of inner temperatures. With the target twice, it also sets the target's.
        key_pilot = jr.fold_in(key, 2**31 - 7)  # far from the numbers of `jr.split(key)`
        sampler_at: Any = samplers_along(key_pilot, path, jnp.append(betas, betas[-1]), sampler)
        return jax.vmap(lambda index: jnp.log(sampler_at(index).step_size))(jnp.arange(len(betas) - 1))

    def refresh(self, density: AbstractDensity, state: TemperedState) -> TemperedState:
        return state  # `step` refreshes every chain, which an exchange has made stale anyway

    def step(
        self, key: PRNGKeyArray, density: AbstractDensity, state: TemperedState
    ) -> tuple[TemperedState, dict[str, Array]]:
        """`info["swap_acceptance"]` has the probability of exchange of each neighbouring pair.

        Space the temperatures so that all are alike, for instance by `lnz.normalizers.adapted_betas`.
        """
        path, betas, sampler = self._resolve(density)
        key_start, key_init, key_move, key_swap = jr.split(key, 4)
        fresh = sampler.init(key_init, path.at(betas[0]), path.start.sample(key_start))

        def move(key, beta, chain, log_step_size):
            density = path.at(beta)
            mover = sampler if log_step_size is None else with_step_size(sampler, log_step_size)
            return mover.step(key, density, mover.refresh(density, chain))[0]

        rest = jax.tree.map(lambda a: a[1:], state.chains)
        moved = jax.vmap(move)(jr.split(key_move, len(betas) - 1), betas[1:], rest, state.log_step_sizes)
        chains = jax.tree.map(lambda one, others: jnp.concatenate([one[None], others]), fresh, moved)
        source, acceptance = _exchange(key_swap, path, betas, chains.position, state.num_steps % 2)
        chains, came_from = jax.tree.map(lambda a: a[source], (chains, state.came_from))
        has_returned = came_from[0] == -1
        # Only a walker that has been at the start can be on its way back from the target.
        came_from = came_from.at[0].set(1).at[-1].set(jnp.where(came_from[-1] == 1, -1, came_from[-1]))
        trips = has_returned.astype(jnp.int32)
        num_round_trips = state.num_round_trips + trips
        state = TemperedState(
            chains, state.log_step_sizes, state.num_steps + 1, came_from, num_round_trips, chains.position[-1]
        )
        return state, {"swap_acceptance": acceptance, "round_trips": trips}

    def _resolve(self, density: AbstractDensity) -> tuple[AbstractPath, Float[Array, " temperatures"], AbstractSampler]:
        path = resolve_path(self.path, density)
        sampler = default_sampler(path.at(1.0)) if self.sampler is None else self.sampler
        return path, as_betas(self.betas, density), sampler


def _exchange(
    key: PRNGKeyArray, path: AbstractPath, betas: Float[Array, " temperatures"], x: Array, parity: Int[Array, ""]
) -> tuple[Int[Array, " temperatures"], Float[Array, " temperatures-1"]]:
    """The temperature from which each walker comes, and the probability of exchange of each neighbouring pair."""
    ratio = jax.vmap(path.log_ratio)
    low = ratio(betas[:-1], betas[1:], x[:-1])
    high = ratio(betas[:-1], betas[1:], x[1:])
    log_accept = low - high
    log_accept = jnp.where(jnp.isnan(log_accept), -jnp.inf, log_accept)
    acceptance = jnp.exp(jnp.minimum(log_accept, 0))
    pairs = jnp.arange(len(betas) - 1, dtype=jnp.int32)
    uniform = jr.uniform(key, acceptance.shape, acceptance.dtype)
    swapped = ((pairs % 2 == parity) & (uniform < acceptance)).astype(jnp.int32)
    zero = jnp.zeros(1, jnp.int32)
    here = jnp.arange(len(betas), dtype=jnp.int32)
    return here + jnp.concatenate([swapped, zero]) - jnp.concatenate([zero, swapped]), acceptance
