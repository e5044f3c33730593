"""The verb of draws."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray

from .. import samplers
from ..core import (
    AbstractBayesianModel,
    AbstractBlockDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractModel,
    AbstractSampler,
    coarse_draws,
    local,
)
from ..data import known_entries
from ..modules import as_numbers, check_key, check_positive, check_same_columns, model_dtype

_LOW_ACCEPTANCE = 0.1
# In standard deviations of a test: by chance once in 26 million for each variable.
_MOVED_ON = 5.5
# How many standard deviations of a correlation one row may make.
_SHARE_OF_ONE = 0.1


class UnreliableSampleWarning(UserWarning):
    """The chains behind a sample hardly moved or still move on, or draws are not finite, impossible or lost digits."""


def sample(
    key: PRNGKeyArray,
    model: Any,
    num: int,
    *,
    num_steps: int = 1000,
    sampler: AbstractSampler | None = None,
    start: Any = None,
    clamp: tuple[Any, Any] | None = None,
) -> Array | np.ndarray:
    """`num` draws from `model`, `[num, *model.space.shape]`.

    Those of a model whose last layer is `lnz.flows.standardise(data)` are a NumPy array of float64, which keeps the
    digits of columns that lie far from zero (`lnz.local`).

    Distributions and latent-variable models are sampled exactly, ancestrally. For other densities, and the latents of a
    model whose prior is one, each draw is the end of a chain of its own: `num_steps` steps of `sampler` from `start`,
    or from the start of the density's path. Such draws are only as good as the chain's mixing.

    **Arguments:**

    - `num_steps`: sampler steps a chain, an even number of them after the step size is adapted; not used by exact
      samplers. With hundreds of chains, a warning says if they have not forgotten where they started or still move on.
    - `sampler`: by default `Gibbs()` where blocks can be drawn, `HMC()` on other continuous spaces and `Metropolis()`
      on other discrete ones. A free step size of `HMC` is adapted in the first half of the steps, to a mean acceptance
      of 0.8 over all chains, and then fixed.
    - `start`: positions to start from `[num, ...]`.
    - `clamp`: `(values, mask)`: entries where `mask` is true are held at `values`, each of the shape of one example or
      `[num, ...]`, and the others drawn given them. For Boltzmann machines.

    Chains start where the density is not zero, if one of 100 draws of the start is there. An `UnreliableSampleWarning`
    says which draws are not finite, which ends of chains have probability zero, and when chains hardly moved. It
    names a column whose draws the number type of the model rounds: far from zero without `lnz.flows.standardise`, or at
    an end of the space.

    **Raises:** `ValueError` if all ends of chains have probability zero.
    """
    draws = _draw(key, model, num, num_steps, sampler, start, clamp)
    if not isinstance(draws, Tracer):
        _warn_of_faults(np.asarray(draws), model)
        _warn_of_rounding(np.asarray(draws), model, clamp)
    return draws


def _warn_of_rounding(draws: np.ndarray, model: Any, clamp: tuple[Any, Any] | None) -> None:
    drawn = draws if clamp is None else np.where(np.asarray(clamp[1], bool), np.nan, draws)
    coarse = coarse_draws(model.space, drawn, local(model))
    if coarse is not None:
        warnings.warn(f"sample: the draws are rounded: {coarse}", UnreliableSampleWarning, stacklevel=3)


def _warn_of_faults(draws: np.ndarray, model: Any) -> None:
    bad = np.flatnonzero(~np.isfinite(draws).all(axis=tuple(range(1, draws.ndim))))
    if len(bad):
        parameters = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))]
        advice = (
            "There are NaN or infinity among the parameters of the model"
            if not all(np.isfinite(parameter).all() for parameter in parameters)
            else "The parameters of the model are finite: numbers too large for their type were met on the way. Use "
            "float64, data in other units, or a smaller `step_size` of chains"
        )
        warnings.warn(
            f"sample: {len(bad)} of {len(draws)} draws are not finite, first row {bad[0]}. {advice}.",
            UnreliableSampleWarning,
            stacklevel=3,
        )


def _check_possible(model: Any, log_densities: Array) -> None:
    """That chains have ended where the density of `model` is a number, and not zero."""
    if isinstance(log_densities, Tracer):
        return
    log_p = np.asarray(log_densities)
    num, name = len(log_p), type(model).__name__
    zeros, unknown = np.flatnonzero(log_p == -np.inf), np.flatnonzero(np.isnan(log_p))
    advice = "Pass `start=`: for each draw a position where the density is not zero"
    if len(zeros) == num:
        raise ValueError(
            f"`sample`: all {num} draws have probability zero under the {name}, for no chain has found a place where "
            f"its density is not. {advice}."
        )
    if len(zeros):
        warnings.warn(
            f"sample: {len(zeros)} of {num} draws have probability zero under the {name}, first row {zeros[0]}: their "
            f"chains started where the density is zero and have not left. {advice}, or use more `num_steps`.",
            UnreliableSampleWarning,
            stacklevel=4,
        )
    if len(unknown):
        warnings.warn(
            f"sample: the {name} has a log-density of NaN at {len(unknown)} of {num} draws, first row {unknown[0]}. "
            f"{advice} or NaN, and look at what its `log_density` does there.",
            UnreliableSampleWarning,
            stacklevel=4,
        )


def _check_settled(start: Array, halfway: Array, end: Array) -> None:
    """That chains have left their starts behind, and did not move on in the second half of their steps.

    Where chains have forgotten their starts, the two are uncorrelated over chains. Two places of a chain that has
    settled come in either order equally often, and so do its distances from the middle: a sign test for each variable.
    """
    if isinstance(end, Tracer):
        return
    first, before, after = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (start, halfway, end))
    num, middle = len(after), np.median(np.concatenate([before, after]), axis=0)
    one, other = _bounded(first), _bounded(after)
    memory = np.mean(one * other, axis=0)
    # Of rare values a few coincidences make a correlation: only where no row counts for much is it nearly normal.
    largest = np.max(np.abs(one), axis=0) * np.max(np.abs(other), axis=0)
    _tell_unsettled(
        np.where(largest < _SHARE_OF_ONE * math.sqrt(num), memory * math.sqrt(num), 0),
        lambda worst: f"still depend on where their chains started, with a correlation of {memory[worst]:.2g}",
    )
    for name, change in (("place", after - before), ("spread", np.abs(after - middle) - np.abs(before - middle))):
        up, down = np.sum(change > 0, axis=0), np.sum(change < 0, axis=0)
        _tell_unsettled(
            (up - down) / np.sqrt(np.maximum(up + down, 1)),
            lambda worst, name=name, up=up, down=down: (
                f"still move on: in the second half of the steps {name} went up in {up[worst]} of {num} chains and "
                f"down in {down[worst]}"
            ),
        )


def _bounded(x: np.ndarray) -> np.ndarray:
    """Columns of mean zero and variance one, in which a few far numbers do not count for more than others."""
    centred = x - np.median(x, axis=0)
    width = np.median(np.abs(centred), axis=0)
    width = np.where(width > 0, width, np.std(x, axis=0))
    y = np.tanh(centred / np.where(width > 0, width, 1))
    y, spread = y - np.mean(y, axis=0), np.std(y, axis=0)
    return y / np.where(spread > 0, spread, np.inf)


def _tell_unsettled(z: np.ndarray, words: Callable[[int], str]) -> None:
    bad = np.flatnonzero(np.abs(z) > _MOVED_ON)
    if len(bad):
        worst = int(np.argmax(np.abs(z)))
        warnings.warn(
            f"sample: draws of {len(bad)} of {len(z)} variables {words(worst)} (variable {worst}). Use more "
            "`num_steps`, or variables of similar scales.",
            UnreliableSampleWarning,
            stacklevel=5,
        )


def _draw(key, model, num, num_steps, sampler, start, clamp) -> Array | np.ndarray:
    key = check_key(key)
    num = check_positive(num, "num")
    check_positive(num_steps, "num_steps")
    if clamp is not None:
        return _sample_clamped(key, model, num, num_steps, sampler, start, clamp)
    if isinstance(model, AbstractDistribution):
        there = local(model)
        return there.back(_sample_exactly(key, there.model, num))
    if isinstance(model, AbstractModel) and model.ancestor is not None:
        key_ancestor, key_x = jr.split(key)
        states = _on_device(model, _draw(key_ancestor, model.ancestor(), num, num_steps, sampler, start, None))
        there = local(model)
        return there.back(_descend(key_x, there.model, states))
    if isinstance(model, AbstractBayesianModel):
        raise TypeError(
            f"`sample`: {type(model).__name__} defines no distribution of data before it has seen any. Sample its "
            "posterior, `lnz.condition(model, data)`."
        )
    if not isinstance(model, AbstractDensity):
        raise TypeError(f"`sample(model=...)` needs a model or a density; got {type(model).__name__}.")
    if sampler is None:
        sampler = samplers.default_sampler(model)
    elif not isinstance(sampler, AbstractSampler):
        raise TypeError(
            f"`sampler` must be a sampler such as `lnz.samplers.Gibbs()`, with its brackets; got {sampler!r}."
        )
    _warn_of_parts(model, sampler)
    if start is not None:
        start = model.space.cast(model.space.check_data(start, "start"), model_dtype(model))
        if len(start) != num:
            raise ValueError(f"`start` must have one row for each of the {num} draws; got {len(start)}.")
    positions, info, log_densities, before = _run(key, model, sampler, start, num, num_steps)
    _check_possible(model, log_densities)
    _check_settled(*before, positions)
    is_metropolis = isinstance(sampler, samplers.Metropolis)  # whose proposals have no size to choose
    least = 0.1 * _LOW_ACCEPTANCE if is_metropolis else _LOW_ACCEPTANCE
    if "acceptance" in info and not float(info["acceptance"]) >= least:
        smaller = "a smaller `step_size`, or more `num_steps` where it is adapted"
        advice = "more `num_steps`" if is_metropolis else smaller
        warnings.warn(
            f"sample: {type(sampler).__name__} accepted only {float(info['acceptance']):.1%} of its proposals, so the "
            f"draws are still near where the chains started. Use {advice}.",
            UnreliableSampleWarning,
            stacklevel=3,
        )
    return positions


def _warn_of_parts(model: AbstractDensity, sampler: AbstractSampler) -> None:
    """Of possible states between which no chain of single variables finds a way."""
    if not isinstance(model, AbstractBlockDensity) or model.not_connected is None:
        return
    reason = model.not_connected() if isinstance(sampler, samplers.Gibbs | samplers.Metropolis) else None
    if reason is not None:
        warnings.warn(
            f"sample: {reason}. So chains of {type(sampler).__name__} may keep the shares of these parts with which "
            "they started. Try `sampler=lnz.samplers.ParallelTempering(10)`, whose walkers are drawn anew.",
            UnreliableSampleWarning,
            stacklevel=4,
        )


def _on_device(model: Any, draws: Array | np.ndarray) -> Array:
    """Draws of a part of `model`, which may be in float64, in its precision."""
    return jnp.asarray(draws, model_dtype(model)) if isinstance(draws, np.ndarray) else draws


def _sample_clamped(key, model, num, num_steps, sampler, start, clamp) -> Array:
    if not isinstance(model, AbstractModel) or model.clamp is None:
        raise TypeError(
            f"`clamp` needs a model whose variables can be held fixed, such as an RBM; got {type(model).__name__}."
        )
    if start is not None:
        raise ValueError("`sample(clamp=..., start=...)`: clamped chains start from the path; leave out `start`.")
    if not (isinstance(clamp, tuple) and len(clamp) == 2):
        raise ValueError(f"`clamp` must be `(values, mask)`; got {clamp!r}.")
    check_same_columns(*clamp, "values", "mask")
    shape = model.space.shape
    pair = []
    for name, part in zip(("values", "mask"), clamp, strict=True):
        array = np.asarray(as_numbers(part, name))
        if array.shape not in (shape, (num, *shape)):
            raise ValueError(f"`clamp`: {name} must have shape {shape} or {(num, *shape)}; got {array.shape}.")
        pair.append(np.broadcast_to(array, (num, *shape)))
    known, mask = known_entries(model.space, pair[0], pair[1], "clamp", "mask")
    known = model.space.cast(known, model_dtype(model))
    draws, log_densities = _run_clamped(key, model, sampler, known, jnp.asarray(mask), num_steps)
    _check_possible(model, log_densities)
    return draws


@eqx.filter_jit
def _run_clamped(key, model, sampler, values, mask, num_steps):
    def one(key, values, mask):
        density = model.clamp(values, mask)
        key_start, key_run = jr.split(key)
        start = samplers.possible_positions(key_start, density, 1)
        chosen = samplers.default_sampler(density) if sampler is None else sampler
        positions, _ = samplers.run_chains(key_run, density, chosen, start, num_steps)
        draw = positions[0] if model.descend is None else model.descend(key, positions[0])
        return draw, density.log_density(positions[0])

    return jax.vmap(one)(jr.split(key, len(values)), values, mask)


@eqx.filter_jit
def _run(key, density, sampler, start, num, num_steps):
    key_start, key = jr.split(key)
    if start is None:
        start = samplers.possible_positions(key_start, density, num)
    first = start
    if samplers.waits_for_step_size(sampler) and num_steps > 1:
        key, key_adapt = jr.split(key)
        sampler, start = samplers.adapt_step_size(key_adapt, density, sampler, start, num_steps // 2)
        num_steps -= num_steps // 2

    def half(positions, key):
        positions, info = samplers.run_chains(key, density, sampler, positions, math.ceil(num_steps / 2))
        return positions, (positions, info)

    positions, (both, infos) = jax.lax.scan(half, start, jr.split(key))
    info = jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)
    return positions, info, jax.vmap(density.log_density)(positions), (first, both[0])


@eqx.filter_jit
def _sample_exactly(key, model, num):
    return model.sample(key, (num,))


@eqx.filter_jit
def _descend(key, model, states):
    return jax.vmap(model.descend)(jr.split(key, len(states)), states)
