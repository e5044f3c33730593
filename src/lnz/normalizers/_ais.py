import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractCollapsibleDensity,
    AbstractDensity,
    AbstractNormalizer,
    AbstractPath,
    AbstractSampler,
    Estimate,
    PathChoice,
    ReversedPath,
    as_betas,
    check_betas,
    check_path,
    check_sampler,
    log_mean_exp,
    resolve_path,
)
from ..modules import check_positive, model_dtype, replace, without_gradient
from ..numerics import add_compensated
from ..samplers import adapt_step_size, default_sampler, run_chains, samplers_along, start_chains, waits_for_step_size
from ._rays import look_along_rays
from ._weights import with_derivative

# The error of a sum over the points of a ray, in nats.
_GRID_ERROR = 0.002


class AIS(AbstractNormalizer):
    """Annealed importance sampling: `log Z` as a lower bound in expectation.

    Chains start at draws of `path.start` and follow `path.at(beta)` to the target. The product of the density ratios
    along the way is an importance weight. More temperatures tighten the bound; more chains reduce the error.

    With too few temperatures, the truth can lie many standard errors above the estimate. `weights.normal_ess` detects
    this, and the estimate is not `reliable`. `weights.beyond`, `off_centre` and `cut_mass` detect mass that chains
    miss.

    The derivative in parameters of the density is not taken through the chains. It is the weighted mean of
    `d log p~(x_i)` over their ends, as for log Z.

    **Arguments:**

    - `num_chains`: independent chains, at least 2.
    - `betas`: number of evenly spaced temperatures, or an increasing array from 0 to 1.
    - `path`: a path to the density, or a function from density to path. Default: the density's own.
    - `sampler`: default `Gibbs()` if blocks can be drawn, else `HMC()` (a pilot run fixes its step size per
      temperature), on discrete spaces `Metropolis()`, on mixed ones `InTurn()`.
    - `batch_size`: chains run at a time, a divisor of `num_chains`. Default: all.

    Source: Neal (2001); arXiv:physics/9803008. For Boltzmann machines, Salakhutdinov and Murray (2008).
    """

    num_chains: int = eqx.field(static=True)
    betas: Float[Array, " temperatures"] | int
    path: PathChoice
    sampler: AbstractSampler | None
    batch_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        num_chains: int = 100,
        betas: int | Array = 1000,
        path: PathChoice = None,
        sampler: AbstractSampler | None = None,
        batch_size: int | None = None,
    ):
        self.num_chains = _check_num_chains(num_chains, "AIS")
        self.betas = check_betas(betas, "AIS")
        self.path = check_path(path, "AIS")
        self.sampler = check_sampler(sampler, "AIS")
        self.batch_size = batch_size

    def __check_init__(self):  # also checks values read from a file
        _check_num_chains(self.num_chains, "AIS")
        _check_batch_size(self.batch_size, self.num_chains, "AIS")
        check_betas(self.betas, "AIS")

    @property
    def name(self) -> str:
        return "AIS"

    def cost(self, density: AbstractDensity) -> int:
        return self.num_chains * _num_intervals(self.betas)

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        log_w, info, ends = self.run(key, without_gradient(density))
        return with_derivative(_with_weights(log_w, info), density, ends, log_w, self.batch_size)

    def log_weights(self, key: PRNGKeyArray, density: AbstractDensity) -> Float[Array, " num_chains"]:
        """One log importance weight per chain; `exp` of it has expectation `Z`."""
        return self.run(key, density)[0]

    def run(
        self, key: PRNGKeyArray, density: AbstractDensity, key_pilot: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " num_chains"], dict[str, Float[Array, ""]], Array]:
        """`log_weights`, the diagnostics of the run and the ends of its chains.

        The diagnostics are those of `look_along_rays` and, if the sampler reports it, the mean `acceptance`.
        `key_pilot` seeds the pilot run; by default its key is derived from `key`.
        """
        path = resolve_path(self.path, density)
        key_start, key_chains = jr.split(key)
        positions = path.start.sample(key_start, (self.num_chains,))
        betas = as_betas(self.betas, density)
        sampler_at = moves(key if key_pilot is None else key_pilot, path, betas, self.sampler)
        log_w, info, before, ends = _annealed(key_chains, path, betas, sampler_at, positions, self.batch_size)
        return log_w, {**info, **look_along_rays(path, betas[-2], ends, before, log_w)}, ends


class ReverseAIS(AbstractNormalizer):
    """Annealing from the target to the start: `log Z` as an *upper* bound in expectation.

    The bound holds only when the chains start at exact draws of the target. These come from enumeration if
    the density (or its smaller layer) has at most 2**25 states, or are given as `positions`. Long-run chains are
    not exact draws: with `num_warm_up` the result is an `estimate` that assumes a stationary start.

    **Arguments:**

    - `num_chains`, `betas`, `path`, `sampler`, `batch_size`: as for `AIS`.
    - `positions`: exact draws of the density `[num_chains, ...]`, for instance the latents that simulated one
      example. Use it with `log_normalizer` of one density, which refuses positions outside its space, and repeated
      positions if the density is continuous. As the `hidden` method of many examples it is refused.
    - `num_warm_up`: instead of exact draws, start chains at the path's start and run this many sampler steps.

    **Raises:** `ValueError` if exact draws are not available and `num_warm_up` is not given.

    Source: Burda, Grosse and Salakhutdinov (2015), section 3; arXiv:1412.8566. Grosse, Ghahramani and Adams
    (2015), section 3.1; arXiv:1511.02543.
    """

    num_chains: int = eqx.field(static=True)
    betas: Float[Array, " temperatures"] | int
    path: PathChoice
    sampler: AbstractSampler | None
    positions: Array | None
    num_warm_up: int | None = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        num_chains: int = 100,
        betas: int | Array = 1000,
        path: PathChoice = None,
        sampler: AbstractSampler | None = None,
        positions: Array | None = None,
        num_warm_up: int | None = None,
        batch_size: int | None = None,
    ):
        if positions is not None and num_warm_up is not None:
            raise ValueError("`ReverseAIS(positions=..., num_warm_up=...)`: give one of the two, not both.")
        self.num_chains = _check_num_chains(num_chains if positions is None else positions.shape[0], "ReverseAIS")
        self.betas = check_betas(betas, "ReverseAIS")
        self.path = check_path(path, "ReverseAIS")
        self.sampler = check_sampler(sampler, "ReverseAIS")
        self.positions = positions
        self.num_warm_up = num_warm_up
        self.batch_size = batch_size

    def __check_init__(self):
        _check_num_chains(self.num_chains, "ReverseAIS")
        _check_batch_size(self.batch_size, self.num_chains, "ReverseAIS")
        check_betas(self.betas, "ReverseAIS")

    @property
    def name(self) -> str:
        return "ReverseAIS"

    @property
    def exact_draws(self) -> Array | None:
        return self.positions

    def cost(self, density: AbstractDensity) -> int:
        return self.num_chains * (_num_intervals(self.betas) + (self.num_warm_up or 0))

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        log_w, info, starts = self.run(key, without_gradient(density))
        estimate = with_derivative(-_with_weights(log_w, info), density, starts, jnp.zeros_like(log_w), self.batch_size)
        if self.num_warm_up is None:
            return estimate
        return replace(estimate, bound="estimate", assumes=(*estimate.assumes, "stationary start"))

    def log_weights(self, key: PRNGKeyArray, density: AbstractDensity) -> Float[Array, " num_chains"]:
        """One log importance weight per chain; `exp` of it has expectation `1 / Z`."""
        return self.run(key, density)[0]

    def run(
        self, key: PRNGKeyArray, density: AbstractDensity, key_pilot: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " num_chains"], dict[str, Float[Array, ""]], Array]:
        """`log_weights`, the mean `acceptance` if the sampler reports it, and the starts of the chains."""
        path = ReversedPath(resolve_path(self.path, density))
        key_start, key_chains = jr.split(key)
        positions = self._start(key_start, density, path)
        betas = as_betas(self.betas, density)
        sampler_at = moves(key if key_pilot is None else key_pilot, path.path, betas, self.sampler)
        back = lambda index: sampler_at(len(betas) - 3 - index)  # noqa: E731
        log_w, info, *_ = _annealed(key_chains, path, 1 - betas[::-1], back, positions, self.batch_size)
        return log_w, info, positions

    def _start(self, key: PRNGKeyArray, density: AbstractDensity, path: ReversedPath) -> Array:
        if self.positions is not None:
            if self.positions.shape[1:] != density.space.shape:
                raise ValueError(
                    f"`ReverseAIS(positions=...)` must have shape {(self.num_chains, *density.space.shape)}; got "
                    f"{self.positions.shape}."
                )
            return density.space.cast(self.positions, model_dtype(density))
        if self.num_warm_up is not None:
            key_start, key_run = jr.split(key)
            start = path.start.sample(key_start, (self.num_chains,))
            sampler = default_sampler(density) if self.sampler is None else self.sampler
            num_steps = self.num_warm_up
            if waits_for_step_size(sampler):
                key_adapt, key_run = jr.split(key_run)
                sampler, start = adapt_step_size(key_adapt, density, sampler, start, num_steps // 2)
                num_steps -= num_steps // 2
            return run_chains(key_run, density, sampler, start, num_steps)[0]
        return exact_samples(key, density, self.num_chains)


def _with_weights(log_w: Float[Array, " num_chains"], info: dict[str, Float[Array, ""]]) -> Estimate:
    estimate = log_mean_exp(log_w)
    info = in_errors(info, estimate.standard_error)
    return replace(estimate, weights=replace(estimate.weights, **info, log_weights=log_w))


def in_errors(info: dict[str, Float[Array, ""]], error: Float[Array | np.ndarray, ""]) -> dict[str, Float[Array, ""]]:
    """`info` with `beyond` in standard errors instead of nats."""
    if "beyond" not in info:
        return info
    return {**info, "beyond": info["beyond"] / (error + _GRID_ERROR)}


def exact_samples(key: PRNGKeyArray, density: AbstractDensity, num: int, max_points: int = 2**25) -> Array:
    """`num` independent exact draws `[num, ...]` of an enumerable density.

    **Raises:** `ValueError` if the space of the density, or of its smaller layer, has more than `max_points` points.
    """
    collapsible = isinstance(density, AbstractCollapsibleDensity)
    small = density.collapsed() if collapsible else density
    num_points = small.space.num_points
    if num_points is None or num_points > max_points:
        raise ValueError(
            f"{type(density).__name__} on {small.space} cannot be enumerated, so there are no exact draws to start "
            "reverse AIS from. Give `positions=` (exact draws) or `num_warm_up=` (long-run chains, an assumption)."
        )
    key_grid, key_expand = jr.split(key)
    y = small.space.quadrature().sample(key_grid, small.log_density, num)
    return jax.vmap(density.expand)(jr.split(key_expand, num), y) if collapsible else y


def annealed_log_weights(
    key: PRNGKeyArray,
    path: AbstractPath,
    betas: Float[Array, " temperatures"],
    sampler: AbstractSampler | None,
    positions: Array,
    batch_size: int | None = None,
) -> Float[Array, " num_chains"]:
    """Log weights of chains that start at draws of `path.at(betas[0])` and are annealed along `path`.

    `batch_size` chains run at a time.
    """
    return _annealed(key, path, betas, moves(key, path, betas, sampler), positions, batch_size)[0]


def _annealed(key, path, betas, sampler_at, positions, batch_size):
    def one_batch(inputs):
        log_w, _, info, before, ends = anneal(inputs[0], path, betas, sampler_at, inputs[1], lambda ratios: None)
        return log_w, info, before, ends

    if batch_size is None:
        return one_batch((key, positions))
    batches = positions.reshape(-1, batch_size, *positions.shape[1:])
    log_w, info, before, ends = jax.lax.map(one_batch, (jr.split(key, len(batches)), batches))
    return log_w.reshape(-1), jax.tree.map(jnp.mean, info), before.reshape(-1), ends.reshape(positions.shape)


def moves(
    key: PRNGKeyArray,
    path: AbstractPath,
    betas: Float[Array, " temperatures"],
    sampler: AbstractSampler | None,
) -> Callable[[Int[Array, ""]], AbstractSampler]:
    """The sampler at each inner temperature, as a function of the temperature's index.

    If the sampler leaves its step size open, a pilot run fixes it.
    """
    sampler = default_sampler(path.at(1.0)) if sampler is None else sampler
    # A large index, far from those of `jr.split(key)`: its keys belong to the chains themselves.
    return samplers_along(jr.fold_in(key, 2**31 - 7), path, betas, sampler)


def anneal(
    key: PRNGKeyArray,
    path: AbstractPath,
    betas: Float[Array, " temperatures"],
    sampler_at: Callable[[Int[Array, ""]], AbstractSampler],
    positions: Array,
    record: Callable[[Float[Array, " num_chains"]], Any],
) -> tuple[Float[Array, " num_chains"], Any, dict[str, Float[Array, ""]], Float[Array, " num_chains"], Array]:
    """Anneals chains from `positions` along `path`.

    **Returns:** the log weights; the stacked values of `record`, called with the log ratios of each step; the mean
    `acceptance`; the log weights before the last ratio; and the positions at which the last ratio was taken.
    """
    num_chains = positions.shape[0]
    key_init, key_steps = jr.split(key)
    states = start_chains(key_init, path.at(betas[0]), sampler_at(jnp.asarray(0)), positions)
    log_ratio = jax.vmap(path.log_ratio, in_axes=(None, None, 0))

    def step(carry, inputs):
        states, log_w, lost = carry
        index, beta0, beta1 = inputs
        ratios = log_ratio(beta0, beta1, states.position)
        log_w, lost = add_compensated(log_w, lost, ratios)
        density, sampler = path.at(beta1), sampler_at(index)
        keys = jr.split(jr.fold_in(key_steps, index), num_chains)

        def move(key, state):
            return sampler.step(key, density, sampler.refresh(density, state))

        states, info = jax.vmap(move)(keys, states)
        info = {name: jnp.mean(value) for name, value in info.items() if name == "acceptance"}
        return (states, log_w, lost), (record(ratios), info)

    zeros = jnp.zeros(num_chains, jnp.result_type(log_ratio(betas[0], betas[0], positions)))
    # The last ratio needs no transition after it.
    inputs = (jnp.arange(len(betas) - 2), betas[:-2], betas[1:-1])
    (states, log_w, lost), (records, info) = jax.lax.scan(step, (states, zeros, zeros), inputs)
    ratios = log_ratio(betas[-2], betas[-1], states.position)
    before = log_w
    log_w, lost = add_compensated(log_w, lost, ratios)
    last = jax.tree.map(lambda values, value: jnp.append(values, value[None], axis=0), records, record(ratios))
    info = {name: jnp.mean(values) for name, values in info.items()} if len(betas) > 2 else {}
    return log_w, last, info, before, states.position


def _num_intervals(betas: Float[Array, " temperatures"] | int) -> int:
    return betas if isinstance(betas, int) else len(betas) - 1


def _check_num_chains(num_chains: Any, name: str) -> int:
    if isinstance(num_chains, bool) or not isinstance(num_chains, numbers.Integral) or num_chains < 2:
        raise ValueError(
            f"`{name}(num_chains=...)` must be a whole number, at least 2 for an error bar; got {num_chains!r}. "
            "Try 100."
        )
    return int(num_chains)


def _check_batch_size(batch_size: Any, num_chains: int, name: str) -> None:
    if batch_size is None:
        return
    if check_positive(batch_size, "batch_size") > num_chains or num_chains % batch_size:
        raise ValueError(f"`{name}(batch_size=...)` must divide the number of chains, {num_chains}; got {batch_size}.")
