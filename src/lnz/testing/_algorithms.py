"""Laws of samplers, normalisers and gradients."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractDensity, AbstractDistribution, AbstractNormalizer, AbstractSampler, Estimate
from ..modules import per_leaf, trainable
from ..normalizers import exact_samples
from ..samplers import run_chains
from ._densities import _check_moments, check_follows
from ._require import eps, require, require_close


def check_sampler(
    key: PRNGKeyArray,
    sampler: AbstractSampler,
    density: AbstractDensity,
    *,
    num_chains: int = 20_000,
    num_steps: int = 3,
    **grid: Any,
) -> None:
    """Checks that the sampler leaves `density` invariant: exact draws in, `num_steps` transitions, exact draws out.

    On finite spaces, the total variation must be within its Monte Carlo error. On continuous spaces, where `density`
    must be a distribution, the first two moments must be within 6 standard errors. False alarms: fewer than one key of
    a million. Chains must also move, and differently from each other.
    """
    key_start, key_run = jr.split(key)
    if density.space.num_points is None:
        require(isinstance(density, AbstractDistribution), "continuous targets must be distributions")
        start = density.sample(key_start, (num_chains,))  # pyright: ignore[reportAttributeAccessIssue]
    else:
        start = jax.jit(lambda key: exact_samples(key, density, num_chains))(key_start)
    end = _advance(key_run, sampler, density, start, num_steps)
    require(np.any(np.asarray(end) != np.asarray(start)), "the sampler moves")
    same_start = jnp.broadcast_to(start[:1], start.shape)  # the same shape, so that nothing is compiled anew
    spread = np.asarray(_advance(key_run, sampler, density, same_start, num_steps)[:64]).reshape(64, -1)
    require(len(np.unique(spread, axis=0)) > 1, "vmapped chains get different noise")
    if density.space.num_points is None:
        _check_moments(end, density, **grid)
    else:
        check_follows(end, density)


@eqx.filter_jit
def _advance(key, sampler, density, positions, num_steps):
    return run_chains(key, density, sampler, positions, num_steps)[0]


def check_normalizer(estimates: Estimate, exact: float, *, coverage: tuple[float, float] | None = (0.90, 0.99)) -> None:
    """Checks that independent estimates (batched along their first axis) agree with the exact log normaliser.

    - Their mean errs only in the stated direction, up to 4 standard errors of the mean; an exact one does not err.
    - `value +- 2 s.e.` covers the truth in a fraction of the estimates inside `coverage`. `None` skips this, for
      estimates whose Pareto k says that the error cannot be trusted.
    """
    value = np.asarray(estimates.value, np.float64)
    error = np.asarray(estimates.standard_error, np.float64)
    if estimates.bound == "exact":
        require_close(value, np.full_like(value, exact), 200 * eps() * (1 + abs(exact)), "an exact normaliser")
        return
    slack = 4 * value.std(ddof=1) / math.sqrt(len(value)) + 100 * eps() * (1 + abs(exact))
    excess = value.mean() - exact
    if estimates.bound == "lower":
        require(excess <= slack, f"a lower bound in expectation: {excess:.3g} above, more than {slack:.3g}.")
    if estimates.bound == "upper":
        require(excess >= -slack, f"an upper bound in expectation: {-excess:.3g} below, more than {slack:.3g}.")
    if coverage is not None:
        covered = float(np.mean(np.abs(value - exact) <= 2 * error))
        require(
            coverage[0] <= covered <= coverage[1],
            f"2-sigma intervals cover the truth in {covered:.2f} of {len(value)} runs, not in {coverage}.",
        )


def repeat_normalizer(
    key: PRNGKeyArray, normalizer: AbstractNormalizer, density: AbstractDensity, num: int = 100
) -> Estimate:
    """`num` independent runs, batched, as `check_normalizer` takes them."""

    @eqx.filter_jit
    def run(key, normalizer, density):
        return jax.lax.map(lambda key: normalizer(key, density), jr.split(key, num), batch_size=10)

    return run(key, normalizer, density)


def check_gradient(
    function: Callable[[Any], Array],
    model: Any,
    gradient: Any,
    *,
    tolerance: float,
    directions: Sequence[int] = range(3),
    filter: Callable[[Any], Any] = trainable,
) -> None:
    """Checks `gradient` against central finite differences of `function` along random directions (float64 advised).

    `gradient` must have an array for each leaf of the model selected by `filter`, by default each trainable leaf. Where
    it has `None`, as for constant parts, the model is not moved.
    """
    has_gradient = jax.tree.map(eqx.is_inexact_array, gradient, is_leaf=lambda node: node is None)
    wanted = jax.tree_util.tree_leaves_with_path(per_leaf(filter(model), model))
    found = jax.tree.leaves(per_leaf(has_gradient, model))
    require(any(is_wanted for _, is_wanted in wanted), "there is something in the model to be trained.")
    without = [
        f"model{jax.tree_util.keystr(path)}"
        for (path, is_wanted), is_found in zip(wanted, found, strict=True)
        if is_wanted and not is_found
    ]
    require(not without, f"each array that is trained has a gradient; none for {', '.join(without)}.")
    params, rest = eqx.partition(model, has_gradient)
    leaves, structure = jax.tree.flatten(params)
    step = 1e-5 if jnp.result_type(float) == jnp.float64 else 1e-2
    for seed in directions:
        keys = jr.split(jr.key(seed), len(leaves))
        direction = jax.tree.unflatten(
            structure, [jr.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        )

        def along(t, direction=direction):
            return function(eqx.combine(jax.tree.map(lambda p, d: p + t * d, params, direction), rest))

        numeric = (float(along(step)) - float(along(-step))) / (2 * step)
        slopes = jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))
        exact = sum(float(jnp.sum(g * u)) for g, u in zip(slopes, jax.tree.leaves(direction), strict=True))
        require(
            abs(numeric - exact) <= tolerance * (1 + abs(exact)),
            f"gradient along direction {seed}: {exact:.6g}, but finite differences give {numeric:.6g}.",
        )
