"""Diagnostics for mass beyond chains and draws: densities along rays from their common middle."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..bijections import ToSupport, unbounded
from ..core import AbstractDensity, AbstractDistribution, AbstractPath
from ..distributions import Transformed
from ..spaces import AbstractSpace, nearest_inside, same_set
from ._counts import finite_or_zero, has_endless_counts, look_along_counts, tails_of_counts
from ._normal_deviate import normal_deviate

# Number of points on either side of a chain, and the log distance of the last one.
_NUM_POINTS, _REACH = 32, 12.0
# Rays through draws of a proposal: one per 50 draws, but no more than 20 below 5000 draws, then one per 250 draws; and
# the number of separate draws that locate the middle.
_MOST_RAYS, _DRAWS_A_RAY, _MOST_DRAWS_A_RAY, _NUM_APART = 20, 50, 250, 3**4
_OUTWARDS = 7, 3.0  # number of points of such a ray, less one, and the log distance of the last one
_MOST_STRETCH = 1.5  # largest factor on the steps of a ray
# A number this many roundings from an end of the space can hardly be told from its neighbours.
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
    """Diagnoses from densities along rays if chains at `positions` have covered the target; `{}` on circles.

    Counts: `look_along_counts`.

    In unconstrained coordinates u, each chain lies at `c = 1` on two rays from the median m of all chains:
    `m + c (u - m)`, and the same in a single coordinate, which cycles over chains. Densities at the last two
    temperatures, for c from 6e-6 to 160,000, give three diagnostics, the worse of both rays:

    - `beyond`: the shift of the estimate, in nats, when the average over the ray, `int p_1 / int p_beta`, replaces each
      chain's last ratio. Both have the same expectation. If the target has heavier tails than any earlier temperature,
      or is far wider, rays see mass that the ratios miss.
    - `off_centre`: the share of a ray's mass nearer than its chain is uniform if chains follow the target. This is the
      distance of its weighted mean from one half, in standard errors, as a normal deviate.
    - `cut_mass`: the share of the mass within 32 roundings of an end of the space.

    Source: for uniform shares under the right distribution, Rosenblatt (1952); for Student's t as a normal deviate,
    Wallace (1959).
    """
    target, last, space = path.at(1.0), path.at(beta), path.start.space
    if not has_no_ends(space):
        return look_along_counts(path, beta, positions, before, after) if has_endless_counts(space) else {}
    to = ToSupport(space)
    u = jax.vmap(lambda x: to.inverse_and_log_det(x)[0].reshape(-1))(positions)
    num_chains, size = u.shape
    middle = jnp.median(u, axis=0)
    eps = float(jnp.finfo(u.dtype).eps)

    def at(u):
        x, log_det = to.forward_and_log_det(u.reshape(unbounded(space).shape))
        # Points at which numbers overflow do not count.
        log_p, log_last = (finite_or_zero(density.log_density(x) + log_det) for density in (target, last))
        width = _NEAR_END * eps * jnp.abs(x)
        is_near_end = ~jnp.all(space.elements_within(x - width) & space.elements_within(x + width))
        return log_p, log_last, is_near_end

    def along_ray(fixed, offset, num_moved):
        factor, rate = _grid(num_moved)
        j = np.arange(-_NUM_POINTS, _NUM_POINTS + 1)
        log_factors = jnp.asarray(factor * np.sinh(rate * j), u.dtype)
        log_steps = jnp.asarray(np.log(factor * rate * np.cosh(rate * j)), u.dtype)
        log_p, log_last, is_near_end = jax.vmap(lambda c: at(fixed + c * offset))(jnp.exp(log_factors))
        log_volume = num_moved * log_factors + log_steps
        log_mass = log_p + log_volume
        ratio = logsumexp(log_mass) - logsumexp(log_last + log_volume)
        has_mass = jnp.any(log_mass > -jnp.inf)
        share = jnp.where(has_mass, jax.nn.softmax(log_mass), 0)
        nearer = jnp.sum(share[:_NUM_POINTS]) + 0.5 * share[_NUM_POINTS]
        has_ray = jnp.any(offset != 0) & has_mass
        # A chain in the middle, or behind walls, has no ray and does not count.
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
        found.append((beyond, normal_deviate(weights * (nearer - 0.5)), jnp.mean(weights * near_end)))
    beyond, off_centre, cut_mass = (jnp.stack(values) for values in zip(*found, strict=True))
    return {
        "beyond": beyond[jnp.argmax(jnp.abs(beyond))],
        "off_centre": jnp.max(off_centre),
        "cut_mass": jnp.max(cut_mass),
    }


class _Far(eqx.Module):
    """The farthest draw of a block, by radius and by largest coordinate, and the radius of the next one."""

    radius: Float[Array, "*blocks kinds"]
    next_radius: Float[Array, "*blocks kinds"]
    u: Float[Array, "*blocks kinds size"]
    log_w: Float[Array, "*blocks kinds"]
    num_draws: int = eqx.field(static=True)  # in each block


def tail_rays(
    key: PRNGKeyArray, density: AbstractDensity, proposal: AbstractDistribution, num: int, chunk_size: int
) -> tuple[Callable[[PRNGKeyArray, Array, Array], _Far | None], Callable[[Any, Array], dict[str, Float[Array, ""]]]]:
    """The functions `record` and `look`, which test whether `num` draws of `proposal` cover the tails of `density`.

    `record(key, x, log_w)` keeps the draws farthest from the middle, out of the chunk that `key` made.
    `look(record, value)` takes the records of all chunks and the estimate, and returns `beyond`: the shift of the
    estimate, in nats, when averages over rays replace the weights of far draws. Each block of 50 draws (250 from 5000
    draws on) has one ray. It leads through the block's farthest draw u_i and starts at the radius r* of the next draw:

        w_i -> int_{|u| > r*} p~ / int_{|u| > r*} q    along u_i

    Coordinates u are unconstrained. For a flow they are those of the base, so no inverse is needed. Their unit is the
    spread of 81 separate draws. Every second ray moves only the largest coordinate of u_i. Both kinds of ray keep the
    expectation, but rays also reach places that are hardly ever drawn, for instance if the proposal has lighter tails.
    The kind that moves the estimate more counts. On circles and for fewer than 100 draws there is no diagnostic.
    """
    num_rays = num // _DRAWS_A_RAY if num < _MOST_RAYS * _DRAWS_A_RAY else max(_MOST_RAYS, num // _MOST_DRAWS_A_RAY)
    if num_rays > 1 and has_endless_counts(density.space):
        return tails_of_counts(density, proposal, num_rays, num, chunk_size)
    flow = proposal if isinstance(proposal, Transformed) else None
    if flow is not None and not same_set(flow.base.space, flow.bijection.domain):
        flow = None  # the rays would miss mass of the density at points where the base has none
    base = proposal if flow is None else flow.base
    spaces = base.space, density.space
    if num_rays < 2 or base.space.dimension == 0 or not all(map(has_no_ends, spaces)):
        return (lambda key, x, log_w: None), (lambda far, value: {})
    to = ToSupport(base.space)

    def unbounded_of(z):
        return jax.vmap(lambda z: to.inverse_and_log_det(z)[0].reshape(-1))(z)

    u = unbounded_of(base.sample(key, (_NUM_APART,)))
    size = u.shape[1]
    middle = _remedian(u)
    spread = _remedian(jnp.abs(u - middle[None]))
    spread = jnp.where((spread > 0) & jnp.isfinite(spread), spread, 1)

    def radii(u):
        y = jnp.abs(u - middle) / spread
        return jnp.stack([jnp.sqrt(jnp.sum(y**2)), jnp.max(y)][: min(size, 2)])

    def record(key, x, log_w):
        u = unbounded_of(x if flow is None else flow.sample_base(key, (len(x),)))
        num_blocks = max(1, min(round(len(x) * num_rays / num), len(x) // 2))
        blocks = lambda a: a[: len(a) // num_blocks * num_blocks].reshape(num_blocks, -1, *a.shape[1:])  # noqa: E731

        def one_block(u, log_w):
            radius = jax.vmap(radii)(u)
            which = jnp.argmax(radius, axis=0)
            others = jnp.where(jnp.arange(len(u))[:, None] == which[None], -jnp.inf, radius)
            return _Far(jnp.max(radius, axis=0), jnp.max(others, axis=0), u[which], log_w[which], len(u))

        return jax.vmap(one_block)(blocks(u), blocks(log_w))

    def joined(far):
        """Merges the small blocks that small chunks leave into larger ones."""
        group = max(1, min(round(len(far.radius) / num_rays), len(far.radius) // 2))
        far = jax.tree.map(lambda a: a[: len(a) // group * group].reshape(-1, group, *a.shape[1:]), far)
        which = jnp.argmax(far.radius, axis=1)[:, None]
        is_other = jnp.arange(group)[None, :, None] != which
        others = jnp.max(jnp.where(is_other, far.radius, far.next_radius), axis=1)
        pick = lambda a: jnp.take_along_axis(a, which.reshape(*which.shape, *(1,) * (a.ndim - 3)), axis=1)[:, 0]  # noqa: E731
        return _Far(pick(far.radius), others, pick(far.u), pick(far.log_w), group * far.num_draws)

    def at(u):
        z, log_det = to.forward_and_log_det(u.reshape(unbounded(base.space).shape))
        log_q, x = base.log_prob(z) + log_det, z
        if flow is not None:
            x, log_det_of_flow = flow.bijection.forward_and_log_det(z)
            x, log_det = nearest_inside(density.space, x), log_det + log_det_of_flow
        return finite_or_zero(density.log_density(x) + log_det), finite_or_zero(log_q)

    def along_ray(ray):
        fixed, offset, num_moved, factor, rate = ray
        t = rate * jnp.arange(_OUTWARDS[0] + 1, dtype=offset.dtype)
        log_factors = factor * jnp.sinh(t)
        log_p, log_q = jax.vmap(lambda c: at(fixed + c * offset))(jnp.exp(log_factors))
        log_volume = num_moved * log_factors + jnp.log(factor * rate * jnp.cosh(t)).at[0].add(-math.log(2))
        return logsumexp(log_p + log_volume) - logsumexp(log_q + log_volume)

    def whole(far):
        return middle, (far.next_radius / far.radius) * (far.u - middle)

    def one_coordinate(far):
        y = jnp.abs(far.u - middle) / spread
        which = jnp.arange(size) == jnp.argmax(y)
        inner = jnp.maximum(far.next_radius, jnp.max(jnp.where(which, 0, y)))
        one = jnp.where(which, far.u - middle, 0)
        return far.u - one, (inner / far.radius) * one

    kinds = [(whole, size), (one_coordinate, 1)][: min(size, 2)]

    def rays_of(far):
        for kind, (start_and_offset, num_moved) in enumerate(kinds):
            mine = jax.tree.map(lambda a: a[kind :: len(kinds), kind], far)  # noqa: B023 (called at once)
            fixed, offset = jax.vmap(start_and_offset)(mine)
            factor, rate = _grid(num_moved, *_OUTWARDS)
            # The few points of one ray could miss a narrow shell far out; rays with other steps do not.
            rates = rate * jnp.linspace(1, _MOST_STRETCH, len(fixed), dtype=offset.dtype)
            alike = (jnp.full_like(rates, number) for number in (num_moved, factor))
            yield mine.log_w, (fixed, offset, *alike, rates)

    def look(far, value):
        far = joined(far)
        log_w, rays = zip(*rays_of(far), strict=True)
        ratios = _mapped(along_ray, jax.tree.map(lambda *a: jnp.concatenate(a), *rays), chunk_size // _OUTWARDS[0])
        moved, start = [], 0
        for log_w_of_kind in log_w:
            ratios_of_kind = ratios[start : start + len(log_w_of_kind)]
            start += len(log_w_of_kind)
            # A ray with no mass of q at its points keeps the weight of its draw.
            ratios_of_kind = jnp.where(ratios_of_kind < jnp.inf, ratios_of_kind, log_w_of_kind)
            gain = jnp.mean(jnp.exp(ratios_of_kind - value) - jnp.exp(log_w_of_kind - value)) / far.num_draws
            moved.append(jnp.log1p(jnp.maximum(gain, -0.999)))
        moved = jnp.stack(moved)
        beyond = moved[jnp.argmax(jnp.abs(moved))]
        # Without a finite estimate there is no shift to report.
        return {"beyond": jax.lax.stop_gradient(jnp.where(jnp.isfinite(value), beyond, 0))}

    return record, look


def _remedian(x: Float[Array, "draws size"]) -> Float[Array, " size"]:
    """The remedian of `3^k` draws: nested medians of three. It is close to the median and takes a tenth of the time.

    Source: Rousseeuw and Bassett (1990).
    """
    while len(x) > 1:
        a, b, c = x.reshape(3, -1, x.shape[1])
        x = jnp.maximum(jnp.minimum(a, b), jnp.minimum(jnp.maximum(a, b), c))
    return x[0]


def _mapped(function, xs, most: int):
    """`jax.lax.map` in even batches of at most `most`, so that no second program is compiled for a remainder."""
    num = len(jax.tree.leaves(xs)[0])
    num_batches = -(-num // max(1, most))
    size = -(-num // num_batches)
    padded = jax.tree.map(lambda a: a[np.minimum(np.arange(num_batches * size), num - 1)], xs)
    return jax.lax.map(function, padded, batch_size=size)[:num]


def _grid(num_dimensions: int, num_points: int = _NUM_POINTS, reach: float = _REACH) -> tuple[float, float]:
    """The numbers a and b of a grid `log c_j = a sinh(b j)` whose last point, `j = num_points`, is at `reach`.

    The distances of normal draws in n dimensions spread by 1 / sqrt(2 n) in log c. The step at `c = 1` is at most half
    of this.
    """
    step = min(0.05, 0.5 / math.sqrt(2 * num_dimensions))
    low, rate, high = 1e-3, 0.5, 1.0
    for _ in range(60):
        rate = 0.5 * (low + high)
        low, high = (rate, high) if step / rate * math.sinh(rate * num_points) < reach else (low, rate)
    return step / rate, rate
