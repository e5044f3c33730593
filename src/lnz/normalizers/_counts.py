"""Mass at counts far from a grid or from chains, found along lines."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractDensity, AbstractDistribution, AbstractPath
from ..spaces import AbstractSpace, Grid
from ._normal_deviate import normal_deviate

_LARGEST_COUNT = 2**31 - 128
# Steps are two standard deviations of a Poisson count up to a million, and 5% of the count beyond.
_STEP, _LARGEST_STEP = 2.0, 0.05
# Distances along a line through a chain: all up to 16, and then this factor from one to the next, up to a million.
_NUM_NEAR, _FACTOR, _NUM_BEYOND = 16, 1.15, 80
_FEWEST = 20  # chains that judge one count


def endless_counts(space: AbstractSpace) -> Bool[np.ndarray, " size"]:
    """Which entries of a flattened example are whole numbers without an upper end."""
    parts = [
        np.full(part.size, part.measure.is_counting and part.ends is not None and part.ends[1] == math.inf)
        for part in space.parts
    ]
    return np.concatenate(parts)


def has_endless_counts(space: AbstractSpace) -> bool:
    return bool(endless_counts(space).any())


def log_mass_of_far_counts(density: AbstractDensity, grid: Grid, num: int) -> Float[Array, ""]:
    """A lower estimate of the log mass at counts above the last point of `grid`, which has `num` points a dimension.

    Sums over single counts, and over all counts together where there are several, with the other entries at the highest
    point of the grid: `sum_k p~(k) step_k` over counts k up to 2^31, with the neighbour of each. So mass on even counts
    alone is seen, but mass far from all lines is not.
    """
    moves = _lines(density.space)
    ladder, log_steps = _ladder(num)
    is_free = len(moves) > 1 or not moves[0].all()  # otherwise all entries move, and the others do not matter
    index = grid.highest(density.log_density) if is_free else jnp.asarray(0)
    x, log_weight = grid(index)
    last = grid(jnp.asarray(grid.size - 1))[0].reshape(-1)

    def log_mass(moved, step, log_step):
        counts = jnp.max(jnp.where(moved, last, 0)) + jnp.asarray(step).astype(x.dtype)
        at = jnp.where(moved, counts, x.reshape(-1)).reshape(x.shape)
        value = density.log_density(at)
        seen = jnp.where(density.space.contains(at), finite_or_zero(value), -jnp.inf)
        return seen + jnp.sum(moved, dtype=value.dtype) * log_step.astype(value.dtype)

    along = jax.vmap(log_mass, in_axes=(None, 0, 0))
    found = jax.lax.map(lambda moved: logsumexp(along(moved, ladder, log_steps)), jnp.asarray(np.stack(moves)))
    # Lines meet nowhere but close to the grid.
    return jax.lax.stop_gradient(logsumexp(found) + log_weight.astype(found.dtype))


def look_along_counts(
    path: AbstractPath,
    beta: Float[Array, ""],
    positions: Array,
    before: Float[Array, " n"],
    after: Float[Array, " n"],
) -> dict[str, Float[Array, ""]]:
    """`look_along_rays` for whole numbers without an upper end: `beyond` and `off_centre`.

    A line through a chain has every value of one count, which cycles over chains. With the other entries held, the last
    ratio of a chain becomes `sum_k p_1(k) / sum_k p_beta(k)`, and the share of the target's mass at smaller k, plus
    half of that at its own, has the mean one half if chains follow the target. Sums have all counts near the chain and
    near zero, and fewer and fewer further away. Mass that only a move of several counts at once can reach is not seen.
    """
    target, last, space = path.at(1.0), path.at(beta), path.start.space
    num = len(positions)
    places = jnp.asarray(np.flatnonzero(endless_counts(space)), jnp.int32)

    def along_line(inputs):
        x, i = inputs
        part, place = i.astype(before.dtype) / num, places[i % len(places)]
        moved, own = jnp.arange(space.size, dtype=jnp.int32) == place, x[place].astype(jnp.int32)
        steps = _distances(part)
        up = jnp.minimum(own, _LARGEST_COUNT - steps) + steps
        counts = jnp.sort(jnp.concatenate([steps, jnp.maximum(own - steps, 0), up]))
        # Half of the way to both neighbours, so that a count that occurs twice counts once.
        ends = jnp.concatenate([-1 - counts[:1], counts, counts[-1:] + 1])
        log_gaps = jnp.log(0.5 * (ends[2:] - ends[:-2]).astype(before.dtype))

        def at(count):
            y = jnp.where(moved, count.astype(x.dtype), x).reshape(space.shape)
            return finite_or_zero(target.log_density(y)), finite_or_zero(last.log_density(y))

        log_p, log_last = jax.vmap(at)(counts)
        log_mass = log_p + log_gaps
        has_mass = jnp.any(log_mass > -jnp.inf)
        share = jnp.where(has_mass, jax.nn.softmax(log_mass), 0)
        below = jnp.sum(jnp.where(counts < own, share, 0)) + 0.5 * jnp.sum(jnp.where(counts == own, share, 0))
        middles = jnp.cumsum(share) - 0.5 * share
        variance = jnp.sum(share * (middles - 0.5) ** 2)
        ratio = logsumexp(log_mass) - logsumexp(log_last + log_gaps)
        return jnp.where(has_mass, ratio, jnp.nan), jnp.where(has_mass, below, 0.5), variance

    ratios, below, variance = jax.lax.map(along_line, (positions.reshape(num, -1), jnp.arange(num)))
    weights = num * jax.nn.softmax(after)
    averaged = jnp.where(jnp.isfinite(ratios), before + ratios, after)
    terms, variance = weights * (below - 0.5), weights**2 * variance
    # The worst of the counts where there are enough chains for each; else of groups of counts.
    num_groups = max(1, min(len(places), num // _FEWEST))
    groups = [np.flatnonzero(np.arange(num) % len(places) % num_groups == group) for group in range(num_groups)]
    deviates = [normal_deviate(terms[group], jnp.sqrt(jnp.mean(variance[group]))) for group in groups]
    return {"beyond": logsumexp(averaged) - logsumexp(after), "off_centre": jnp.max(jnp.stack(deviates))}


class _Highest(eqx.Module):
    """The draw of a block with the highest count of one kind, and the next one. Ties are broken at random."""

    x: Array
    log_w: Float[Array, ""]
    place: Int[Array, ""]  # of the kind
    next_count: Int[Array, ""]
    next_tie: Float[Array, ""]
    num_draws: Int[Array, ""]  # in the block


def tails_of_counts(
    density: AbstractDensity, proposal: AbstractDistribution, num_blocks: int, num: int, chunk_size: int
) -> tuple[Callable[[PRNGKeyArray, Array, Array], Any], Callable[[Any, Array], dict[str, Float[Array, ""]]]]:
    """`record` and `look` of `tail_rays` for whole numbers without an upper end.

    The draw of a block with the highest count has the weight `sum_k p~(k) / sum_k q(k)`, over all counts k of that kind
    above the next draw, with the other entries held.
    """
    space, places = density.space, np.flatnonzero(endless_counts(density.space))

    def one_block(key, x, log_w):
        key_place, key_ties = jr.split(key)
        place = jr.choice(key_place, jnp.asarray(places, jnp.int32))
        ties = jr.uniform(key_ties, log_w.shape, log_w.dtype)
        counts = x[:, place].astype(jnp.int32)
        after, highest = jnp.lexsort((ties, counts))[-2:]
        return _Highest(x[highest], log_w[highest], place, counts[after], ties[after], jnp.asarray(len(x)))

    def record(key, x, log_w):
        if len(x) < 2:
            return None
        blocks = max(1, min(round(len(x) * num_blocks / num), len(x) // 2))
        size = len(x) // blocks
        flat, log_w = (a[: blocks * size].reshape(blocks, size, -1) for a in (x, log_w))
        return jax.vmap(one_block)(jr.split(jr.fold_in(key, 1), blocks), flat, log_w[..., 0])

    def along_line(inputs):
        far, part = inputs
        steps = _distances(part)
        counts = jnp.minimum(far.next_count, _LARGEST_COUNT - steps) + steps
        ends = jnp.concatenate([counts[:1] - 1, counts, counts[-1:] + 1])
        log_gaps = jnp.log(0.5 * (ends[2:] - ends[:-2]).astype(far.log_w.dtype)).at[0].add(jnp.log1p(-far.next_tie))
        is_moved = jnp.arange(far.x.size, dtype=jnp.int32) == far.place

        def at(count):
            y = jnp.where(is_moved, count.astype(far.x.dtype), far.x).reshape(space.shape)
            return finite_or_zero(density.log_density(y)), finite_or_zero(proposal.log_prob(y))

        log_p, log_q = jax.vmap(at)(counts)
        ratio = logsumexp(log_p + log_gaps) - logsumexp(log_q + log_gaps)
        return jnp.where(ratio < jnp.inf, ratio, far.log_w)  # without mass of q, the weight of the draw

    def look(far, value):
        if far is None:
            return {}
        num_far = len(far.log_w)
        parts = jnp.arange(num_far).astype(far.log_w.dtype) / num_far
        ratios = jax.lax.map(along_line, (far, parts), batch_size=min(num_far, max(1, chunk_size // 4)))
        gain = jnp.mean((jnp.exp(ratios - value) - jnp.exp(far.log_w - value)) / far.num_draws.astype(ratios.dtype))
        # Without a finite estimate there is no shift to report.
        beyond = jnp.where(jnp.isfinite(value), jnp.log1p(jnp.maximum(gain, -0.999)), 0)
        return {"beyond": jax.lax.stop_gradient(beyond)}

    return record, look


def _distances(part: Float[Array, ""]) -> Int[Array, " points"]:
    """0 to 16, and a geometric sequence from there; `part`, between 0 and 1, shifts it within a step."""
    far = jnp.floor(_NUM_NEAR * _FACTOR ** (jnp.arange(1, _NUM_BEYOND + 1).astype(part.dtype) + part))
    return jnp.concatenate([jnp.arange(_NUM_NEAR + 1, dtype=jnp.int32), far.astype(jnp.int32)])


def finite_or_zero(log_p: Array) -> Array:
    """`log_p`, and minus infinity where numbers overflow."""
    return jnp.where(jnp.isfinite(log_p), log_p, -jnp.inf)


def _lines(space: AbstractSpace) -> list[Bool[np.ndarray, " size"]]:
    """Which entries move, for each line."""
    endless = endless_counts(space)
    alone = [np.arange(len(endless)) == place for place in np.flatnonzero(endless)]
    return [*alone, endless] if len(alone) > 1 else alone


def _ladder(num: int) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Distances from the last of `num` counts, and the log number of counts that each point stands for."""
    counts, count = [], num
    while count < _LARGEST_COUNT - 1:
        counts += [count, count + 1]
        count += max(2, int(max(_STEP * math.sqrt(count), _LARGEST_STEP * count * (count > 1e6))))
    counts = np.asarray(counts)
    ends = np.concatenate([[num - 0.5], (counts[1:] + counts[:-1]) / 2, [_LARGEST_COUNT]])
    return (counts - (num - 1)).astype(np.int32), np.log(np.diff(ends))
