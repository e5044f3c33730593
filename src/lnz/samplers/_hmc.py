import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDensity, AbstractSampler
from ..modules import check_positive, is_false
from ..spaces import wrapped
from ._fitting import advice_on_sampler

_PLAIN_STEP_SIZE = 0.1


class HMCState(eqx.Module):
    position: Array
    coordinates: Array  # of the position, unconstrained
    log_density: Float[Array, ""]  # in these coordinates
    gradient: Array


class HMC(AbstractSampler):
    """Hamiltonian Monte Carlo with a unit mass matrix, on every continuous space.

    On Euclidean spaces it moves the position x itself. Positive and bounded numbers move in unconstrained coordinates
    u, `x = space.from_unbounded(u)`, with the density `p~(x(u)) |dx/du|`; angles move as they are and are wrapped.

    The state caches log-density and gradient of the last density: call `refresh` when it changes.

    **Arguments:**

    - `step_size`: of the leapfrog integrator, in the units of u. By default, whatever runs the chains adapts it to a
      mean acceptance probability of 0.8: `lnz.sample` in a warm-up, `run_chains` and `trace_chains` by separate chains
      before their own, `ParallelTempering` and the annealing normalisers (`AIS`, `ReverseAIS`, `BAR`, `adapted_betas`)
      for each temperature by a pilot run, and `SML` from update to update. Only a bare `step` takes 0.1.
    - `num_steps`: leapfrog steps in each transition.
    - `jitter`: each transition draws its step size evenly from `step_size (1 - jitter)` to `step_size (1 + jitter)`, so
      that trajectories do not keep returning to their start. By default 0.5 where the step size is adapted, else 0.

    Source: Neal (2011), section 5.2.3 and figure 2, and section 5.4.2.2 for the jitter; arXiv:1206.1901.
    """

    step_size: float | Float[Array, ""] | None = None
    num_steps: int = eqx.field(static=True, default=10)
    jitter: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_positive(self.num_steps, "HMC(num_steps=...)")
        if self.step_size is not None and is_false(self.step_size > 0):
            raise ValueError(f"`HMC(step_size=...)` must be positive; got {self.step_size}.")
        if self.jitter is not None and not 0 <= self.jitter < 1:
            raise ValueError(f"`HMC(jitter=...)` must be at least 0 and below 1; got {self.jitter}.")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> HMCState:
        space = density.space
        if space.unbounded is None:
            raise TypeError(
                f"`HMC` needs a density on a continuous space: `Euclidean`, `Positive`, `Interval`, `Torus` or a "
                f"`Product` of those; got {space}. {advice_on_sampler(space)}"
            )
        return _state(density, space.to_unbounded(position)[0])

    def refresh(self, density: AbstractDensity, state: HMCState) -> HMCState:
        return _state(density, state.coordinates)

    def step(self, key: PRNGKeyArray, density: AbstractDensity, state: HMCState) -> tuple[HMCState, dict[str, Array]]:
        key_momentum, key_accept = jr.split(key)
        momentum = jr.normal(key_momentum, state.coordinates.shape, state.coordinates.dtype)
        step_size = jnp.asarray(_PLAIN_STEP_SIZE if self.step_size is None else self.step_size, momentum.dtype)
        if self.jitter:
            key_jitter, key_accept = jr.split(key_accept)
            factor = jr.uniform(key_jitter, (), momentum.dtype, 1 - self.jitter, 1 + self.jitter)
            step_size = step_size * factor

        inner = density.space.unbounded
        assert inner is not None  # as `init` found

        def leapfrog(_, carry):
            state, p = carry
            p = p + 0.5 * step_size * state.gradient
            state = _state(density, wrapped(inner, state.coordinates + step_size * p))
            return state, p + 0.5 * step_size * state.gradient

        proposed, p = jax.lax.fori_loop(0, self.num_steps, leapfrog, (state, momentum))
        change = change_of_log_density(state.log_density, proposed.log_density)
        log_ratio = change - 0.5 * (jnp.sum(p**2) - jnp.sum(momentum**2))
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)  # a divergence is a rejection
        accept = jnp.log(jr.uniform(key_accept, dtype=log_ratio.dtype)) < log_ratio
        acceptance = acceptance_within(state.log_density, log_ratio)
        state = jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposed, state)
        return state, {"acceptance": acceptance}


def change_of_log_density(old: Float[Array, ""], new: Float[Array, ""]) -> Float[Array, ""]:
    """`new - old`, and 0 where both are minus infinity: a chain that starts where the density is zero walks freely."""
    return jnp.where((old == -jnp.inf) & (new == -jnp.inf), 0, new - old)


def acceptance_within(old: Float[Array, ""], log_ratio: Float[Array, ""]) -> Float[Array, ""]:
    """`min(1, exp(log_ratio))`, and 0 from where the density is zero: a free walk says nothing about the moves."""
    return jnp.where(old > -jnp.inf, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0)


def _state(density: AbstractDensity, coordinates: Array) -> HMCState:
    def log_density(u):
        x, log_det = density.space.from_unbounded(u)
        return density.log_density(x) + log_det, x

    (value, position), gradient = jax.value_and_grad(log_density, has_aux=True)(coordinates)
    # Where the density is zero its gradient may be NaN. Any function of u alone keeps the step reversible.
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    return HMCState(position, coordinates, value, gradient)
