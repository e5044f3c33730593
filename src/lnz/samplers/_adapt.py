"""Adapts the step size of `HMC` to the acceptance of chains."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractDensity, AbstractPath, AbstractSampler, ReversedPath
from ..modules import replace
from ..spaces import has_circles
from ._hmc import HMC
from ._in_turn import InTurn
from ._run import chain_step, start_chains

_ACCEPTANCE = 0.8
_JITTER = 0.5
# The pilot run along a path: number of chains; least number of moves at the start and along the path; change of the log
# step size for each unit of acceptance, at the start and along the path.
_NUM_PILOT, _NUM_START, _NUM_MOVES, _FIRST_GAIN, _GAIN = 8, 60, 300, 1.5, 0.3


def waits_for_step_size(sampler: AbstractSampler) -> bool:
    """Whether the step size of `sampler` is to be adapted."""
    if isinstance(sampler, InTurn):
        return waits_for_step_size(sampler.continuous)
    return isinstance(sampler, HMC) and sampler.step_size is None


def adapt_step_size(
    key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array, num_steps: int
) -> tuple[AbstractSampler, Array]:
    """`sampler` with the step size at which chains from `positions [num, ...]` accept 0.8 of their moves on average.

    Dual averaging of one log step size in `num_steps` moves, by the mean acceptance of the chains where the density is
    not zero. Also returns the last positions of the chains. Take draws from later moves: these moves depend on the past
    of the chains. A sampler without a free step size is returned as it is, and its chains do not move.

    Source: Hoffman and Gelman (2014), section 3.2.1; arXiv:1111.4246.
    """
    if not waits_for_step_size(sampler) or num_steps < 1:
        return sampler, positions
    key_start, key_steps = jr.split(key)
    states = start_chains(key_start, density, sampler, positions)
    first = _first_log_step_size(density, states.log_density)

    def step(carry, inputs):
        states, log_step_size, shortfall, average = carry
        key, t = inputs
        moved, info = chain_step(key, density, with_step_size(sampler, log_step_size), states)
        shortfall = shortfall + (_ACCEPTANCE - _mean_acceptance(info, states) - shortfall) / (t + 10)
        log_step_size = jnp.minimum(first - jnp.sqrt(t) / 0.05 * shortfall, _most(density))
        average = average + t**-0.75 * (log_step_size - average)
        return (moved, log_step_size, shortfall, average), None

    times = jnp.arange(1, num_steps + 1, dtype=first.dtype)
    carry = (states, first, jnp.zeros_like(first), first)
    (states, _, _, average), _ = jax.lax.scan(step, carry, (jr.split(key_steps, num_steps), times))
    return with_step_size(sampler, average), states.position


def samplers_along(
    key: PRNGKeyArray,
    path: AbstractPath,
    betas: Float[Array, " temperatures"],
    sampler: AbstractSampler,
) -> Callable[[Int[Array, ""]], AbstractSampler]:
    """The sampler of each inner temperature: `samplers_along(...)(i)` moves chains at `betas[i + 1]`.

    A free step size is set by a pilot run of 8 chains of its own, which anneal from draws of the path's start. At each
    temperature the step size follows their mean acceptance, towards 0.8. The weights of other chains stay valid: these
    moves are fixed before those chains run and do not depend on them. Both directions of a path get the same moves from
    the same key.
    """
    if not waits_for_step_size(sampler) or len(betas) < 3:
        return lambda index: sampler
    if isinstance(path, ReversedPath):
        forward = samplers_along(key, path.path, 1 - betas[::-1], sampler)
        return lambda index: forward(len(betas) - 3 - index)
    key_draw, key_start, key_steps = jr.split(key, 3)
    positions = path.start.sample(key_draw, (_NUM_PILOT,))
    states = start_chains(key_start, path.at(betas[0]), sampler, positions)
    num_moves = math.ceil(_NUM_MOVES / (len(betas) - 2))
    # First the start itself, of any width, then each temperature in turn.
    num_start = math.ceil(_NUM_START / num_moves)
    visited = jnp.concatenate([jnp.broadcast_to(betas[:1], (num_start,)), betas[1:-1]])
    gains = jnp.where(jnp.arange(len(visited)) < num_start, _FIRST_GAIN, _GAIN).astype(states.log_density.dtype)

    def follow(carry, inputs):
        key, beta, gain = inputs
        density = path.at(beta)

        def move(carry, key):
            states, log_step_size = carry
            moved, info = chain_step(key, density, with_step_size(sampler, log_step_size), states)
            log_step_size = log_step_size + gain * (_mean_acceptance(info, states) - _ACCEPTANCE)
            return (moved, jnp.minimum(log_step_size, _most(density))), None

        states, log_step_size = carry
        states = jax.vmap(lambda state: sampler.refresh(density, state))(states)
        carry, _ = jax.lax.scan(move, (states, log_step_size), jr.split(key, num_moves))
        return carry, carry[1]

    carry = (states, _first_log_step_size(path.start, states.log_density))
    _, log_step_sizes = jax.lax.scan(follow, carry, (jr.split(key_steps, len(visited)), visited, gains))
    return lambda index: with_step_size(sampler, log_step_sizes[num_start + index])


def _mean_acceptance(info, states) -> Float[Array, ""]:
    """The mean over chains whose density is not zero, since others walk freely at any step size; 0.8 without any."""
    inside = states.log_density > -jnp.inf
    return jnp.where(jnp.any(inside), jnp.mean(info["acceptance"], where=inside), _ACCEPTANCE)


def followed_step_size(
    density: AbstractDensity, log_step_size: Float[Array, ""], acceptance: Float[Array, ""]
) -> Float[Array, ""]:
    """The next log step size after moves with this mean `acceptance`, towards 0.8; it follows a density that drifts."""
    return jnp.minimum(log_step_size + _GAIN * (acceptance - _ACCEPTANCE), _most(density))


def with_step_size(sampler: Any, log_step_size: Float[Array, ""]) -> Any:
    """`sampler`, an `HMC` with a free step size, given this step size, and a jitter of 0.5 unless it has one."""
    if isinstance(sampler, InTurn):
        return replace(sampler, continuous=with_step_size(sampler.continuous, log_step_size))
    jitter = _JITTER if sampler.jitter is None else sampler.jitter
    return replace(sampler, step_size=jnp.exp(log_step_size), jitter=jitter)


def _first_log_step_size(density: AbstractDensity, like: Array) -> Float[Array, ""]:
    """The log step size for a standard normal of as many variables."""
    return jnp.asarray(-0.25 * math.log(max(1, density.space.dimension)), like.dtype)


def _most(density: AbstractDensity) -> float:
    """The largest log step size: half a turn where there are circles, since flat densities there accept any step."""
    return math.log(math.pi) if has_circles(density.space) else math.inf
