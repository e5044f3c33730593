"""Draws from models."""

import math
import warnings
from collections.abc import Callable
from statistics import NormalDist
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
    check_sampler,
    coarse_draws,
    local,
)
from ..data import known_entries
from ..modules import as_numbers, check_key, check_positive, check_same_columns, model_dtype

_LOW_ACCEPTANCE = 0.1
# Probability of a false alarm of each test, over all variables.
_FALSE_ALARMS = 1e-5
# If the width of the starts is below this fraction of the width of the ends, the starts hardly spread.
_NARROW = 0.7
# Largest accepted correlations with the end, for any number of chains: of the start, and of the place halfway.
_OF_START, _OF_HALFWAY = 0.2, 0.5
# A correlation is nearly normal if there are this many rows per unit of the product of both kurtoses.
_ROWS_OF_KURTOSIS = 20


class UnreliableSampleWarning(UserWarning):
    """Draws of `lnz.sample` that cannot be trusted, for one of these reasons:

    - Draws are not finite, or chains ended at probability zero or at a log-density of NaN.
    - Chains hardly moved: their sampler accepted few proposals.
    - Chains still depend on where they started or were halfway, or still move on. To detect this takes about 50 chains,
      or a thousand for bits of rate 0.1.
    - The number type of the model rounds a column, far from zero without `lnz.flows.standardise` or at an end of the
      space.
    """


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

    Distributions and latent-variable models are sampled exactly, ancestrally. For other densities, and latents with
    such a prior, each draw is the end of its own chain: `num_steps` steps of `sampler` from `start`. They are
    only as good as the chain's mixing; `UnreliableSampleWarning` reports doubts.

    If the model's last layer is `lnz.flows.standardise(data)`, draws are a float64 NumPy array, which keeps the digits
    of columns far from zero (`lnz.local`).

    **Arguments:**

    - `num_steps`: steps per chain, rounded up to an even number if no step size is adapted. Exact sampling ignores it.
    - `sampler`: default `Gibbs()` if blocks can be drawn, else `HMC()`, on discrete spaces `Metropolis()` and on mixed
      ones `InTurn()`. If `HMC` leaves its step size open, the first half of the steps adapts it, to a mean acceptance
      of 0.8 over all chains.
    - `start`: initial positions `[num, ...]`. Default: draws of the density's `path().start`, with up to 100 tries
      for a nonzero density.
    - `clamp`: `(values, mask)`, for Boltzmann machines: entries with `mask` true are held at `values`, the others drawn
      given them. Both have the shape of an example or `[num, ...]`.

    **Raises:** `ValueError` if all chains end at probability zero.
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
            "The parameters of the model contain NaN or infinity"
            if not all(np.isfinite(parameter).all() for parameter in parameters)
            else "The parameters of the model are finite, but sampling overflowed the number type. Use float64, data "
            "in other units, or a smaller `step_size` of chains"
        )
        warnings.warn(
            f"sample: {len(bad)} of {len(draws)} draws are not finite, first row {bad[0]}. {advice}.",
            UnreliableSampleWarning,
            stacklevel=3,
        )


def _check_possible(model: Any, log_densities: Array) -> None:
    """Checks that chains have ended where the density of `model` is a number and not zero."""
    log_p = np.asarray(log_densities)
    num, name = len(log_p), type(model).__name__
    zeros, unknown = np.flatnonzero(log_p == -np.inf), np.flatnonzero(np.isnan(log_p))
    advice = "Pass `start=`: for each draw a position where the density is not zero"
    if len(zeros) == num:
        raise ValueError(
            f"`sample`: all {num} draws have probability zero under the {name}: no chain found a place where its "
            f"density is not zero. {advice}."
        )
    if len(zeros):
        warnings.warn(
            f"sample: {len(zeros)} of {num} draws have probability zero under the {name}, first row {zeros[0]}: their "
            f"chains started where the density is zero and have not left. {advice}, or use more `num_steps`.",
            UnreliableSampleWarning,
            stacklevel=5,
        )
    if len(unknown):
        warnings.warn(
            f"sample: the {name} has a log-density of NaN at {len(unknown)} of {num} draws, first row {unknown[0]}. "
            f"{advice} or NaN, and check its `log_density` at these draws.",
            UnreliableSampleWarning,
            stacklevel=5,
        )


def _check_settled(start: Any, halfway: Any, end: Any, *, one_target: bool = True) -> None:
    """Checks that chains have forgotten earlier places, and that they did not drift in the second half of their steps.

    If chains of `one_target` have forgotten a place, it is uncorrelated with the end, over chains. Starts that hardly
    spread cannot show this, so the place halfway replaces them. Small correlations pass: 0.2 with the start is
    4% of the variance, and 0.5 with the place halfway makes a standard deviation 8% too small.

    Two places of a settled chain come in either order equally often, and so do its distances from the middle. A sign
    test checks this for each variable.
    """
    first, before, after = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (start, halfway, end))
    num, middle = len(after), np.median(np.concatenate([before, after]), axis=0)
    (one, width), (half, _), (other, last_width) = map(_bounded, (first, before, after))
    is_narrow = width < _NARROW * last_width
    one = np.where(is_narrow, half, one)
    memory = np.mean(one * other, axis=0)
    is_normal = _ROWS_OF_KURTOSIS * np.mean(one**4, axis=0) * np.mean(other**4, axis=0) < num
    counts = is_normal & (np.abs(memory) > np.where(is_narrow, _OF_HALFWAY, _OF_START))
    if one_target:
        _tell_unsettled(
            np.where(counts, np.arctanh(np.minimum(np.abs(memory), 1 - 1e-9)) * math.sqrt(max(num - 3, 0)), 0),
            lambda worst: (
                f"still depend on where their chains {'were halfway' if is_narrow[worst] else 'started'}, with a "
                f"correlation of {memory[worst]:.2g}"
            ),
        )
    for name, change in (("place", after - before), ("spread", np.abs(after - middle) - np.abs(before - middle))):
        up, down = np.sum(change > 0, axis=0), np.sum(change < 0, axis=0)
        _tell_unsettled(
            np.abs(up - down) / np.sqrt(np.maximum(up + down, 1)),
            lambda worst, name=name, up=up, down=down: (
                f"still move on: in the second half of the steps {name} went up in {up[worst]} of {num} chains and "
                f"down in {down[worst]}"
            ),
        )


def _bounded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean zero and variance one, squashed so that a few far numbers do not dominate; and their widths."""
    centred = x - np.median(x, axis=0)
    width = np.median(np.abs(centred), axis=0)
    width = np.where(width > 0, width, np.std(x, axis=0))
    y = np.tanh(centred / np.where(width > 0, width, 1))
    y, spread = y - np.mean(y, axis=0), np.std(y, axis=0)
    return y / np.where(spread > 0, spread, np.inf), width


def _tell_unsettled(z: np.ndarray, words: Callable[[int], str]) -> None:
    bad = np.flatnonzero(z > -NormalDist().inv_cdf(_FALSE_ALARMS / 2 / max(len(z), 1)))
    if len(bad):
        worst = int(np.argmax(z))
        warnings.warn(
            f"sample: draws of {len(bad)} of {len(z)} variables {words(worst)} (variable {worst}). Use more "
            "`num_steps`, or variables of similar scales.",
            UnreliableSampleWarning,
            stacklevel=6,
        )


def _draw(key, model, num, num_steps, sampler, start, clamp, owner: str = "") -> Array | np.ndarray:
    key = check_key(key)
    num = check_positive(num, "num")
    check_positive(num_steps, "num_steps")
    sampler = check_sampler(sampler, "sample")
    if clamp is not None:
        known, mask = _checked_clamp(model, num, start, clamp)
        if sampler is None:
            sampler = samplers.default_sampler(model.clamp(known[0], mask[0]))
        draws, *run = _run_clamped(key, model, sampler, known, mask, num_steps)
        is_one = not isinstance(known, Tracer) and all(bool((x == x[:1]).all()) for x in (known, mask))
        _warn_of_chains(model, sampler, *run, one_target=is_one)
        return draws
    if isinstance(model, AbstractDistribution):
        if sampler is not None or start is not None:
            argument = "start" if sampler is None else "sampler"
            name = owner or type(model).__name__
            raise ValueError(f"`sample({argument}=...)` has no effect: {name} is sampled exactly. Leave it out.")
        there = local(model)
        return there.to_data(_sample_exactly(key, there.model, num))
    if isinstance(model, AbstractModel) and model.ancestor is not None:
        key_ancestor, key_x = jr.split(key)
        states = _on_device(
            model, _draw(key_ancestor, model.ancestor(), num, num_steps, sampler, start, None, type(model).__name__)
        )
        there = local(model)
        return there.to_data(_descend(key_x, there.model, states))
    if isinstance(model, AbstractBayesianModel):
        raise TypeError(
            f"`sample`: {type(model).__name__} defines no distribution of data before it has seen any. Sample its "
            "posterior, `lnz.condition(model, data)`."
        )
    if not isinstance(model, AbstractDensity):
        raise TypeError(f"`sample(model=...)` needs a model or a density; got {type(model).__name__}.")
    if sampler is None:
        sampler = samplers.default_sampler(model)
    _warn_of_parts(model, sampler)
    if start is not None:
        start = model.space.cast(model.space.check_data(start, "start"), model_dtype(model))
        if len(start) != num:
            raise ValueError(f"`start` must have one row for each of the {num} draws; got {len(start)}.")
    positions, *run = _run(key, model, sampler, start, num, num_steps)
    _warn_of_chains(model, sampler, positions, *run)
    return positions


def _warn_of_parts(model: AbstractDensity, sampler: AbstractSampler) -> None:
    """Warns if chains that move one variable or block at a time cannot connect all possible states."""
    if not isinstance(model, AbstractBlockDensity) or model.not_connected is None:
        return
    reason = model.not_connected() if isinstance(sampler, samplers.Gibbs | samplers.Metropolis) else None
    if reason is not None:
        warnings.warn(
            f"sample: {reason}. So chains of {type(sampler).__name__} may stay in the part in which they started, and "
            "draws may have wrong shares of the parts. Try `sampler=lnz.samplers.ParallelTempering(10)`.",
            UnreliableSampleWarning,
            stacklevel=4,
        )


def _warn_of_chains(model, sampler, positions, log_densities, info, before, *, one_target: bool = True) -> None:
    if isinstance(positions, Tracer):
        return
    _check_possible(model, log_densities)
    _check_settled(before[0], before[1], positions, one_target=one_target)
    is_metropolis = isinstance(sampler, samplers.Metropolis)  # its proposals have no adjustable size
    least = 0.1 * _LOW_ACCEPTANCE if is_metropolis else _LOW_ACCEPTANCE
    acceptance = float(jnp.mean(info.get("acceptance", 1.0)))
    if not acceptance >= least:
        smaller = "a smaller `step_size`, or more `num_steps` where it is adapted"
        advice = "more `num_steps`" if is_metropolis else smaller
        warnings.warn(
            f"sample: {type(sampler).__name__} accepted only {acceptance:.1%} of its proposals, so the "
            f"draws are still near where the chains started. Use {advice}.",
            UnreliableSampleWarning,
            stacklevel=4,
        )


def _on_device(model: Any, draws: Array | np.ndarray) -> Array:
    """Draws of a part of `model`, which may be in float64, in the precision of `model`."""
    return jnp.asarray(draws, model_dtype(model)) if isinstance(draws, np.ndarray) else draws


def _checked_clamp(model, num, start, clamp) -> tuple[Array, Array]:
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
    return model.space.cast(known, model_dtype(model)), jnp.asarray(mask)


@eqx.filter_jit
def _run_clamped(key, model, sampler, values, mask, num_steps):
    def one(key, values, mask):
        positions, log_densities, info, before = _run(key, model.clamp(values, mask), sampler, None, 1, num_steps)
        draw = positions[0] if model.descend is None else model.descend(key, positions[0])
        return draw, positions[0], log_densities[0], info, jax.tree.map(lambda x: x[0], before)

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
        keys, num_steps = key[None], num_steps - num_steps // 2
    else:
        keys, num_steps = jr.split(key), math.ceil(num_steps / 2)

    def half(positions, key):
        positions, info = samplers.run_chains(key, density, sampler, positions, num_steps)
        return positions, (positions, info)

    positions, (places, infos) = jax.lax.scan(half, start, keys)
    info = jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)
    halfway = start if len(keys) == 1 else places[0]
    return positions, jax.vmap(density.log_density)(positions), info, (first, halfway)


@eqx.filter_jit
def _sample_exactly(key, model, num):
    return model.sample(key, (num,))


@eqx.filter_jit
def _descend(key, model, states):
    return jax.vmap(model.descend)(jr.split(key, len(states)), states)
