"""What lies beyond the chains of annealing: their densities along lines from the middle of all chains."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..bijections import ToSupport, unbounded
from ..core import AbstractPath
from ..spaces import AbstractSpace

# Points on either side of a chain, and how far out the last one is, as a logarithm.
_NUM_POINTS, _REACH = 32, 12.0
# In units of the rounding of a number: how near an end is one that can hardly be told from those beside it.
_NEAR_END = 32


def has_no_ends(space: AbstractSpace) -> bool:
    """Whether all of `space` is the image of `R^n`: no circles, nothing discrete."""
    return space.unbounded is not None and space.unbounded.is_euclidean


def look_along_rays(
    path: AbstractPath,
    beta: Float[Array, ""],
    positions: Array,
    before: Float[Array, " n"],
    after: Float[Array, " n"],
) -> dict[str, Float[Array, ""]]:
    """Whether chains at `positions` have seen the whole target, from densities along rays; nothing on circles.

    In coordinates u without bounds each chain lies on two rays from the median m of all: `m + c (u - m)`, and the same
    in one coordinate alone, another one for the next chain; the chain itself is at `c = 1`. On a grid of c from 6e-6 to
    160,000, fine near 1, the densities at the last two temperatures give three diagnostics, the worse of both rays:

    - `beyond`: by how much the estimate moves when the last ratio of each chain is replaced by its average over the
      ray, `int p_1 / int p_beta`, in nats. Both have the same expectation. Where the target has heavier tails than any
      temperature before, or is far wider, the ratios of chains miss what the rays see.
    - `off_centre`: the share of the ray's mass nearer than the chain is uniform where chains follow the target. How
      far its weighted mean is from one half, in standard errors, as a normal deviate.
    - `cut_mass`: the share of the mass within 32 roundings of an end, which numbers can hardly be told from.

    Source: for uniform shares under the right distribution, Rosenblatt (1952); for Student's t as a normal deviate,
    Wallace (1959).
    """
    target, last, space = path.at(1.0), path.at(beta), path.start.space
    if not has_no_ends(space):
        return {}
    to = ToSupport(space)
    u = jax.vmap(lambda x: to.inverse_and_log_det(x)[0].reshape(-1))(positions)
    num_chains, size = u.shape
    middle = jnp.median(u, axis=0)
    eps = float(jnp.finfo(u.dtype).eps)

    def at(u):
        x, log_det = to.forward_and_log_det(u.reshape(unbounded(space).shape))
        # Where numbers overflow there is nothing to be seen.
        log_p, log_last = (_finite(density.log_density(x) + log_det) for density in (target, last))
        width = _NEAR_END * eps * jnp.abs(x)
        is_near_end = ~jnp.all(space.elements_within(x - width) & space.elements_within(x + width))
        return log_p, log_last, is_near_end

    def along_ray(fixed, offset, num_moved):
        log_factors, log_steps = (jnp.asarray(a, u.dtype) for a in _grid(num_moved))
        log_p, log_last, is_near_end = jax.vmap(lambda c: at(fixed + c * offset))(jnp.exp(log_factors))
        log_volume = num_moved * log_factors + log_steps
        log_mass = log_p + log_volume
        ratio = logsumexp(log_mass) - logsumexp(log_last + log_volume)
        share = jax.nn.softmax(log_mass)
        nearer = jnp.sum(share[:_NUM_POINTS]) + 0.5 * share[_NUM_POINTS]
        has_ray = jnp.any(offset != 0) & jnp.any(log_mass > -jnp.inf)
        # A chain in the middle has no ray and says nothing.
        return (
            jnp.where(has_ray, ratio, jnp.nan),
            jnp.where(has_ray, nearer, 0.5),
            jnp.sum(jnp.where(is_near_end, share, 0)),
        )

    def look(inputs):
        u, axis = inputs
        offset = u - middle
        one = jnp.where(jnp.arange(size) == axis, offset, 0)
        rays = [(middle, offset, size), (u - one, one, 1)][: 1 if size == 1 else 2]
        return [along_ray(*ray) for ray in rays]

    weights = num_chains * jax.nn.softmax(after)
    found = []
    for ratios, nearer, near_end in jax.lax.map(look, (u, jnp.arange(num_chains) % size)):
        averaged = jnp.where(jnp.isnan(ratios), after, before + ratios)
        beyond = logsumexp(averaged) - logsumexp(after)
        found.append((beyond, _normal_deviate(weights * (nearer - 0.5)), jnp.mean(weights * near_end)))
    beyond, off_centre, cut_mass = (jnp.stack(values) for values in zip(*found, strict=True))
    return {
        "beyond": beyond[jnp.argmax(jnp.abs(beyond))],
        "off_centre": jnp.max(off_centre),
        "cut_mass": jnp.max(cut_mass),
    }


def _finite(log_p: Array) -> Array:
    return jnp.where(jnp.isfinite(log_p), log_p, -jnp.inf)


def _normal_deviate(terms: Float[Array, " n"]) -> Float[Array, ""]:
    """Student's t of the mean of independent terms of mean zero, as a normal number that is as improbable."""
    degrees = len(terms) - 1
    spread = jnp.std(terms, ddof=1)
    t = jnp.abs(jnp.mean(terms)) * math.sqrt(len(terms)) / jnp.where(spread > 0, spread, 1)
    return (8 * degrees + 1) / (8 * degrees + 3) * jnp.sqrt(degrees * jnp.log1p(t**2 / degrees))


def _grid(num_dimensions: int) -> tuple[Any, Any]:
    """`log c_j = a sinh(b j)` for j from -32 to 32, and the logarithms of its steps.

    The distances of draws from a normal in n dimensions have a spread of 1 / sqrt(2 n) in log c; the step at 1 is at
    most half of it. The last point is at 12.
    """
    step = min(0.05, 0.5 / math.sqrt(2 * num_dimensions))
    low, rate, high = 1e-3, 0.5, 1.0
    for _ in range(60):
        rate = 0.5 * (low + high)
        low, high = (rate, high) if step / rate * math.sinh(rate * _NUM_POINTS) < _REACH else (low, rate)
    j = np.arange(-_NUM_POINTS, _NUM_POINTS + 1)
    return step / rate * np.sinh(rate * j), np.log(step * np.cosh(rate * j))
