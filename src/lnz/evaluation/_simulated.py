"""Tools that use examples drawn from a latent-variable model: a bracket of its likelihood, and an adapted `HMC`."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import normalizers
from ..core import (
    AbstractDistribution,
    AbstractLatentModel,
    AbstractNormalizer,
    Bracket,
    Estimate,
    Weights,
    condition,
    local,
)
from ..modules import check_key, check_positive, model_dtype, replace
from ..samplers import HMC
from ._normalize import check_normalizer

# The step sizes of the pilot run, in units of the spread of the latents, and the number of its (z, x) pairs.
_STEP_SIZES = tuple(2.0 ** (1 - k / 2) for k in range(24))
_NUM_PILOT = 128
_NUM_LEAPFROG = 5


def simulated_bracket(
    key: PRNGKeyArray,
    model: AbstractLatentModel,
    num: int = 100,
    lower: AbstractNormalizer | None = None,
    upper: normalizers.ReverseAIS | None = None,
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Bracket:
    """Mean `log p(x)` in nats of `num` examples drawn from the model, between a lower and an upper bound.

    Bidirectional Monte Carlo. A pair `z ~ p(z)`, `x ~ p(x | z)` is an example with one exact draw of its posterior.
    Annealing from it to the start of the path gives an **upper** bound on `log p(x)` in expectation, annealing
    towards the posterior a **lower** one, for every encoder and however badly chains mix. The width limits the error of
    annealed or importance-sampled likelihoods on such examples, and on real ones if the model resembles them.

    **Arguments:**

    - `num`: examples, at least 2.
    - `lower`: a normaliser that errs low. Default: `AIS(10, 300)` with `adapted_hmc(key, model)`.
    - `upper`: `ReverseAIS`, started at each example's latents. Default: as `lower`.
    - `batch_size`, `progress`: as for `lnz.evaluate`.

    **Returns:** a `Bracket`. Both standard errors are the spread over examples of the difference of the sides: at least
    each side's Monte Carlo error, without trust in weights. `extras` hold `per_example` `[num]`, the lower also
    `examples`.

    **Raises:** `TypeError` or `ValueError` for other models or sides.

    Source: Grosse, Ghahramani and Adams (2015), section 3.1; arXiv:1511.02543. For decoders, Wu, Burda, Salakhutdinov
    and Grosse (2017); arXiv:1611.04273.
    """
    key_pairs, key_pilot, key_sides = jr.split(check_key(key), 3)
    _check_model(model)
    if check_positive(num, "num") < 2:
        raise ValueError("`num` must be at least 2 for an error bar; got 1.")
    check_positive(batch_size, "batch_size")
    if lower is None or upper is None:
        sampler = adapted_hmc(key_pilot, model)
        lower = normalizers.AIS(10, 300, sampler=sampler) if lower is None else lower
        upper = normalizers.ReverseAIS(10, 300, sampler=sampler) if upper is None else upper
    _check_upper(upper)
    there = local(model)
    model = there.model
    z, x = _simulate(key_pairs, model, num)
    low, high = _in_batches(key_sides, model, z, x, check_normalizer(lower, "lower"), upper, batch_size, progress)
    error = jnp.std(high.value - low.value, ddof=1) / math.sqrt(num)
    weights = Weights(degrees=jnp.asarray(num - 1))
    below, above = {"per_example": low.value, "examples": there.to_data(x)}, {"per_example": high.value}
    return Bracket(
        Estimate(jnp.mean(low.value), error, low.bound, low.assumes, weights, extras=below),
        Estimate(jnp.mean(high.value), error, high.bound, high.assumes, weights, extras=above),
        of=f"mean log p(x) of {num} examples drawn from the model itself",
    )


def adapted_hmc(key: PRNGKeyArray, model: AbstractLatentModel) -> HMC:
    """`HMC` adapted to the posteriors of `model`, for annealing: `AIS(20, 300, sampler=adapted_hmc(key, model))`.

    Out of 24 step sizes, a factor `sqrt(2)` apart, it uses the one that moves farthest from exact draws of the
    posterior in a transition of 5 leapfrog steps. The exact draws come from 128 examples drawn from the model
    (`z ~ p(z)`, `x ~ p(x | z)`). They are used for nothing else, so bounds by annealing stay bounds.

    Bounded latents move in unconstrained coordinates, as always in `HMC`, and the step size refers to these.

    **Raises:** `TypeError` for a model without latents, with a prior that has no exact draws, or with latents on a
    discrete space.

    Source: for annealing by HMC towards posteriors of decoders, Wu, Burda, Salakhutdinov and Grosse (2017);
    arXiv:1611.04273. The choice of the step size is our own.
    """
    check_key(key)
    _check_model(model)
    step_sizes, jumps = map(
        np.asarray, _mean_jumps(key, local(model).model, jnp.asarray(_STEP_SIZES, model_dtype(model)))
    )
    jumps = np.where(np.isfinite(jumps), jumps, 0)  # a step that overflows is not a move
    if np.max(jumps) > 0:
        return HMC(float(step_sizes[np.argmax(jumps)]), _NUM_LEAPFROG)
    warnings.warn(
        f"HMC does not move from draws of the posterior with any step size from {step_sizes[0]:.2g} to "
        f"{step_sizes[-1]:.2g}: bounds by annealing hold, but are as loose as without it. Pass methods with another "
        "`sampler=lnz.samplers.HMC(step_size)`.",
        UserWarning,
        stacklevel=2,
    )
    return HMC(float(step_sizes[-1]), _NUM_LEAPFROG)


def _check_model(model: Any) -> None:
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"`model` must have latent variables, such as a VAE; got {type(model).__name__}.")
    if not isinstance(model.prior, AbstractDistribution):
        raise TypeError(
            f"`model.prior` must be a distribution that can be sampled exactly; got {type(model.prior).__name__}, "
            "which Markov chains sample only approximately."
        )


def _check_upper(upper: Any) -> None:
    if not isinstance(upper, normalizers.ReverseAIS):
        raise TypeError(f"`upper` must be `lnz.normalizers.ReverseAIS(...)`; got {upper!r}.")
    if upper.exact_draws is not None or upper.num_warm_up is not None:
        raise ValueError(
            "`upper=ReverseAIS(...)` starts at the latents of the examples: leave out `positions` and `num_warm_up`."
        )


@eqx.filter_jit
def _simulate(key, model, num: int):
    key_z, key_x = jr.split(key)
    z = model.prior.sample(key_z, (num,))
    return z, jax.vmap(lambda key, z: model.likelihood(z).sample(key))(jr.split(key_x, num), z)


def _in_batches(key, model, z, x, lower, upper, batch_size: int, progress) -> tuple[Estimate, Estimate]:
    """Both sides for every example. All batches have one size, so they share one compiled program."""
    num = len(x)
    batch_size = min(batch_size, num)
    keys, found = jr.split(key, num), []
    for start in range(0, num, batch_size):
        rows = np.arange(start, start + batch_size) % num  # the last batch is padded; the padding is dropped below
        found.append(_both_sides(keys[rows], model, z[rows], x[rows], lower, upper))
        if progress is not None:
            jax.block_until_ready(found[-1])
            progress(min(start + batch_size, num), num)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:num], *found)


@eqx.filter_jit
def _both_sides(keys, model, z, x, lower, upper) -> tuple[Estimate, Estimate]:
    def one(key, z, x):
        key_low, key_high = jr.split(key)
        density = condition(model, x)
        starts = jnp.broadcast_to(z, (upper.num_chains, *z.shape))
        return lower(key_low, density), replace(upper, positions=starts)(key_high, density)

    return jax.vmap(one)(keys, z, x)


@eqx.filter_jit
def _mean_jumps(key, model, grid: Float[Array, " sizes"]) -> tuple[Float[Array, " sizes"], Float[Array, " sizes"]]:
    """The step sizes, and the mean squared distance of one transition with each, in the coordinates of `HMC`.

    Step sizes are `grid` times the smallest standard deviation of the latents. The distance is zero if all proposals
    are rejected. Unlike acceptance, it detects trajectories that return to their start.
    """
    key_pairs, key_steps = jr.split(key)
    z, x = _simulate(key_pairs, model, _NUM_PILOT)

    def start(z, x, step_size):
        density, sampler = condition(model, x), HMC(step_size, _NUM_LEAPFROG)
        return density, sampler, sampler.init(key_steps, density, z)

    coordinates = jax.vmap(lambda z, x: start(z, x, grid[0])[2].coordinates)(z, x)
    step_sizes = grid * jnp.min(jnp.std(coordinates, axis=0))

    def jump(key, z, x, step_size):
        density, sampler, before = start(z, x, step_size)
        after, _ = sampler.step(key, density, before)
        return jnp.sum((after.coordinates - before.coordinates) ** 2)

    pairs = jax.vmap(jump, (0, 0, 0, None))
    keys = jr.split(key_steps, len(x))
    return step_sizes, jax.lax.map(lambda step_size: jnp.mean(pairs(keys, z, x, step_size)), step_sizes)
