"""Mass at counts beyond a grid."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from ..core import AbstractDensity
from ..spaces import AbstractSpace, Grid

_LARGEST_COUNT = 2**31 - 128
# Steps are two standard deviations of a Poisson count up to a million, and 5% of the count beyond.
_STEP, _LARGEST_STEP = 2.0, 0.05


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
        seen = jnp.isfinite(value) & density.space.contains(at)
        return jnp.where(seen, value, -jnp.inf) + jnp.sum(moved, dtype=value.dtype) * log_step.astype(value.dtype)

    along = jax.vmap(log_mass, in_axes=(None, 0, 0))
    found = jax.lax.map(lambda moved: logsumexp(along(moved, ladder, log_steps)), jnp.asarray(np.stack(moves)))
    # Lines meet nowhere but close to the grid.
    return jax.lax.stop_gradient(logsumexp(found) + log_weight.astype(found.dtype))


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
